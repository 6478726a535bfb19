/* Names of topics, with and without a prefix. */
#include <criterion/criterion.h>
#include <errno.h>
#include <regex.h>

#include "proto/openwhisk/topic.h"

TestSuite(topic, .timeout = 10);

/* A topic is ours only with its prefix and an instance where one belongs. */
Test(topic, parse)
{
    unsigned invoker = 99;
    cr_assert_eq(ow_topic_parse("", "invoker3", &invoker), OW_TOPIC_INVOKER);
    cr_assert_eq(invoker, 3);
    cr_assert_eq(ow_topic_parse("p-", "p-invoker12", &invoker), OW_TOPIC_INVOKER);
    cr_assert_eq(invoker, 12);
    cr_assert_eq(ow_topic_parse("p-", "invoker12", &invoker), OW_TOPIC_OTHER);
    cr_assert_eq(ow_topic_parse("", "invoker", &invoker), OW_TOPIC_OTHER);
    cr_assert_eq(ow_topic_parse("", "invokerX", &invoker), OW_TOPIC_OTHER);
    cr_assert_eq(ow_topic_parse("", "invoker99999999999999999999", &invoker), OW_TOPIC_OTHER);
    cr_assert_eq(ow_topic_parse("", "invoker4096", &invoker), OW_TOPIC_OTHER);
    cr_assert_eq(ow_topic_parse("", "completed0", &invoker), OW_TOPIC_COMPLETED);
    cr_assert_eq(ow_topic_parse("", "scheduler0", &invoker), OW_TOPIC_SCHEDULER);
    cr_assert_eq(ow_topic_parse("", "health", &invoker), OW_TOPIC_HEALTH);
    cr_assert_eq(ow_topic_parse("", "healthy", &invoker), OW_TOPIC_OTHER);
    cr_assert_eq(ow_topic_parse("", "cacheInvalidation", &invoker), OW_TOPIC_INVALIDATION);
    cr_assert_eq(invoker, 12);
}

static bool matches(const char *pattern, const char *topic)
{
    regex_t regex;
    cr_assert_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool is_match = regexec(&regex, topic, 0, NULL, 0) == 0;
    regfree(&regex);
    return is_match;
}

/* A prefix is taken literally. */
Test(topic, pattern)
{
    char pattern[256];
    cr_assert_eq(ow_topic_pattern("a.b-", OW_TOPIC_INVOKER, pattern, sizeof pattern), 0);
    cr_assert(matches(pattern, "a.b-invoker3"));
    cr_assert(!matches(pattern, "aXb-invoker3"));
    cr_assert(!matches(pattern, "xa.b-invoker3"));
    cr_assert(!matches(pattern, "a.b-invoker3x"));
    cr_assert_eq(ow_topic_pattern("", OW_TOPIC_HEALTH, pattern, sizeof pattern), 0);
    cr_assert_str_eq(pattern, "^health$");
    cr_assert_eq(ow_topic_pattern("", OW_TOPIC_INVOKER, pattern, 4), -ENAMETOOLONG);
}
