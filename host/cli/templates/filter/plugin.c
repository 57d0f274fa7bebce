/* A filter: which messages does a consumer get? */
#include "quern.h"

static bool matches(const quern_message *m, const quern_params *p) {
    int64_t amount;
    return quern_equal(quern_read(m, "region"), quern_param(p, "from")) &&
           quern_read_integer(m, "amount", &amount) && amount >= quern_param_integer(p, "min");
}

const struct quern_filter quern_filter = {
    .summary = "Large orders from one region",
    /* `region` and `amount` of a message's properties. */
    .reads = {"region", "amount:int"},
    .params = {
        {"from", .by_default = "eu", .help = "the region"},
        {"min", QUERN_INTEGER, .by_default = "100", .help = "the least amount"},
    },
    .matches = matches,
};
