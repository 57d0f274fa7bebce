#include "testing.h"

int main(void) {
    quern_test_plugin(&quern_filter);
    const quern_params *p = quern_test_params("min", "100");
    QUERN_EXPECT(quern_filter.matches(quern_test_message("region", "eu", "amount", "100"), p));
    /* An order without an amount is not large. */
    QUERN_EXPECT(!quern_filter.matches(quern_test_message("region", "eu"), p));
    return quern_test_result();
}
