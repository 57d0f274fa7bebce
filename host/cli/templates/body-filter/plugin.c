/* A filter that reads bodies, too: which messages does a consumer get? */
#include "quern.h"

/* Once for each consumer, before the first message. */
static void *compile(quern_text expression, const quern_params *p, quern_refusal *refusal) {
    (void)expression;
    if (quern_is(quern_param(p, "text"), "")) {
        *refusal = (quern_refusal){"every body contains nothing", .param = "text"};
    }
    return NULL;
}

static bool matches(const quern_message *m, const quern_params *p) {
    return quern_is(quern_read(m, "@tag"), "urgent") || quern_contains(m->body, quern_param(p, "text"));
}

const struct quern_body_filter quern_body_filter = {
    .summary = "Bodies that contain a text, and all that is urgent",
    .reads = {"@tag"},
    .params = {{"text", .help = "what a body has to contain"}},
    .compile = compile,
    .matches = matches,
};
