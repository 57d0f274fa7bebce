/* The part of <string.h> that plugins have. Compiled without the compiler's own idea of these functions, so that none of
 * them becomes a call of itself. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Each is one instruction with the feature bulk-memory, which a plugin is compiled with. */
void *memcpy(void *restrict to, const void *restrict from, size_t len) {
    return __builtin_memcpy(to, from, len);
}

void *memmove(void *to, const void *from, size_t len) {
    return __builtin_memmove(to, from, len);
}

void *memset(void *at, int byte, size_t len) {
    return __builtin_memset(at, byte, len);
}

int memcmp(const void *left, const void *right, size_t len) {
    const unsigned char *one = left, *other = right;
    for (; len >= 8; len -= 8, one += 8, other += 8) {
        uint64_t a, b;
        __builtin_memcpy(&a, one, 8);
        __builtin_memcpy(&b, other, 8);
        if (a != b) break;
    }
    for (; len > 0; len--, one++, other++) {
        if (*one != *other) return *one - *other;
    }
    return 0;
}

void *memchr(const void *at, int byte, size_t len) {
    const unsigned char *next = at;
    for (; len > 0; len--, next++) {
        if (*next == (unsigned char)byte) return (void *)next;
    }
    return NULL;
}

size_t strlen(const char *text) {
    const char *end = text;
    while (*end) end++;
    return (size_t)(end - text);
}

size_t strnlen(const char *text, size_t most) {
    size_t len = 0;
    while (len < most && text[len]) len++;
    return len;
}

int strcmp(const char *left, const char *right) {
    for (; *left && *left == *right; left++, right++) {
    }
    return (unsigned char)*left - (unsigned char)*right;
}

int strncmp(const char *left, const char *right, size_t most) {
    for (; most > 0 && *left && *left == *right; left++, right++, most--) {
    }
    return most == 0 ? 0 : (unsigned char)*left - (unsigned char)*right;
}

char *strchr(const char *text, int byte) {
    for (; *text != (char)byte; text++) {
        if (!*text) return NULL;
    }
    return (char *)text;
}

char *strrchr(const char *text, int byte) {
    const char *found = NULL;
    do {
        if (*text == (char)byte) found = text;
    } while (*text++);
    return (char *)found;
}

char *strstr(const char *text, const char *part) {
    size_t len = strlen(part);
    for (; strncmp(text, part, len) != 0; text++) {
        if (!*text) return NULL;
    }
    return (char *)text;
}

char *strdup(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

static void swap(char *left, char *right, size_t size) {
    for (; size > 0; size--, left++, right++) {
        char byte = *left;
        *left = *right;
        *right = byte;
    }
}

typedef int comparison(const void *left, const void *right);

/* Moves the piece `from` down to where none below it is larger. */
static void sink(char *first, size_t from, size_t count, size_t size, comparison *compare) {
    for (size_t child; (child = 2 * from + 1) < count; from = child) {
        if (child + 1 < count && compare(first + child * size, first + (child + 1) * size) < 0) child++;
        if (compare(first + from * size, first + child * size) >= 0) return;
        swap(first + from * size, first + child * size, size);
    }
}

/* A heap: as fast on every input. Like all of its name, it may change the order of what is equal. */
void qsort(void *first, size_t count, size_t size, comparison *compare) {
    for (size_t from = count / 2; from > 0; from--) sink(first, from - 1, count, size, compare);
    for (; count > 1; count--) {
        swap(first, (char *)first + (count - 1) * size, size);
        sink(first, 0, count - 1, size, compare);
    }
}
