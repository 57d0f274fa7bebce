/* Parameters: what a plugin takes, and what consumers gave, checked before the plugin sees it. */
#include "glue.h"

#include <stdlib.h>
#include <string.h>

size_t quern_params_len(void) {
    size_t len = 0;
    while (len < QUERN_PARAMS && quern_the_plugin->params[len].name) len++;
    return len;
}

size_t quern_choices_len(const struct quern_param *param) {
    size_t len = 0;
    while (len < QUERN_CHOICES && param->choices[len]) len++;
    return len;
}

size_t quern_place_of_param(const char *name) {
    const struct quern_param *params = quern_the_plugin->params;
    for (size_t index = 0; index < quern_params_len(); index++) {
        if (strcmp(params[index].name, name) == 0) return index;
    }
    quern_panic("the parameter %s is read, and is not in .params", name);
}

static bool is_choice(const struct quern_param *param, quern_text value) {
    for (size_t index = 0; index < quern_choices_len(param); index++) {
        if (quern_equal(quern_text_of(param->choices[index]), value)) return true;
    }
    return false;
}

/* Whether the text is what the parameter takes, and what it then is. */
static bool is_fit(const struct quern_param *param, quern_text text, struct quern_value *value) {
    value->text = text;
    value->integer = 0;
    value->number = 0;
    switch (param->type) {
    case QUERN_INTEGER:
        return quern_parse_integer(text, &value->integer);
    case QUERN_NUMBER:
        return quern_parse_number(text, &value->number);
    case QUERN_BOOLEAN:
        value->integer = quern_is(text, "true");
        return value->integer || quern_is(text, "false");
    case QUERN_CHOICE:
        return is_choice(param, text);
    case QUERN_ANY_TEXT:
        break;
    }
    return true;
}

static const char *wanted(const struct quern_param *param) {
    const char *either = "";
    switch (param->type) {
    case QUERN_INTEGER:
        return "a whole number";
    case QUERN_NUMBER:
        return "a number";
    case QUERN_BOOLEAN:
        return "true or false";
    case QUERN_CHOICE:
        for (size_t index = 0; index < quern_choices_len(param); index++) {
            either = quern_format("%s%s%s", either, index ? " or " : "", param->choices[index]);
        }
        return either;
    case QUERN_ANY_TEXT:
        break;
    }
    return "a text";
}

void quern_params_describable(void) {
    const struct quern_param *params = quern_the_plugin->params;
    const char *beyond = params[QUERN_PARAMS].name;
    if (beyond) quern_panic("there are at most %d .params, and %s is one more", QUERN_PARAMS, beyond);
    for (size_t index = 0; index < quern_params_len(); index++) {
        const struct quern_param *param = &params[index];
        struct quern_value value;
        if (param->choices[QUERN_CHOICES]) {
            quern_panic("parameter %s has at most %d .choices", param->name, QUERN_CHOICES);
        }
        if (param->by_default && !is_fit(param, quern_text_of(param->by_default), &value)) {
            quern_panic("the default of parameter %s is not %s", param->name, wanted(param));
        }
        if (param->type == QUERN_CHOICE && !param->choices[0]) {
            quern_panic("parameter %s has no .choices", param->name);
        }
    }
}

static const char *names(void) {
    const struct quern_param *params = quern_the_plugin->params;
    const char *all = params[0].name ? "" : "no parameters";
    for (size_t index = 0; index < quern_params_len(); index++) {
        all = quern_format("%s%s%s", all, index ? ", " : "", params[index].name);
    }
    return all;
}

/* The text it keeps: what the broker gave is gone when the call is over. */
static quern_text kept(quern_text text) {
    char *copy = malloc(text.len + 1);
    if (!copy) quern_panic("there is no memory for a parameter of %zu bytes", text.len);
    memcpy(copy, text.at, text.len);
    copy[text.len] = 0;
    quern_text it = {copy, text.len};
    return it;
}

static bool not_accepted(quern_refusal *refusal, const char *param, const char *reason, const char *help) {
    *refusal = (quern_refusal){.reason = reason, .param = param, .help = help};
    return false;
}

bool quern_params_check(quern_params *params, const quern_pair *given, size_t len, quern_refusal *refusal) {
    const struct quern_param *described = quern_the_plugin->params;
    size_t count = quern_params_len();
    memset(params, 0, sizeof *params);
    for (size_t index = 0; index < len; index++) {
        quern_text value = {given[index].value.len ? given[index].value.at : "", given[index].value.len};
        size_t place = 0;
        while (place < count && !quern_equal(quern_text_of(described[place].name), given[index].name)) place++;
        if (place == count) {
            const char *name = quern_format("%.*s", (int)given[index].name.len, given[index].name.at);
            const char *help = quern_format("%s takes %s", quern_name, names());
            return not_accepted(refusal, name, "there is no such parameter", help);
        }
        struct quern_value found;
        if (!is_fit(&described[place], value, &found)) {
            const char *reason = quern_format("%s is not %s", quern_quoted(value), wanted(&described[place]));
            return not_accepted(refusal, described[place].name, reason, NULL);
        }
        if (params->values[place].text.at) continue;
        found.text = kept(value);
        params->values[place] = found;
    }
    for (size_t place = 0; place < count; place++) {
        const struct quern_param *param = &described[place];
        if (params->values[place].text.at) continue;
        if (!param->by_default) return not_accepted(refusal, param->name, "the parameter is required", param->help);
        is_fit(param, quern_text_of(param->by_default), &params->values[place]);
    }
    return true;
}
