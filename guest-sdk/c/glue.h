/* What the SDK's own files know of each other; no author includes it. */
#ifndef QUERN_GLUE_H
#define QUERN_GLUE_H

#include <stdarg.h>

#include "quern.h"

/* What the plugin says of itself; see exports.h, or testing.c. */
extern const struct quern_about *quern_the_plugin;
extern const char *quern_name;

/* Memory until the call is over. */
void *quern_scratch(size_t size, size_t align);

/* What this call failed with; NULL = it has not. */
extern const char *quern_failure;

/* One thing that is read, as the contract names it: texts and numbers are counted apart. */
typedef struct quern_need {
    bool is_number;
    uint32_t kind;
    /* Of a property. */
    quern_text name;
} quern_need;

/* What reads[index] asks for; panics if it asks for what no message has. */
quern_need quern_need_of(size_t index);
size_t quern_reads(void);
/* Panics if the plugin reads what no message has, or more than it may. */
void quern_reads_describable(void);

/* A parameter as the broker gives it. */
typedef struct quern_pair {
    quern_text name;
    quern_text value;
} quern_pair;

/* Checks what was given and adds the defaults of what was not; false = refused. */
bool quern_params_check(quern_params *params, const quern_pair *given, size_t len, quern_refusal *refusal);
size_t quern_params_len(void);
size_t quern_choices_len(const struct quern_param *param);
/* Panics if the plugin describes what it cannot have. */
void quern_params_describable(void);

/* What stands between the quotes may be anything. */
const char *quern_quoted(quern_text text);
char *quern_vformat(const char *format, va_list arguments);
static inline quern_text quern_text_of(const char *text) {
    quern_text it = {text, text ? __builtin_strlen(text) : 0};
    return it;
}

#endif
