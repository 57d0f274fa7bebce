/* All of the SDK that goes into a component, as one unit. */
#include "freestanding/host.c"
#include "freestanding/memory.c"
#include "freestanding/string.c"
#include "freestanding/wide.c"
#include "params.c"
#include "reads.c"
#include "text.c"
