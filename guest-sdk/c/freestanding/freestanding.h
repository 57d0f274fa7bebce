/* What the files that exist in WebAssembly alone know of each other. */
#ifndef QUERN_FREESTANDING_H
#define QUERN_FREESTANDING_H

#include <stdbool.h>

/* Each call of the broker's is between these; `deciding` says that nothing allocated in it is kept. */
void quern_begin(bool deciding);
void quern_end(void);

#endif
