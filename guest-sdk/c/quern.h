/* What the author of a plugin in C includes.
 *
 * A plugin is one constant that says what it is and whose functions decide: quern_filter, quern_body_filter,
 * quern_selector or quern_allocation, whichever plugin.toml names as its kind. Messages, texts and queues are views
 * of what the broker handed over: nothing is copied, and nothing of it may be kept beyond the call.
 *
 * There is no libc, no clock, no randomness and no I/O. <string.h>, <stdlib.h> and <assert.h> have what a plugin
 * needs; what it allocates while it decides is gone when the call is over, what it allocates while it compiles or
 * opens stays. */
#ifndef QUERN_H
#define QUERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a plugin may read of each message, and how many parameters and choices it may have, at most. */
#define QUERN_READS 16
#define QUERN_PARAMS 16
#define QUERN_CHOICES 16

#define QUERN_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* ------------------------------------------------------------------ texts */

/* UTF-8, without a NUL at its end; `at` is NULL where there is none. */
typedef struct quern_text {
    const char *at;
    size_t len;
} quern_text;

#define QUERN_TEXT(literal) ((quern_text){"" literal "", sizeof(literal) - 1})

/* Whether both are there and the same. */
static inline bool quern_equal(quern_text left, quern_text right) {
    return left.at && right.at && left.len == right.len && __builtin_memcmp(left.at, right.at, left.len) == 0;
}
#define quern_is(text, literal) quern_equal((text), QUERN_TEXT(literal))
/* Of a text that is not there, all of these are false. */
bool quern_starts_with(quern_text text, quern_text start);
bool quern_ends_with(quern_text text, quern_text end);
bool quern_contains(quern_text text, quern_text part);
/* A sign and decimal digits, nothing else, within 64 bits. */
bool quern_parse_integer(quern_text text, int64_t *value);
/* The nearest double, of up to 15 digits and an exponent within 22; else one that differs in its last digits. */
bool quern_parse_number(quern_text text, double *value);
/* Java's String.hashCode, which RocketMQ's answers rest on. */
int32_t quern_hash_code(quern_text text);

/* ------------------------------------------------------------- parameters */

enum quern_type { QUERN_ANY_TEXT, QUERN_INTEGER, QUERN_NUMBER, QUERN_BOOLEAN, QUERN_CHOICE };

/* A parameter that consumers set; one without a default is required. */
struct quern_param {
    const char *name;
    enum quern_type type;
    const char *by_default;
    const char *choices[QUERN_CHOICES + 1];
    const char *help;
};

struct quern_value {
    quern_text text;
    int64_t integer;
    double number;
};

/* What one consumer has set, checked and completed, and what `compile` or `open` has made of it. */
typedef struct quern_params {
    void *compiled;
    struct quern_value values[QUERN_PARAMS];
} quern_params;

/* `name` is written out; each place in the code looks it up once. */
#define quern_param(params, name) (QUERN_VALUE(params, name)->text)
#define quern_param_integer(params, name) (QUERN_VALUE(params, name)->integer)
#define quern_param_number(params, name) (QUERN_VALUE(params, name)->number)
#define quern_param_boolean(params, name) (QUERN_VALUE(params, name)->integer != 0)

/* --------------------------------------------------------------- messages */

/* As the contract has it: the ends of all texts, row by row, and all numbers. */
typedef struct quern_batch {
    size_t len;
    const uint32_t *ends;
    const char *text;
    const int64_t *numbers;
    /* Of one message. */
    size_t texts, figures;
    /* Where each body ends; of filters that read bodies. */
    const uint32_t *body_ends;
    const char *bodies;
} quern_batch;

typedef struct quern_message {
    const quern_batch *batch;
    size_t number;
    /* Of filters that read bodies. */
    quern_text body;
} quern_message;

/* A text the message has been read for, "region" or "@tag": `at` is NULL where it has none. */
#define quern_read(message, name) \
    quern_text_at((message)->batch, (message)->number, QUERN_PLACE(quern_place_of_text, name))
/* A number, "amount" of "amount:int" or "@size": false where it has none, or what it has is no number. */
#define quern_read_integer(message, name, value) \
    quern_integer_at((message)->batch, (message)->number, QUERN_PLACE(quern_place_of_number, name), (value))

/* What a number is where a message has none, and where what it has is no integer. */
#define QUERN_NO_NUMBER INT64_MIN
#define QUERN_NOT_A_NUMBER (INT64_MIN + 1024)

/* Columns, for `judge`: one text, or one number with the two marks, of every message of a batch. */
#define quern_column(batch, name) ((quern_texts){(batch), QUERN_PLACE(quern_place_of_text, name)})
#define quern_column_integer(batch, name) \
    ((quern_numbers){(batch)->numbers + QUERN_PLACE(quern_place_of_number, name), (batch)->figures})

typedef struct quern_texts {
    const quern_batch *batch;
    size_t place;
} quern_texts;

typedef struct quern_numbers {
    const int64_t *first;
    size_t step;
} quern_numbers;

/* ----------------------------------------------- refusals, failures, words */

enum quern_refusal_code {
    QUERN_BY_PLACE, /* a parameter or an expression, whichever it speaks of */
    QUERN_SYNTAX,
    QUERN_TYPE_ERROR,
    QUERN_UNKNOWN_NAME,
    QUERN_BAD_PARAM,
    QUERN_UNSUPPORTED,
    QUERN_TOO_COMPLEX
};

/* Why an expression or a parameter is not accepted; with a reason, it is not. */
typedef struct quern_refusal {
    const char *reason;
    enum quern_refusal_code code;
    /* The parameter it speaks of; NULL = the expression. */
    const char *param;
    /* Which bytes of it; a length of 0 = to its end. */
    size_t at, len;
    const char *help;
} quern_refusal;

enum quern_level { QUERN_DEBUG, QUERN_INFO, QUERN_WARN, QUERN_ERROR };

/* A line for the broker's log; at most 1 KiB, ten a call. */
void quern_log(enum quern_level level, const char *format, ...) QUERN_PRINTF(2, 3);
/* Adds to a counter of the plugin's own; at most 16 names. */
void quern_count(const char *name, uint32_t by);
/* This call cannot be answered: the broker finds the message at fault, the plugin goes on. Is false. */
bool quern_fail(const char *format, ...) QUERN_PRINTF(1, 2);
/* This should never happen: logged, and the instance is at its end. */
_Noreturn void quern_panic(const char *format, ...) QUERN_PRINTF(1, 2);
/* A text until the call is over. Knows %s %.*s %c %d %i %u %x with h, l, ll, z, and %%. */
char *quern_format(const char *format, ...) QUERN_PRINTF(1, 2);

/* ---------------------------------------------------------------- plugins */

/* What all kinds say of themselves. `reads` names what is read of each message: "region" is a property, "amount:int"
 * one read as a whole number; of the message itself there are the texts @tag @keys @topic @message_id @order_key
 * @group @zone and the numbers @tag_code @queue_id @queue_offset @size @born_at @stored_at @attempts, for selectors
 * @sequence @random as well. */
#define QUERN_ABOUT                    \
    const char *summary;               \
    const char *language;              \
    const char *reads[QUERN_READS + 1]; \
    struct quern_param params[QUERN_PARAMS + 1];

struct quern_about {
    QUERN_ABOUT
};

/* Which messages does a consumer get? One of `matches`, for each message, and `judge`, for a whole batch. */
struct quern_filter {
    QUERN_ABOUT
    bool (*matches)(const quern_message *message, const quern_params *params);
    /* All are rejected but those given to quern_deliver. */
    void (*judge)(const quern_batch *batch, const quern_params *params, uint32_t *verdicts);
    /* Once for each consumer, if it is there: what it returns is params->compiled. A filter with a `language`
     * takes expressions. */
    void *(*compile)(quern_text expression, const quern_params *params, quern_refusal *refusal);
    /* Gives back what `compile` has returned, also beside a refusal, unless that is NULL; without, free does. */
    void (*release)(void *compiled);
};

/* The same, with message->body to read. */
struct quern_body_filter {
    QUERN_ABOUT
    bool (*matches)(const quern_message *message, const quern_params *params);
    void *(*compile)(quern_text expression, const quern_params *params, quern_refusal *refusal);
    void (*release)(void *compiled);
};

/* A queue that takes messages. */
typedef struct quern_queue {
    quern_text broker;
    uint32_t id;
    /* Empty = unknown. */
    quern_text zone;
    /* Moving average of its broker's appends; 0 = unknown. */
    uint32_t latency_us;
    /* Requests that wait for its broker's log. */
    uint32_t backlog;
} quern_queue;

/* Sorted by broker and id, never none. */
typedef struct quern_queues {
    const quern_queue *at;
    size_t len;
} quern_queues;

/* Which queue does a message go to that its sender left open? `select` returns its number, counted from 0. */
struct quern_selector {
    QUERN_ABOUT
    size_t (*select)(const quern_message *message, const quern_queues *queues, const quern_params *params);
    void *(*open)(const quern_params *params, quern_refusal *refusal);
    void (*release)(void *opened);
};

#define QUERN_NOBODY UINT32_MAX

typedef struct quern_member {
    quern_text id;
    quern_text zone;
    uint32_t weight;
} quern_member;

/* A queue that somebody shall consume. */
typedef struct quern_owned_queue {
    quern_text broker;
    uint32_t id;
    quern_text zone;
    /* Today's, the number of a member; QUERN_NOBODY = there is none. */
    uint32_t owner;
    /* Messages not yet consumed; -1 = unknown. */
    int64_t lag;
} quern_owned_queue;

/* Members are sorted by id as Java sorts, queues by broker and id. */
typedef struct quern_request {
    quern_text group;
    quern_text topic;
    const quern_member *members;
    size_t members_len;
    const quern_owned_queue *queues;
    size_t queues_len;
} quern_request;

/* Who of a group consumes which queue? `allocate` writes the number of each queue's member; until then each is
 * QUERN_NOBODY. */
struct quern_allocation {
    QUERN_ABOUT
    void (*allocate)(const quern_request *request, const quern_params *params, uint32_t *owners);
    void (*check)(const quern_params *params, quern_refusal *refusal);
};

extern const struct quern_filter quern_filter;
extern const struct quern_body_filter quern_body_filter;
extern const struct quern_selector quern_selector;
extern const struct quern_allocation quern_allocation;

/* ------------------------------------------------- how the above is found */

size_t quern_place_of_text(const char *name);
size_t quern_place_of_number(const char *name);
size_t quern_place_of_param(const char *name);

/* Names are the same for the plugin's whole life, so a place in the code remembers what it has found. */
static inline size_t quern_remembered(size_t *place, size_t (*find)(const char *), const char *name) {
    if (__builtin_expect(*place == 0, 0)) *place = find(name) + 1;
    return *place - 1;
}
#define QUERN_PLACE(find, name) \
    (__extension__({            \
        static size_t quern_place; \
        quern_remembered(&quern_place, find, "" name ""); \
    }))
#define QUERN_VALUE(params, name) (&(params)->values[QUERN_PLACE(quern_place_of_param, name)])

static inline quern_text quern_text_at(const quern_batch *batch, size_t message, size_t place) {
    size_t index = message * batch->texts + place;
    uint32_t end = batch->ends[index];
    uint32_t start = index == 0 ? 0 : batch->ends[index - 1] & INT32_MAX;
    quern_text none = {NULL, 0}, text = {batch->text + start, end - start};
    return end > INT32_MAX ? none : text;
}

static inline bool quern_integer_at(const quern_batch *batch, size_t message, size_t place, int64_t *value) {
    int64_t number = batch->numbers[message * batch->figures + place];
    if (number == QUERN_NO_NUMBER || number == QUERN_NOT_A_NUMBER) return false;
    *value = number;
    return true;
}

static inline quern_text quern_column_at(quern_texts column, size_t message) {
    return quern_text_at(column.batch, message, column.place);
}

static inline int64_t quern_column_integer_at(quern_numbers column, size_t message) {
    return column.first[message * column.step];
}

static inline void quern_deliver(uint32_t *verdicts, size_t message) {
    verdicts[message / 32] |= (uint32_t)1 << message % 32;
}

#endif
