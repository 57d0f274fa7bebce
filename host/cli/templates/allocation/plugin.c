/* An allocation strategy: who of a group consumes which queue? */
#include "quern.h"

#include <stdlib.h>

/* Writes the number of each queue's member, counted from 0. Members have id, zone and weight; queues broker, id, zone,
 * lag and today's owner. */
static void allocate(const quern_request *request, const quern_params *p, uint32_t *owners) {
    (void)p;
    size_t members = request->members_len;
    uint64_t *owned = calloc(members, sizeof *owned);
    if (!owned || members == 0) return;
    for (size_t queue = 0; queue < request->queues_len; queue++) {
        /* Whose share is the least full; of equals the first. */
        uint64_t least = UINT64_MAX;
        for (size_t member = 0; member < members; member++) {
            uint32_t weight = request->members[member].weight;
            uint64_t fill = (owned[member] + 1) * 1000000 / (weight ? weight : 1);
            if (fill < least) {
                least = fill;
                owners[queue] = member;
            }
        }
        owned[owners[queue]]++;
    }
    free(owned);
}

const struct quern_allocation quern_allocation = {
    .summary = "Shares by the members' weights",
    .allocate = allocate,
};
