/* What a plugin gets for the C library's <assert.h>. */
#include "../quern.h"

#undef assert
#ifdef NDEBUG
#define assert(expected) ((void)0)
#else
#define assert(expected) \
    ((expected) ? (void)0 : quern_panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #expected))
#endif
