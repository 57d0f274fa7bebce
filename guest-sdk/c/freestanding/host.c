/* What a plugin may ask of the broker, and the ways in which it gives up. */
#include "../glue.h"

#include <stdlib.h>

#define HOST(name) __attribute__((import_module("quern:plugin/host@0.1.0"), import_name(name)))

HOST("log") extern void host_log(uint32_t level, const char *line, size_t len);
HOST("count") extern void host_count(const char *name, size_t len, uint32_t by);

const char *quern_failure;

static void log_line(enum quern_level level, const char *format, va_list arguments) {
    quern_text line = quern_text_of(quern_vformat(format, arguments));
    host_log(level, line.at, line.len);
}

void quern_log(enum quern_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    log_line(level, format, arguments);
    va_end(arguments);
}

void quern_count(const char *name, uint32_t by) {
    quern_text text = quern_text_of(name);
    host_count(text.at, text.len, by);
}

bool quern_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    /* What went wrong first is the cause. */
    if (!quern_failure) quern_failure = quern_vformat(format, arguments);
    va_end(arguments);
    return false;
}

void quern_panic(const char *format, ...) {
    static bool is_panicking;
    /* Telling of it may fail, too, for want of memory. */
    if (!is_panicking) {
        is_panicking = true;
        va_list arguments;
        va_start(arguments, format);
        log_line(QUERN_ERROR, format, arguments);
        va_end(arguments);
    }
    __builtin_trap();
}

void abort(void) {
    quern_panic("abort was called");
}
