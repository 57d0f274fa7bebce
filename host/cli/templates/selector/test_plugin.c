#include "testing.h"

int main(void) {
    quern_test_plugin(&quern_selector);
    const quern_params *p = quern_test_params();
    quern_queue queue[3] = {{.id = 0}, {.id = 1}, {.id = 2}};
    quern_queues queues = {queue, 3};
    quern_message *one = quern_test_message("@order_key", "customer-7", "@sequence", "7");
    quern_message *other = quern_test_message("@order_key", "customer-7", "@sequence", "8");
    QUERN_EXPECT(quern_selector.select(one, &queues, p) == quern_selector.select(other, &queues, p));
    return quern_test_result();
}
