/* A queue selector: which queue does a message go to that its sender left open? */
#include "quern.h"

/* The number of a queue, counted from 0. Queues have broker, id, zone, latency_us and backlog. */
static size_t choose(const quern_message *m, const quern_queues *queues, const quern_params *p) {
    (void)p;
    int64_t others = (int64_t)queues->len - 1, number = 0;
    if (others == 0 || quern_is(quern_read(m, "@tag"), "urgent")) return 0;
    /* Messages with one order key share a queue; the others take them in turn. */
    quern_text key = quern_read(m, "@order_key");
    if (key.at) {
        number = quern_hash_code(key);
    } else {
        quern_read_integer(m, "@sequence", &number);
    }
    number %= others;
    return 1 + (size_t)(number < 0 ? number + others : number);
}

const struct quern_selector quern_selector = {
    .summary = "A queue of their own for urgent messages",
    .reads = {"@tag", "@order_key", "@sequence"},
    .select = choose,
};
