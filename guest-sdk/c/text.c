/* Texts: looking into them, reading numbers from them, making them. The same here and on an author's machine. */
#include "glue.h"

#include <string.h>

bool quern_starts_with(quern_text text, quern_text start) {
    return text.at && start.at && text.len >= start.len && memcmp(text.at, start.at, start.len) == 0;
}

bool quern_ends_with(quern_text text, quern_text end) {
    if (!text.at || !end.at || text.len < end.len) return false;
    return memcmp(text.at + (text.len - end.len), end.at, end.len) == 0;
}

bool quern_contains(quern_text text, quern_text part) {
    if (!text.at || !part.at || text.len < part.len) return false;
    if (part.len == 0) return true;
    size_t last = text.len - part.len;
    for (size_t from = 0; from <= last; from++) {
        /* Most places are ruled out by one byte. */
        const char *first = memchr(text.at + from, part.at[0], last - from + 1);
        if (!first) return false;
        if (memcmp(first, part.at, part.len) == 0) return true;
        from = (size_t)(first - text.at);
    }
    return false;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool quern_parse_integer(quern_text text, int64_t *value) {
    size_t at = 0;
    bool negative = text.len > 0 && text.at[0] == '-';
    if (text.len > 0 && (text.at[0] == '-' || text.at[0] == '+')) at++;
    if (at == text.len) return false;
    /* Downwards, for there is one negative number more. */
    int64_t sum = 0;
    for (; at < text.len; at++) {
        if (!is_digit(text.at[at])) return false;
        if (__builtin_mul_overflow(sum, (int64_t)10, &sum)) return false;
        if (__builtin_sub_overflow(sum, (int64_t)(text.at[at] - '0'), &sum)) return false;
    }
    if (!negative && __builtin_sub_overflow((int64_t)0, sum, &sum)) return false;
    *value = sum;
    return true;
}

/* Whether the text is this word, in letters of either case. */
static bool is_word(quern_text text, const char *word) {
    size_t at = 0;
    for (; at < text.len && word[at]; at++) {
        if ((text.at[at] | 0x20) != word[at]) return false;
    }
    return at == text.len && !word[at];
}

static double scaled(double value, int64_t tens) {
    /* Powers of ten up to 22 are doubles, so one step of that much rounds once. */
    while (tens != 0 && value != 0 && value - value == 0) {
        int64_t step = tens > 22 ? 22 : tens < -22 ? -22 : tens;
        double power = 1;
        for (int64_t n = step < 0 ? -step : step; n > 0; n--) power *= 10;
        value = step < 0 ? value / power : value * power;
        tens -= step;
    }
    return value;
}

bool quern_parse_number(quern_text text, double *value) {
    size_t at = 0;
    bool negative = text.len > 0 && text.at[0] == '-';
    if (text.len > 0 && (text.at[0] == '-' || text.at[0] == '+')) at++;
    quern_text word = {text.at + at, text.len - at};
    double found = 0;
    if (is_word(word, "inf") || is_word(word, "infinity")) {
        found = __builtin_inf();
    } else if (is_word(word, "nan")) {
        found = __builtin_nan("");
    } else {
        uint64_t digits = 0;
        int64_t tens = 0;
        bool any = false, fraction = false;
        for (; at < text.len; at++) {
            char c = text.at[at];
            if (c == '.' && !fraction) {
                fraction = true;
            } else if (is_digit(c)) {
                any = true;
                bool room = digits < (uint64_t)1000000000000000000;
                if (room) digits = digits * 10 + (uint64_t)(c - '0');
                tens += (room ? 0 : 1) - (fraction ? 1 : 0);
            } else {
                break;
            }
        }
        if (!any) return false;
        if (at < text.len) {
            if ((text.at[at] | 0x20) != 'e') return false;
            int64_t exponent;
            quern_text rest = {text.at + at + 1, text.len - at - 1};
            if (!quern_parse_integer(rest, &exponent)) return false;
            /* Beyond, a larger one makes no difference, whatever the digits. */
            int64_t most = 100000;
            tens += exponent > most ? most : exponent < -most ? -most : exponent;
        }
        found = scaled((double)digits, tens);
    }
    *value = negative ? -found : found;
    return true;
}

int32_t quern_hash_code(quern_text text) {
    uint32_t hash = 0;
    for (size_t at = 0; at < text.len;) {
        uint32_t lead = (unsigned char)text.at[at++];
        size_t more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        uint32_t c = more == 0 ? lead : lead & (0x3fu >> more);
        for (; more > 0 && at < text.len; more--) c = c << 6 | ((unsigned char)text.at[at++] & 0x3f);
        /* Java counts UTF-16 units. */
        if (c > 0xffff) {
            hash = hash * 31 + (0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + (c & 0x3ff);
        }
        hash = hash * 31 + c;
    }
    return (int32_t)hash;
}

/* A text that is being written; with `at` NULL, only measured. */
typedef struct writing {
    char *at;
    size_t len;
} writing;

static void put(writing *out, const char *bytes, size_t len) {
    if (out->at) memcpy(out->at + out->len, bytes, len);
    out->len += len;
}

static void put_number(writing *out, uint64_t value, bool negative, unsigned base) {
    char digits[24];
    size_t first = sizeof digits;
    do {
        digits[--first] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    if (negative) digits[--first] = '-';
    put(out, digits + first, sizeof digits - first);
}

/* One number of the size the letters before it say. */
static void put_argument(writing *out, char kind, int longs, va_list *arguments) {
    bool is_signed = kind == 'd' || kind == 'i';
    unsigned base = kind == 'x' ? 16 : 10;
    if (is_signed) {
        int64_t value = longs > 1   ? va_arg(*arguments, long long)
                        : longs > 0 ? va_arg(*arguments, long)
                                    : va_arg(*arguments, int);
        put_number(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0, base);
    } else {
        uint64_t value = longs > 1   ? va_arg(*arguments, unsigned long long)
                         : longs > 0 ? va_arg(*arguments, unsigned long)
                                     : va_arg(*arguments, unsigned);
        put_number(out, value, false, base);
    }
}

static void put_all(writing *out, const char *format, va_list *arguments) {
    for (; *format; format++) {
        if (*format != '%') {
            put(out, format, 1);
            continue;
        }
        size_t most = SIZE_MAX;
        if (format[1] == '.' && format[2] == '*') {
            int given = va_arg(*arguments, int);
            most = given < 0 ? SIZE_MAX : (size_t)given;
            format += 2;
        }
        int longs = 0;
        for (format++; *format == 'l' || *format == 'h' || *format == 'z'; format++) {
            longs += *format == 'h' ? 0 : 1;
        }
        if (*format == 's') {
            const char *text = va_arg(*arguments, const char *);
            if (!text) text = "(null)";
            size_t len = 0;
            while (len < most && text[len]) len++;
            put(out, text, len);
        } else if (*format == 'c') {
            char c = (char)va_arg(*arguments, int);
            put(out, &c, 1);
        } else if (*format && strchr("diux", *format)) {
            put_argument(out, *format, longs, arguments);
        } else if (*format == '%') {
            put(out, "%", 1);
        } else {
            quern_panic("quern_format does not know %%%c", *format ? *format : ' ');
        }
    }
}

char *quern_vformat(const char *format, va_list arguments) {
    writing out = {NULL, 0};
    va_list again;
    va_copy(again, arguments);
    put_all(&out, format, &again);
    va_end(again);
    out.at = quern_scratch(out.len + 1, 1);
    out.len = 0;
    va_copy(again, arguments);
    put_all(&out, format, &again);
    va_end(again);
    out.at[out.len] = 0;
    return out.at;
}

char *quern_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = quern_vformat(format, arguments);
    va_end(arguments);
    return text;
}

const char *quern_quoted(quern_text text) {
    /* The longest a byte becomes is \u{1f}. */
    writing out = {quern_scratch(text.len * 6 + 3, 1), 0};
    put(&out, "\"", 1);
    for (size_t at = 0; at < text.len; at++) {
        unsigned char c = (unsigned char)text.at[at];
        if (c == '"' || c == '\\') put(&out, "\\", 1);
        if (c < 0x20 || c == 0x7f) {
            put(&out, "\\u{", 3);
            put_number(&out, c, false, 16);
            put(&out, "}", 1);
        } else {
            put(&out, text.at + at, 1);
        }
    }
    put(&out, "\"", 2);
    return out.at;
}
