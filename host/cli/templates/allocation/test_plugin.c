#include "testing.h"

int main(void) {
    quern_test_plugin(&quern_allocation);
    quern_member members[2] = {{.id = QUERN_TEXT("a"), .weight = 2}, {.id = QUERN_TEXT("b"), .weight = 1}};
    quern_owned_queue queues[3] = {{.id = 0}, {.id = 1}, {.id = 2}};
    quern_request request = {.members = members, .members_len = 2, .queues = queues, .queues_len = 3};
    uint32_t owners[3] = {QUERN_NOBODY, QUERN_NOBODY, QUERN_NOBODY};
    quern_allocation.allocate(&request, quern_test_params(), owners);
    /* Who weighs twice as much gets twice as many. */
    QUERN_EXPECT(owners[0] == 0 && owners[1] == 0 && owners[2] == 1);
    return quern_test_result();
}
