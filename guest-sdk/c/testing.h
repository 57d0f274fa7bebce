/* For tests of a plugin on its author's own machine; testing.c is linked with them. What is made here stays until the
 * program ends. */
#ifndef QUERN_TESTING_H
#define QUERN_TESTING_H

#include "quern.h"

/* The plugin that is tested: comes first. */
#define quern_test_plugin(plugin) quern_test_about((const struct quern_about *)(plugin))
void quern_test_about(const struct quern_about *about);

/* Names and values in turn, all of them strings. */
#define QUERN_PAIRS(...) ((const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

/* What a consumer sets, checked and completed as it is by a broker; the program ends if it is refused. */
#define quern_test_params(...) quern_test_params_of(QUERN_PAIRS(__VA_ARGS__))
const quern_params *quern_test_params_of(const char *const *pairs);
/* Why these are refused; NULL = they are not. */
#define quern_test_refused(...) quern_test_refused_of(QUERN_PAIRS(__VA_ARGS__))
const char *quern_test_refused_of(const char *const *pairs);
/* A message that has these: "region", "@tag", each as it is read, without ":int". */
#define quern_test_message(...) quern_test_message_of(QUERN_PAIRS(__VA_ARGS__))
quern_message *quern_test_message_of(const char *const *pairs);
/* What the last call of quern_fail has said, once; NULL = there was none. */
const char *quern_test_failure(void);

/* Says what was not as expected, and where; quern_test_result is what main returns. */
#define QUERN_EXPECT(expected) quern_test_expect((expected), __FILE__, __LINE__, #expected)
void quern_test_expect(bool is_met, const char *file, int line, const char *expected);
int quern_test_result(void);

#endif
