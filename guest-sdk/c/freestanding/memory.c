/* Memory. What the broker hands over, and what a plugin makes of it while it decides, is gone when the call is over, so it
 * is laid side by side in a space that begins anew with the next call. What a plugin keeps is made while it compiles or
 * opens; that comes from lists of free pieces by size, as does what the space has no room for.
 *
 *     piece   [size class | size | next of a list | 0] [what was asked for ...]
 *             16 bytes, and aligned to 16 */
#include "../glue.h"
#include "freestanding.h"

#include <stdlib.h>
#include <string.h>

/* Room for the largest batch of texts and numbers, and for what is made of it. */
#define SPACE ((size_t)256 * 1024)
#define PAGE ((size_t)65536)
/* Pieces are of 16 bytes and twice, four times ... as many, up to 16 MiB. */
#define CLASSES 21
/* The class of a piece that goes with the call. */
#define PASSING UINT32_MAX

typedef struct piece {
    uint32_t class;
    uint32_t size;
    struct piece *next;
    uint32_t reserved;
} piece;

_Static_assert(sizeof(piece) == 16, "what is behind it is aligned to 16");

extern char __heap_base;

static _Alignas(16) char space[SPACE];
static size_t top;
static bool is_over;
static bool is_deciding;
/* What this call has besides its space. */
static piece *spilled;
static piece *unused[CLASSES];
static char *fresh, *end;

/* More of the machine's memory; NULL = the broker allows no more. */
static char *grown(size_t size) {
    if (!fresh) {
        fresh = (char *)(((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15);
        end = (char *)(__builtin_wasm_memory_size(0) * PAGE);
    }
    if ((size_t)(end - fresh) < size) {
        size_t pages = (size - (size_t)(end - fresh) + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return NULL;
        end += pages * PAGE;
    }
    char *at = fresh;
    fresh += size;
    return at;
}

static piece *taken(size_t size) {
    uint32_t class = 0;
    while (class < CLASSES && ((size_t)16 << class) < size) class++;
    if (class == CLASSES) return NULL;
    piece *it = unused[class];
    if (it) {
        unused[class] = it->next;
    } else {
        it = (piece *)grown(sizeof(piece) + ((size_t)16 << class));
        if (!it) return NULL;
    }
    it->class = class;
    it->size = size;
    it->next = NULL;
    return it;
}

static void put_back(piece *it) {
    it->next = unused[it->class];
    unused[it->class] = it;
}

static void begin_anew(void) {
    is_over = false;
    top = 0;
    while (spilled) {
        piece *it = spilled;
        spilled = it->next;
        it->class = it->reserved;
        put_back(it);
    }
}

static void *spill(size_t size) {
    piece *it = taken(size);
    if (!it) return NULL;
    it->reserved = it->class;
    it->class = PASSING;
    it->next = spilled;
    spilled = it;
    return it + 1;
}

static void *passing(size_t size, size_t align) {
    if (is_over) begin_anew();
    size_t place = (top + align - 1) & ~(align - 1);
    if (size > SPACE || place > SPACE - size) return spill(size);
    top = place + size;
    return space + place;
}

void *quern_scratch(size_t size, size_t align) {
    void *at = passing(size, align);
    if (!at) quern_panic("there is no memory for %zu bytes more", size);
    return at;
}

void quern_begin(bool deciding) {
    /* Unless what it is given has begun it. */
    if (is_over) begin_anew();
    is_deciding = deciding;
    quern_failure = NULL;
}

void quern_end(void) {
    is_deciding = false;
    is_over = true;
}

void *malloc(size_t size) {
    piece *it;
    if (!is_deciding) {
        it = taken(size);
    } else if (size > SPACE) {
        return spill(size);
    } else {
        it = passing(sizeof(piece) + size, _Alignof(max_align_t));
        if (it) *it = (piece){.class = PASSING, .size = size};
    }
    return it ? it + 1 : NULL;
}

void *calloc(size_t count, size_t size) {
    size_t all;
    if (__builtin_mul_overflow(count, size, &all)) return NULL;
    void *at = malloc(all);
    return at ? memset(at, 0, all) : NULL;
}

void free(void *at) {
    /* What lies below is a constant, or the space. */
    if ((char *)at < &__heap_base) return;
    piece *it = (piece *)at - 1;
    if (it->class != PASSING) put_back(it);
}

void *realloc(void *at, size_t size) {
    if (!at) return malloc(size);
    piece *it = (piece *)at - 1;
    if (size <= it->size || (it->class != PASSING && size <= (size_t)16 << it->class)) {
        it->size = size;
        return at;
    }
    void *other = malloc(size);
    if (!other) return NULL;
    memcpy(other, at, it->size);
    free(at);
    return other;
}

/* Where the broker puts what it hands over: the canonical ABI's own function. */
__attribute__((export_name("cabi_realloc"))) void *quern_realloc(void *old, size_t old_len, size_t align,
                                                                 size_t new_len) {
    if (new_len == 0) return (void *)align;
    void *at = quern_scratch(new_len, align);
    if (old_len > 0) memcpy(at, old, old_len < new_len ? old_len : new_len);
    return at;
}
