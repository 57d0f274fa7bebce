/* What the C SDK makes of texts, held against this machine's C library and against figures of Java's. */
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static quern_text text(const char *it) {
    quern_text of = {it, strlen(it)};
    return of;
}

static void numbers(void) {
    static const char *const good[] = {"0",     "-0",    "1.5",   "+.5",    "5.",     "1e3",      "1E-3",
                                       "12.25", "1e22",  "1e-05", "1e+022", "-7e-22", "0.000001", "123456789012345e7"};
    static const char *const bad[] = {"", "-", ".", "e5", "5e", "1.5.", "0x10", " 1", "1 ", "1_0", "infin", "5e+"};
    double value;
    for (size_t n = 0; n < sizeof good / sizeof *good; n++) {
        QUERN_EXPECT(quern_parse_number(text(good[n]), &value) && value == strtod(good[n], NULL));
    }
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) QUERN_EXPECT(!quern_parse_number(text(bad[n]), &value));
    QUERN_EXPECT(quern_parse_number(text("-Infinity"), &value) && value == -1 / 0.0);
    QUERN_EXPECT(quern_parse_number(text("NaN"), &value) && value != value);
    QUERN_EXPECT(quern_parse_number(text("1e999"), &value) && value == 1 / 0.0);
    QUERN_EXPECT(quern_parse_number(text("1e-999999999999"), &value) && value == 0);
    QUERN_EXPECT(quern_parse_number(text("1.7976931348623157e308"), &value) && value > 1.7976931348623e308);
    QUERN_EXPECT(quern_parse_number(text("2.5e-308"), &value) && value > 2.49999999999999e-308 && value < 2.50000000000001e-308);
    uint64_t seed = 1;
    for (int n = 0; n < 200000; n++) {
        char written[64];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int digits = 1 + (int)(seed >> 33) % 15, exponent = (int)(seed >> 40) % 16 - 8;
        snprintf(written, sizeof written, "%.*e", digits - 1, (double)(seed >> 11) / 9007199254740992.0);
        snprintf(strchr(written, 'e'), 8, "e%d", exponent);
        QUERN_EXPECT(quern_parse_number(text(written), &value) && value == strtod(written, NULL));
    }
}

static void integers(void) {
    int64_t value = 7;
    QUERN_EXPECT(quern_parse_integer(text("-9223372036854775808"), &value) && value == INT64_MIN);
    QUERN_EXPECT(quern_parse_integer(text("+9223372036854775807"), &value) && value == INT64_MAX);
    static const char *const bad[] = {"", "-", "9223372036854775808", "-9223372036854775809", "1.0", " 1", "99999999999999999999"};
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) QUERN_EXPECT(!quern_parse_integer(text(bad[n]), &value));
}

static void texts(void) {
    quern_text none = {NULL, 0};
    QUERN_EXPECT(quern_contains(text("aabaaab"), text("aaab")) && !quern_contains(text("aabaaab"), text("bb")));
    QUERN_EXPECT(quern_contains(text("x"), text("")) && !quern_contains(none, text("")) && !quern_contains(text("x"), none));
    QUERN_EXPECT(quern_starts_with(text("eu-west"), text("eu")) && !quern_starts_with(text("e"), text("eu")));
    QUERN_EXPECT(quern_ends_with(text("eu-west"), text("west")) && !quern_ends_with(none, text("")));
    QUERN_EXPECT(quern_is(text(""), "") && !quern_is(none, "") && !quern_is(text("eu\xc3\xa9"), "eu"));
    QUERN_EXPECT(quern_hash_code(text("customer-7")) == -1581185528);
    QUERN_EXPECT(quern_hash_code(text("gr\xc3\xb6\xc3\x9f" "e\xf0\x9f\x98\x80\xe6\x97\xa5")) == 228786481);
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%d|%u|%lld|%zu|%s|%.*s|%c|%x|%%", -7, 7u, (long long)INT64_MIN, (size_t)9, "it", 2, "eux", '!', 255u);
    const char *made = quern_format("%d|%u|%lld|%zu|%s|%.*s|%c|%x|%%", -7, 7u, (long long)INT64_MIN, (size_t)9, "it", 2, "eux", '!', 255u);
    QUERN_EXPECT(strcmp(made, wanted) == 0);
}

static void params(void) {
    QUERN_EXPECT(strcmp(quern_test_refused("min", "x"), "\"x\" is not a whole number") == 0);
    QUERN_EXPECT(strcmp(quern_test_refused("min", "a\"\\\n"), "\"a\\\"\\\\\\u{a}\" is not a whole number") == 0);
    QUERN_EXPECT(strcmp(quern_test_refused("min", "1", "mode", "warp"), "\"warp\" is not fast or slow") == 0);
    QUERN_EXPECT(strcmp(quern_test_refused("min", "1", "is", "yes"), "\"yes\" is not true or false") == 0);
    QUERN_EXPECT(strcmp(quern_test_refused("min", "1", "share", "half"), "\"half\" is not a number") == 0);
    QUERN_EXPECT(strcmp(quern_test_refused("min", "1", "max", "2"), "there is no such parameter") == 0);
    QUERN_EXPECT(strcmp(quern_test_refused(), "the parameter is required") == 0);
    const quern_params *p = quern_test_params("min", "-7", "is", "true", "share", ".25", "min", "8");
    QUERN_EXPECT(quern_param_integer(p, "min") == -7 && quern_param_boolean(p, "is"));
    QUERN_EXPECT(quern_param_number(p, "share") == 0.25 && quern_is(quern_param(p, "mode"), "slow"));
}

static void messages(void) {
    int64_t value = 7;
    quern_message *m = quern_test_message("a", "one", "n", "12", "@tag", "paid", "@size", "100", "c", "");
    QUERN_EXPECT(quern_is(quern_read(m, "a"), "one") && quern_is(quern_read(m, "@tag"), "paid"));
    QUERN_EXPECT(!quern_read(m, "b").at && !quern_read(m, "c").at);
    QUERN_EXPECT(quern_read_integer(m, "n", &value) && value == 12);
    QUERN_EXPECT(quern_read_integer(m, "@size", &value) && value == 100);
    m = quern_test_message("n", "1.5");
    QUERN_EXPECT(!quern_read_integer(m, "n", &value) && !quern_read_integer(m, "@size", &value) && value == 100);
    QUERN_EXPECT(quern_column_integer_at(quern_column_integer(m->batch, "n"), 0) == QUERN_NOT_A_NUMBER);
    QUERN_EXPECT(quern_column_integer_at(quern_column_integer(m->batch, "@size"), 0) == QUERN_NO_NUMBER);
    QUERN_EXPECT(!quern_fail("%s", "first") && !quern_fail("second"));
    QUERN_EXPECT(strcmp(quern_test_failure(), "first") == 0 && !quern_test_failure());
}

static const struct quern_filter all = {
    .reads = {"a", "n:int", "b:text", "@tag", "@size", "c"},
    .params = {
        {"min", QUERN_INTEGER},
        {"mode", QUERN_CHOICE, .by_default = "slow", .choices = {"fast", "slow"}},
        {"is", QUERN_BOOLEAN, .by_default = "false"},
        {"share", QUERN_NUMBER, .by_default = "0.5"},
    },
};

int main(void) {
    quern_test_plugin(&all);
    numbers();
    integers();
    texts();
    params();
    messages();
    return quern_test_result();
}
