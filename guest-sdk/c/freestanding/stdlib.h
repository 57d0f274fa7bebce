/* What a plugin gets for the C library's <stdlib.h>. What is allocated while it decides is gone when the call is over. */
#ifndef QUERN_STDLIB_H
#define QUERN_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *piece, size_t size);
void free(void *piece);
_Noreturn void abort(void);
void qsort(void *first, size_t count, size_t size, int (*compare)(const void *left, const void *right));

#endif
