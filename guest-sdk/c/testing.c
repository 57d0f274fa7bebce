/* The broker's part in tests on an author's own machine: lines of the log go to stderr, counts nowhere. */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glue.h"
#include "params.c"
#include "reads.c"
#include "text.c"

const struct quern_about *quern_the_plugin;
const char *quern_name = "the plugin";
const char *quern_failure;
static int unmet;

void *quern_scratch(size_t size, size_t align) {
    (void)align;
    void *at = malloc(size);
    if (!at) abort();
    return at;
}

#define PRINTED(before, text)         \
    do {                              \
        va_list arguments;            \
        va_start(arguments, text);    \
        fputs(before, stderr);        \
        vfprintf(stderr, text, arguments); \
        fputc('\n', stderr);          \
        va_end(arguments);            \
    } while (0)

void quern_log(enum quern_level level, const char *format, ...) {
    (void)level;
    PRINTED("log: ", format);
}

void quern_count(const char *name, uint32_t by) {
    (void)name, (void)by;
}

void quern_panic(const char *format, ...) {
    PRINTED("panic: ", format);
    exit(1);
}

bool quern_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (!quern_failure) quern_failure = quern_vformat(format, arguments);
    va_end(arguments);
    return false;
}

const char *quern_test_failure(void) {
    const char *failure = quern_failure;
    quern_failure = NULL;
    return failure;
}

void quern_test_about(const struct quern_about *about) {
    quern_the_plugin = about;
    quern_params_describable();
    quern_reads_describable();
}

static size_t pairs_of(const char *const *given, quern_pair **pairs) {
    size_t len = 0;
    while (given[2 * len] && given[2 * len + 1]) len++;
    if (given[2 * len]) quern_panic("%s has no value", given[2 * len]);
    quern_pair *all = quern_scratch(len * sizeof *all + 1, 8);
    for (size_t index = 0; index < len; index++) {
        all[index].name = quern_text_of(given[2 * index]);
        all[index].value = quern_text_of(given[2 * index + 1]);
    }
    *pairs = all;
    return len;
}

static const quern_params *checked(const char *const *given, quern_refusal *refusal) {
    quern_pair *pairs;
    size_t len = pairs_of(given, &pairs);
    quern_params *params = quern_scratch(sizeof *params, 8);
    quern_params_check(params, pairs, len, refusal);
    return params;
}

const quern_params *quern_test_params_of(const char *const *pairs) {
    quern_refusal refusal = {0};
    const quern_params *params = checked(pairs, &refusal);
    if (refusal.reason) quern_panic("refused: %s", refusal.reason);
    return params;
}

const char *quern_test_refused_of(const char *const *pairs) {
    quern_refusal refusal = {0};
    checked(pairs, &refusal);
    return refusal.reason;
}

/* A batch of one message, as the broker would lay it out. */
typedef struct laid_out {
    quern_message message;
    quern_batch batch;
    uint32_t ends[QUERN_READS];
    int64_t numbers[QUERN_READS];
} laid_out;

static void read_one(laid_out *it, char *text, size_t *filled, quern_need need, quern_text value) {
    if (!need.is_number) {
        /* An empty text is none. */
        if (value.len > 0) memcpy(text + *filled, value.at, value.len);
        *filled += value.len;
        uint32_t absent = value.len > 0 ? 0 : (uint32_t)1 << 31;
        it->ends[it->batch.texts++] = (uint32_t)*filled | absent;
        return;
    }
    int64_t number = QUERN_NO_NUMBER;
    if (value.len > 0 && !quern_parse_integer(value, &number)) number = QUERN_NOT_A_NUMBER;
    it->numbers[it->batch.figures++] = number;
}

quern_message *quern_test_message_of(const char *const *given) {
    quern_pair *pairs;
    size_t len = pairs_of(given, &pairs), size = 1, filled = 0;
    for (size_t index = 0; index < len; index++) size += pairs[index].value.len;
    char *text = quern_scratch(size, 1);
    laid_out *it = quern_scratch(sizeof *it, 8);
    memset(it, 0, sizeof *it);
    for (size_t index = 0; index < quern_reads(); index++) {
        quern_need need = quern_need_of(index);
        quern_text value = {NULL, 0};
        for (size_t pair = 0; pair < len; pair++) {
            if (is_named(index, need, pairs[pair].name)) value = pairs[pair].value;
        }
        read_one(it, text, &filled, need, value);
    }
    it->batch.len = 1;
    it->batch.ends = it->ends;
    it->batch.text = text;
    it->batch.numbers = it->numbers;
    it->message.batch = &it->batch;
    return &it->message;
}

void quern_test_expect(bool is_met, const char *file, int line, const char *expected) {
    if (is_met) return;
    unmet++;
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, expected);
}

int quern_test_result(void) {
    if (unmet == 0) puts("all is as expected");
    return unmet > 0;
}
