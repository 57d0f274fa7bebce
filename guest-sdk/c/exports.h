/* The functions of the contract, as the canonical ABI flattens them, around what an author wrote. The build's entry
 * includes this once, having defined QUERN_NAME, QUERN_VERSION, QUERN_DESCRIPTION and one of QUERN_KIND_FILTER,
 * QUERN_KIND_BODY_FILTER, QUERN_KIND_SELECTOR and QUERN_KIND_ALLOCATION. Structures here are laid out as the ABI lays
 * out the contract's records; all of it has one size of pointer, 32 bits. */
#ifndef __wasm32__
#error "this is for WebAssembly; tests on your own machine link testing.c instead"
#endif

#include "contract.h"
#include "freestanding/freestanding.h"
#include "glue.h"

#include <stdlib.h>
#include <string.h>

#if defined QUERN_KIND_FILTER
#define INTERFACE "quern:plugin/filter@0.1.0"
#define AUTHORS quern_filter
#elif defined QUERN_KIND_BODY_FILTER
#define INTERFACE "quern:plugin/body-filter@0.1.0"
#define AUTHORS quern_body_filter
#elif defined QUERN_KIND_SELECTOR
#define INTERFACE "quern:plugin/queue-selector@0.1.0"
#define AUTHORS quern_selector
#else
#define INTERFACE "quern:plugin/allocation-strategy@0.1.0"
#define AUTHORS quern_allocation
#endif

#define EXPORT(name) __attribute__((export_name(name)))
#define RESOURCE(name) __attribute__((import_module("[export]" INTERFACE), import_name(name)))

/* The one place that names it, so that a linker that misses it says so once. */
const struct quern_about *quern_the_plugin = (const struct quern_about *)&AUTHORS;
#define THE_PLUGIN (*(const struct AUTHORS *)quern_the_plugin)
const char *quern_name = QUERN_NAME;

typedef struct list {
    const void *at;
    size_t len;
} list;

typedef struct optional {
    uint32_t is_there;
    list it;
} optional;

static optional optional_text(const char *text) {
    optional it = {text != NULL, {text, text ? strlen(text) : 0}};
    return it;
}

static list list_of(const char *text) {
    list it = {text, strlen(text)};
    return it;
}

/* ------------------------------------------------------------------ about */

typedef struct described_param {
    list name;
    uint32_t type;
    optional by_default;
    list choices;
    list help;
} described_param;

typedef struct description {
    list name, version, summary;
    optional language;
    list params;
} description;

static uint32_t type_of(enum quern_type type) {
    /* Duration, which stands before choice in the contract, is no kind of these. */
    return type == QUERN_CHOICE ? 5 : type;
}

static list described_params(void) {
    quern_params_describable();
    size_t len = quern_params_len();
    described_param *all = quern_scratch(len * sizeof *all + 1, 8);
    for (size_t index = 0; index < len; index++) {
        const struct quern_param *param = &quern_the_plugin->params[index];
        size_t count = quern_choices_len(param);
        list *choices = quern_scratch(sizeof(list) * count + 1, 8);
        for (size_t n = 0; n < count; n++) choices[n] = list_of(param->choices[n]);
        all[index] = (described_param){
            .name = list_of(param->name),
            .type = type_of(param->type),
            .by_default = optional_text(param->by_default),
            .choices = {choices, count},
            .help = list_of(param->help ? param->help : ""),
        };
    }
    list it = {all, len};
    return it;
}

static void be_whole(void) {
    quern_reads_describable();
#if defined QUERN_KIND_FILTER
    if (!THE_PLUGIN.matches && !THE_PLUGIN.judge) quern_panic("quern_filter has no .matches and no .judge");
#elif defined QUERN_KIND_BODY_FILTER
    if (!THE_PLUGIN.matches) quern_panic("quern_body_filter has no .matches");
#elif defined QUERN_KIND_SELECTOR
    if (!THE_PLUGIN.select) quern_panic("quern_selector has no .select");
#else
    if (!THE_PLUGIN.allocate) quern_panic("quern_allocation has no .allocate");
#endif
}

EXPORT("quern:plugin/about@0.1.0#describe") const description *quern_export_describe(void) {
    static description it;
    quern_begin(true);
    be_whole();
    it = (description){
        .name = list_of(QUERN_NAME),
        .version = list_of(QUERN_VERSION),
        .summary = list_of(quern_the_plugin->summary ? quern_the_plugin->summary : QUERN_DESCRIPTION),
        .language = optional_text(quern_the_plugin->language),
        .params = described_params(),
    };
    quern_end();
    return &it;
}

/* --------------------------------------------------------------- refusals */

/* result<own<resource>, refusal>, and without a resource result<_, refusal>. */
typedef struct opened {
    uint32_t is_refused;
    union {
        int32_t handle;
        struct {
            uint32_t code;
            optional param;
            uint32_t at, len;
            list reason;
            optional help;
        } why;
    };
} opened;

static size_t length_of(const quern_refusal *why, quern_text expression, const quern_pair *given, size_t len) {
    if (why->len > 0) return why->len;
    size_t all = why->param ? 0 : expression.len;
    for (size_t index = 0; why->param && index < len; index++) {
        if (quern_equal(given[index].name, quern_text_of(why->param))) all = given[index].value.len;
    }
    return all > why->at ? all - why->at : 0;
}

static const opened *refused(const quern_refusal *why, quern_text expression, const quern_pair *given, size_t len) {
    static opened it;
    enum quern_refusal_code by_place = why->param ? QUERN_BAD_PARAM : QUERN_SYNTAX;
    it.is_refused = 1;
    it.why.code = (why->code == QUERN_BY_PLACE ? by_place : why->code) - 1;
    it.why.param = optional_text(why->param);
    it.why.at = why->at;
    it.why.len = length_of(why, expression, given, len);
    it.why.reason = list_of(why->reason);
    it.why.help = optional_text(why->help);
    quern_end();
    return &it;
}

static void free_params(quern_params *params) {
    for (size_t place = 0; place < QUERN_PARAMS; place++) free((void *)params->values[place].text.at);
}

#ifndef QUERN_KIND_ALLOCATION

/* What `compile` or `open` has returned goes the way the plugin says. */
static void release(void *compiled) {
    if (!compiled) return;
    if (THE_PLUGIN.release) {
        THE_PLUGIN.release(compiled);
    } else {
        free(compiled);
    }
}

static void outlive(const char **text) {
    if (*text) *text = quern_format("%s", *text);
}

/* What was returned beside a refusal, whose texts may lie in it. */
static void release_refused(void *compiled, quern_refusal *why) {
    if (!compiled) return;
    outlive(&why->reason);
    outlive(&why->param);
    outlive(&why->help);
    release(compiled);
}

#endif

/* ---------------------------------------------------------------- batches */

/* result<list<u32>, string> */
typedef struct answer {
    uint32_t is_failed;
    list it;
} answer;

static const answer *answered(const uint32_t *words, size_t len) {
    static answer out;
    out.is_failed = quern_failure != NULL;
    out.it = quern_failure ? list_of(quern_failure) : (list){words, len};
    quern_end();
    return &out;
}

#ifndef QUERN_KIND_ALLOCATION

typedef struct variant {
    uint32_t kind;
    list name;
} variant;

typedef struct needs {
    list fields, numbers;
    optional tag_codes;
} needs;

static quern_batch batch_of(size_t len, const uint32_t *ends, size_t ends_len, const char *all, const int64_t *numbers,
                            size_t numbers_len) {
    quern_batch it = {.len = len, .ends = ends, .text = all, .numbers = numbers};
    it.texts = len ? ends_len / len : 0;
    it.figures = len ? numbers_len / len : 0;
    return it;
}

static const needs *needed(void) {
    static variant of_texts[QUERN_READS], of_numbers[QUERN_READS];
    static needs it;
    quern_begin(true);
    it = (needs){.fields = {of_texts, 0}, .numbers = {of_numbers, 0}};
    for (size_t index = 0; index < quern_reads(); index++) {
        quern_need need = quern_need_of(index);
        variant one = {need.kind, {need.name.at, need.name.len}};
        if (need.is_number) {
            of_numbers[it.numbers.len++] = one;
        } else {
            of_texts[it.fields.len++] = one;
        }
    }
    quern_end();
    return &it;
}

#endif

/* ---------------------------------------------------------------- filters */

#if defined QUERN_KIND_FILTER || defined QUERN_KIND_BODY_FILTER

RESOURCE("[resource-new]subscription") extern int32_t subscription_new(quern_params *params);

EXPORT(INTERFACE "#[static]subscription.compile")
const opened *quern_export_compile(const char *at, size_t len, const quern_pair *given, size_t given_len) {
    static opened it;
    quern_begin(false);
    quern_text expression = {len ? at : "", len};
    quern_refusal why = {0};
    quern_params *params = malloc(sizeof *params);
    if (!params) quern_panic("there is no memory for another subscription");
    bool is_fit = quern_params_check(params, given, given_len, &why);
    if (is_fit && THE_PLUGIN.compile) params->compiled = THE_PLUGIN.compile(expression, params, &why);
    if (why.reason) {
        release_refused(params->compiled, &why);
        free_params(params);
        free(params);
        return refused(&why, expression, given, given_len);
    }
    it = (opened){.is_refused = 0, .handle = subscription_new(params)};
    quern_end();
    return &it;
}

EXPORT(INTERFACE "#[dtor]subscription") void quern_export_subscription_drop(quern_params *params) {
    quern_begin(false);
    release(params->compiled);
    free_params(params);
    free(params);
    quern_end();
}

EXPORT(INTERFACE "#[method]subscription.needs") const needs *quern_export_subscription_needs(quern_params *params) {
    (void)params;
    return needed();
}

static void judge_each(const quern_batch *batch, const quern_params *params, uint32_t *words) {
    quern_message message = {.batch = batch};
    uint32_t start = 0;
    for (; message.number < batch->len; message.number++) {
        if (batch->body_ends) {
            uint32_t end = batch->body_ends[message.number];
            message.body = (quern_text){batch->bodies + start, end - start};
            start = end;
        }
        if (THE_PLUGIN.matches(&message, params)) quern_deliver(words, message.number);
        if (quern_failure) return;
    }
}

static const answer *judged(const quern_batch *batch, const quern_params *params) {
    size_t len = (batch->len + 31) / 32;
    uint32_t *words = quern_scratch(len * 4 + 4, 4);
    memset(words, 0, len * 4);
#ifdef QUERN_KIND_FILTER
    if (THE_PLUGIN.judge) {
        THE_PLUGIN.judge(batch, params, words);
        /* A bit beyond the last message would be no answer. */
        if (batch->len % 32 != 0) words[len - 1] &= ((uint32_t)1 << batch->len % 32) - 1;
        return answered(words, len);
    }
#endif
    judge_each(batch, params, words);
    return answered(words, len);
}

#endif

#ifdef QUERN_KIND_FILTER

EXPORT(INTERFACE "#[method]subscription.matches")
const answer *quern_export_matches(quern_params *params, size_t len, const uint32_t *ends, size_t ends_len, const char *all,
                      size_t all_len, const int64_t *numbers, size_t numbers_len) {
    (void)all_len;
    quern_begin(true);
    quern_batch batch = batch_of(len, ends, ends_len, all, numbers, numbers_len);
    return judged(&batch, params);
}

#endif

#ifdef QUERN_KIND_BODY_FILTER

EXPORT(INTERFACE "#[method]subscription.matches")
const answer *quern_export_matches(quern_params *params, size_t len, const uint32_t *ends, size_t ends_len, const char *all,
                      size_t all_len, const int64_t *numbers, size_t numbers_len, const uint32_t *body_ends,
                      size_t body_ends_len, const char *bodies, size_t bodies_len) {
    (void)all_len, (void)body_ends_len, (void)bodies_len;
    quern_begin(true);
    quern_batch batch = batch_of(len, ends, ends_len, all, numbers, numbers_len);
    batch.body_ends = body_ends;
    batch.bodies = bodies;
    return judged(&batch, params);
}

#endif

/* -------------------------------------------------------------- selectors */

#ifdef QUERN_KIND_SELECTOR

typedef struct selector {
    quern_params params;
    quern_queues queues;
} selector;

RESOURCE("[resource-new]selector") extern int32_t selector_new(selector *it);

EXPORT(INTERFACE "#[static]selector.open") const opened *quern_export_selector_open(const quern_pair *given, size_t given_len) {
    static opened out;
    quern_begin(false);
    quern_refusal why = {0};
    selector *it = calloc(1, sizeof *it);
    if (!it) quern_panic("there is no memory for another selector");
    bool is_fit = quern_params_check(&it->params, given, given_len, &why);
    if (is_fit && THE_PLUGIN.open) it->params.compiled = THE_PLUGIN.open(&it->params, &why);
    if (why.reason) {
        release_refused(it->params.compiled, &why);
        free_params(&it->params);
        free(it);
        return refused(&why, QUERN_TEXT(""), given, given_len);
    }
    out = (opened){.is_refused = 0, .handle = selector_new(it)};
    quern_end();
    return &out;
}

EXPORT(INTERFACE "#[dtor]selector") void quern_export_selector_drop(selector *it) {
    quern_begin(false);
    release(it->params.compiled);
    free_params(&it->params);
    free((void *)it->queues.at);
    free(it);
    quern_end();
}

EXPORT(INTERFACE "#[method]selector.needs") const needs *quern_export_selector_needs(selector *it) {
    (void)it;
    return needed();
}

/* Queues and their texts in one piece. */
EXPORT(INTERFACE "#[method]selector.route") void quern_export_selector_route(selector *it, const quern_queue *queues, size_t len) {
    quern_begin(false);
    size_t size = len * sizeof *queues;
    for (size_t index = 0; index < len; index++) size += queues[index].broker.len + queues[index].zone.len;
    free((void *)it->queues.at);
    quern_queue *copies = malloc(size);
    if (!copies) quern_panic("there is no memory for %zu queues", len);
    char *texts = (char *)(copies + len);
    for (size_t index = 0; index < len; index++) {
        copies[index] = queues[index];
        quern_text *each[] = {&copies[index].broker, &copies[index].zone};
        for (size_t n = 0; n < 2; n++) {
            memcpy(texts, each[n]->at, each[n]->len);
            each[n]->at = texts;
            texts += each[n]->len;
        }
    }
    it->queues = (quern_queues){copies, len};
    quern_end();
}

EXPORT(INTERFACE "#[method]selector.select")
const answer *quern_export_selector_select(selector *it, size_t len, const uint32_t *ends, size_t ends_len, const char *all,
                              size_t all_len, const int64_t *numbers, size_t numbers_len) {
    (void)all_len;
    quern_begin(true);
    quern_batch batch = batch_of(len, ends, ends_len, all, numbers, numbers_len);
    uint32_t *chosen = quern_scratch(len * 4 + 4, 4);
    if (it->queues.len == 0) quern_fail("there is no queue to choose from");
    for (quern_message message = {.batch = &batch}; message.number < len && !quern_failure; message.number++) {
        size_t queue = THE_PLUGIN.select(&message, &it->queues, &it->params);
        if (queue >= it->queues.len) {
            quern_fail("%zu is not the number of a queue; there are %zu, counted from 0", queue, it->queues.len);
        }
        chosen[message.number] = queue;
    }
    return answered(chosen, len);
}

#endif

/* ------------------------------------------------------------- strategies */

#ifdef QUERN_KIND_ALLOCATION

EXPORT(INTERFACE "#check") const opened *quern_export_check(const quern_pair *given, size_t given_len) {
    static opened it;
    quern_begin(false);
    quern_refusal why = {0};
    quern_params params;
    bool is_fit = quern_params_check(&params, given, given_len, &why);
    if (is_fit && THE_PLUGIN.check) THE_PLUGIN.check(&params, &why);
    free_params(&params);
    if (why.reason) return refused(&why, QUERN_TEXT(""), given, given_len);
    it = (opened){.is_refused = 0};
    quern_end();
    return &it;
}

EXPORT(INTERFACE "#allocate")
const answer *quern_export_allocate(const char *group, size_t group_len, const char *topic, size_t topic_len,
                                    const quern_member *members, size_t members_len, const quern_owned_queue *queues,
                                    size_t queues_len, const quern_pair *given, size_t given_len) {
    quern_begin(true);
    quern_request request = {{group, group_len}, {topic, topic_len}, members, members_len, queues, queues_len};
    uint32_t *owners = quern_scratch(queues_len * 4 + 4, 4);
    for (size_t index = 0; index < queues_len; index++) owners[index] = QUERN_NOBODY;
    quern_refusal why = {0};
    quern_params params;
    if (quern_params_check(&params, given, given_len, &why)) {
        THE_PLUGIN.allocate(&request, &params, owners);
    } else {
        quern_fail("%s", why.reason);
    }
    for (size_t index = 0; index < queues_len; index++) {
        if (owners[index] != QUERN_NOBODY && owners[index] >= members_len) {
            quern_fail("%u is not the number of a member; there are %zu, counted from 0", owners[index], members_len);
        }
    }
    return answered(owners, queues_len);
}

#endif
