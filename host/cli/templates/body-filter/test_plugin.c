#include "testing.h"

int main(void) {
    quern_test_plugin(&quern_body_filter);
    const quern_params *p = quern_test_params("text", "paid");
    quern_message *urgent = quern_test_message("@tag", "urgent");
    QUERN_EXPECT(quern_body_filter.matches(urgent, p));
    quern_message *other = quern_test_message();
    other->body = QUERN_TEXT("{\"state\":\"new\"}");
    QUERN_EXPECT(!quern_body_filter.matches(other, p));
    other->body = QUERN_TEXT("{\"state\":\"paid\"}");
    QUERN_EXPECT(quern_body_filter.matches(other, p));
    return quern_test_result();
}
