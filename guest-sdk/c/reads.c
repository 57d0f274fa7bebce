/* What a plugin reads of each message: from the names an author writes to those of the contract, and to places. */
#include "glue.h"

#include <string.h>

/* In the order of the contract's variants; a property, read by its name, comes first in both. */
static const char *const TEXTS[] = {NULL, "tag", "keys", "topic", "message_id", "order_key", "group", "zone"};
static const char *const NUMBERS[] = {NULL,      "tag_code",  "queue_id", "queue_offset", "size",
                                      "born_at", "stored_at", "attempts", "sequence",     "random"};
#define ALL(list) (sizeof(list) / sizeof(*(list)))

static const char KNOWN[] =
    "@tag @keys @topic @message_id @order_key @group @zone @tag_code @queue_id @queue_offset @size @born_at @stored_at "
    "@attempts @sequence @random";

static uint32_t find(const char *const *list, size_t len, const char *name) {
    for (uint32_t kind = 1; kind < len; kind++) {
        if (strcmp(list[kind], name) == 0) return kind;
    }
    return 0;
}

size_t quern_reads(void) {
    size_t len = 0;
    while (len < QUERN_READS && quern_the_plugin->reads[len]) len++;
    return len;
}

void quern_reads_describable(void) {
    const char *beyond = quern_the_plugin->reads[QUERN_READS];
    if (beyond) quern_panic(".reads names at most %d, and %s is one more", QUERN_READS, beyond);
    for (size_t index = 0; index < quern_reads(); index++) quern_need_of(index);
}

quern_need quern_need_of(size_t index) {
    const char *read = quern_the_plugin->reads[index];
    quern_need need = {false, 0, {NULL, 0}};
    if (read[0] == '@') {
        need.kind = find(TEXTS, ALL(TEXTS), read + 1);
        if (need.kind != 0) return need;
        need.is_number = true;
        need.kind = find(NUMBERS, ALL(NUMBERS), read + 1);
        if (need.kind == 0) quern_panic("a message has no %s; there are %s", read, KNOWN);
        return need;
    }
    need.name = quern_text_of(read);
    if (quern_ends_with(need.name, QUERN_TEXT(":int"))) {
        need.is_number = true;
        need.name.len -= 4;
    } else if (quern_ends_with(need.name, QUERN_TEXT(":text"))) {
        need.name.len -= 5;
    }
    if (need.name.len == 0) quern_panic("a property has a name, which .reads %s lacks", read);
    return need;
}

/* Whether reads[index] is what an author reads by this name. */
static bool is_named(size_t index, quern_need need, quern_text name) {
    quern_text own = need.name.at ? need.name : quern_text_of(quern_the_plugin->reads[index]);
    return quern_equal(own, name);
}

static size_t place_of(const char *name, bool is_number) {
    size_t place = 0;
    bool is_other = false;
    for (size_t index = 0; index < quern_reads(); index++) {
        quern_need need = quern_need_of(index);
        bool is_it = is_named(index, need, quern_text_of(name));
        if (need.is_number == is_number) {
            if (is_it) return place;
            place++;
        } else {
            is_other = is_other || is_it;
        }
    }
    if (is_other && is_number) quern_panic("%s is read as a text: write \"%s:int\" in .reads", name, name);
    if (is_other) quern_panic("%s is read as a number, by quern_read_integer", name);
    quern_panic("%s is read, and is not in .reads", name);
}

size_t quern_place_of_text(const char *name) {
    return place_of(name, false);
}

size_t quern_place_of_number(const char *name) {
    return place_of(name, true);
}
