/* Decoding: every captured message, the forms that were not captured, and what must never get through. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/openwhisk/message.h"
#include "proto/openwhisk/topic.h"
#include "tests/unit/openwhisk/capture.h"

TestSuite(messages, .timeout = 30);

static const struct ow_limits limits = OW_LIMITS_DEFAULT;

static int decode(const char *text, struct ow_message *message)
{
    return ow_message_decode(text, strlen(text), &limits, message);
}

static bool holds(const void *data, size_t size, const char *word)
{
    return memmem(data, size, word, strlen(word)) != NULL;
}

static void assert_no_secret(const void *data, size_t size)
{
    cr_assert(!holds(data, size, "SECRET"));
    cr_assert(!holds(data, size, "secret"));
    cr_assert(!holds(data, size, "U0VDUkVU"));
    cr_assert(!holds(data, size, "11111111-2222"));
}

struct tally {
    unsigned by_kind[OW_CONTAINER + 1];
    unsigned n_secrets; /* payloads that hold one */
    unsigned n_noise, n_caused, n_volumes, n_refused, n_errors;
};

static void check_record(void *arg, const struct captured *record)
{
    struct tally *tally = arg;
    struct ow_message m;
    memset(&m, 'U', sizeof m);
    cr_assert_eq(ow_message_decode(record->payload, record->size, &limits, &m), 0, "%s",
                 record->topic);
    tally->by_kind[m.kind]++;
    tally->n_secrets += holds(record->payload, record->size, "SECRET") ||
                        holds(record->payload, record->size, "U0VDUkVU");
    assert_no_secret(&m, sizeof m);
    char line[2048];
    ow_message_describe(&m, line, sizeof line);
    assert_no_secret(line, strlen(line));
    if (m.kind == OW_ACTIVATION) {
        tally->n_noise += m.activation.is_noise;
        tally->n_caused += m.activation.cause[0] != '\0';
        tally->n_volumes += m.activation.volumes.n;
        tally->n_refused += m.activation.volumes.n_refused;
        cr_assert_eq(strlen(m.activation.id), 32);
        cr_assert_str_eq(m.activation.namespace_name,
                         m.activation.is_noise ? "whisk.system" : "guest");
    } else if (m.kind == OW_ACK) {
        tally->n_errors += m.ack.is_error;
    }
}

/* Every message captured from the classic generation decodes, and no key survives. */
Test(messages, classic_capture)
{
    struct tally tally = {0};
    unsigned n = captured_generation("classic", check_record, &tally);
    cr_assert_eq(n, 332);
    cr_assert_eq(tally.by_kind[OW_ACTIVATION], 59);
    cr_assert_eq(tally.by_kind[OW_ACK], 108);
    cr_assert_eq(tally.by_kind[OW_PING], 60);
    cr_assert_eq(tally.by_kind[OW_INVALIDATION], 14);
    cr_assert_eq(tally.by_kind[OW_OTHER], 91); /* topic `events` */
    cr_assert_eq(tally.n_noise, 8);
    cr_assert_eq(tally.n_caused, 47);
    cr_assert_geq(tally.n_secrets, 59);
    cr_assert_gt(tally.n_errors, 0); /* badseq */
    /* The capture names paths inside of volumes ("imgnet/in"), which are no volume names. */
    cr_assert_eq(tally.n_volumes, 0);
    cr_assert_gt(tally.n_refused, 40);
}

/* Every message captured from the newer generation decodes, and no key survives. */
Test(messages, fpc_capture)
{
    struct tally tally = {0};
    unsigned n = captured_generation("fpc", check_record, &tally);
    cr_assert_eq(n, 258);
    cr_assert_eq(tally.by_kind[OW_ACTIVATION], 54);
    cr_assert_eq(tally.by_kind[OW_ACK], 104);
    cr_assert_eq(tally.by_kind[OW_INVALIDATION], 1);
    cr_assert_eq(tally.by_kind[OW_CONTAINER], 17 + 13);
    cr_assert_eq(tally.n_caused, 47);
    cr_assert_geq(tally.n_secrets, 54);
}

static const char activation[] =
    "{\"content\":{\"shard\":\"s-1\",\"__ow_volume\":[\"imgnet\",{\"name\":\"work\",\"scope\":"
    "\"sequence\","
    "\"size\":\"2 "
    "GB\",\"read_only\":true,\"copies\":2}],\"__ow_headers\":{\"authorization\":\"Basic "
    "U0VDUkVU\"}},\"future\":[1,{\"a\":null}],"
    "\"transid\":[\"child\",1785970001500,true,[\"mid\",1,[\"rootid\",1785970001200]]],"
    "\"user\":{\"namespace\":{\"uuid\":\"u\",\"name\":\"guest\"},\"authkey\":{\"api_key\":\"u:"
    "SECRET\"},"
    "\"subject\":\"guest\",\"rights\":[],\"limits\":{}},"
    "\"action\":{\"name\":\"infer\",\"version\":\"0.0.3\",\"path\":\"guest/"
    "pkg\",\"binding\":\"guest/b\"},"
    "\"revision\":null,\"activationId\":\"7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5\",\"blocking\":true,"
    "\"rootControllerIndex\":{\"asString\":\"0\"},\"initArgs\":[],\"lockedArgs\":{},"
    "\"cause\":\"c0ffee00c0ffee00c0ffee00c0ffee00\"}";

/* All that an activation says to us, whatever the order of its keys and whatever else it holds. */
Test(messages, activation_fields)
{
    struct ow_message m;
    cr_assert_eq(decode(activation, &m), 0);
    cr_assert_eq(m.kind, OW_ACTIVATION);
    const struct ow_activation *a = &m.activation;
    cr_assert_str_eq(a->id, "7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5");
    cr_assert_str_eq(a->cause, "c0ffee00c0ffee00c0ffee00c0ffee00");
    cr_assert_str_eq(ow_activation_run(a), a->cause);
    cr_assert_str_eq(a->action, "guest/pkg/infer");
    cr_assert_str_eq(a->namespace_name, "guest");
    cr_assert_str_eq(a->root_transid, "rootid");
    cr_assert(a->is_blocking && !a->is_noise);
    cr_assert_eq(a->volumes.n, 2);
    cr_assert_eq(a->volumes.n_refused, 0);
    cr_assert_str_eq(a->volumes.refs[0].name, "imgnet");
    cr_assert_eq(a->volumes.refs[0].scope, OW_SCOPE_NAMESPACE);
    cr_assert_str_eq(a->volumes.refs[1].name, "work");
    cr_assert_eq(a->volumes.refs[1].scope, OW_SCOPE_SEQUENCE);
    cr_assert_eq(a->volumes.refs[1].size_bytes, 2ULL << 30);
    cr_assert(a->volumes.refs[1].is_read_only);
}

#define USER "\"user\":{\"namespace\":{\"name\":\"guest\"}},"
#define ID "\"activationId\":\"7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5\""

/* null is the same as absent, an array is as good a content as an object, an action may be a bare string. */
Test(messages, tolerance)
{
    static const char *const good[] = {
        "{" USER ID
        ",\"action\":\"guest/pkg/infer\",\"cause\":null,\"content\":null,\"transid\":null}",
        "{" USER ID
        ",\"action\":\"/guest/pkg/infer@0.0.3\",\"content\":[1,{\"__ow_volume\":\"x\"}]}",
        "{" USER ID ",\"action\":{\"path\":\"guest/pkg\",\"name\":\"infer\"},\"blocking\":null}",
        "{" USER ID ",\"action\":\"guest/pkg/infer\",\"content\":{\"n\":\"a\\u0000b\","
        "\"big\":123456789012345678901234567890,\"__ow_volume\":null},\"lockedArgs\":null}",
    };
    for (unsigned i = 0; i < N_ELEMENTS(good); i++) {
        struct ow_message m;
        cr_assert_eq(decode(good[i], &m), 0, "%u", i);
        cr_assert_eq(m.kind, OW_ACTIVATION);
        cr_assert_str_eq(m.activation.action, "guest/pkg/infer", "%u", i);
        cr_assert_str_eq(m.activation.cause, "");
        cr_assert_str_eq(ow_activation_run(&m.activation), m.activation.id);
        cr_assert_eq(m.activation.volumes.n + m.activation.volumes.n_refused, 0);
    }
}

/* An @ that begins no version belongs to the action's name. */
Test(messages, at_in_action_name)
{
    struct ow_message m;
    cr_assert_eq(decode("{" USER ID ",\"action\":\"guest/me@work\"}", &m), 0);
    cr_assert_str_eq(m.activation.action, "guest/me@work");
}

/* What is no message is refused, and the caller's struct stays as it was. */
Test(messages, malformed)
{
    static const char *const bad[] = {
        "",
        "x",
        "[]",
        "3",
        "null",
        "{",
        "{\"a\":1}x",
        "{" ID "}",                                                     /* no action */
        "{" ID ",\"action\":\"guest/infer\"}",                          /* no user */
        "{" USER "\"activationId\":7,\"action\":\"guest/infer\"}",      /* types */
        "{" USER "\"activationId\":\"7F\",\"action\":\"guest/infer\"}", /* no id */
        "{" USER ID ",\"action\":\"infer\"}",                           /* no namespace */
        "{" USER ID ",\"action\":\"/infer\"}",
        "{" USER ID ",\"action\":\"guest/\"}",
        "{" USER ID ",\"action\":{\"path\":\"guest\"}}",
        "{" USER ID ",\"action\":\"guest/in\\u0000fer\"}",
        "{" USER ID ",\"action\":\"guest/in\\nfer\"}",
        "{" USER ID ",\"action\":\"guest/infer\",\"cause\":\"../../etc\"}",
        "{" USER ID ",\"action\":\"guest/infer\",\"transid\":[]}",
        "{" USER ID ",\"action\":\"guest/infer\",\"blocking\":1}",
        "{\"name\":{}}",
        "{\"name\":{\"instance\":-1}}",
        "{\"name\":{\"instance\":4096}}",
        "{\"name\":{\"instance\":1.5}}",
        "{\"name\":{\"instance\":1e300}}",
        "{\"name\":{\"instance\":1,\"userMemory\":\"many\"}}",
        "{\"name\":{\"instance\":1,\"userMemory\":\"99999999999 GB\"}}",
        "{\"key\":{}}",
        "{\"creationId\":\"x\"}",
        "{\"creationId\":\"x\",\"action\":\"guest/a\"}",
        "{\"response\":7}",
        "{\"response\":\"short\"}",
        "{\"response\":{}}",
        "{\"instance\":{\"instance\":3}}",
    };
    for (unsigned i = 0; i < N_ELEMENTS(bad); i++) {
        struct ow_message m = {.kind = OW_CONTAINER};
        cr_assert_eq(decode(bad[i], &m), -EBADMSG, "%u: %s", i, bad[i]);
        cr_assert_eq(m.kind, OW_CONTAINER);
    }
}

/* Size and depth have limits, and brackets inside of strings are not depth. */
Test(messages, limits)
{
    struct ow_message m;
    char deep[2048] = "{\"content\":";
    memset(deep + strlen(deep), '[', sizeof deep - strlen(deep));
    cr_assert_eq(ow_message_decode(deep, sizeof deep, &limits, &m), -EMSGSIZE);
    char braces[1024], text[2048];
    memset(braces, '{', sizeof braces);
    (void)snprintf(text, sizeof text, "{\"future\":\"\\\"%.*s\"}", (int)sizeof braces, braces);
    cr_assert_eq(decode(text, &m), 0);
    cr_assert_eq(m.kind, OW_OTHER);
    struct ow_limits small = {.max_bytes = 16, .max_depth = 8};
    cr_assert_eq(ow_message_decode(activation, strlen(activation), &small, &m), -EMSGSIZE);
}

/* 1 MiB of arguments is what OpenWhisk allows. */
Test(messages, largest_payload)
{
    size_t pad = 1 << 20;
    char *padding = malloc(pad + 1);
    memset(padding, 'x', pad);
    padding[pad] = '\0';
    char *text;
    cr_assert_gt(asprintf(&text,
                          "{" USER ID ",\"action\":\"guest/infer\",\"content\":{\"pad\":\"%s\","
                          "\"__ow_volume\":\"big\"}}",
                          padding),
                 0);
    struct ow_message m;
    cr_assert_eq(decode(text, &m), 0);
    cr_assert_str_eq(m.activation.volumes.refs[0].name, "big");
    free(text);
    free(padding);
}

/* An encrypted parameter's value is no name. */
Test(messages, encrypted_volume)
{
    struct ow_message m;
    cr_assert_eq(decode("{" USER ID
                        ",\"action\":\"guest/infer\",\"content\":{\"__ow_volume\":\"abc\"},"
                        "\"lockedArgs\":{\"__ow_volume\":\"aes-128\"}}",
                        &m),
                 0);
    cr_assert_eq(m.activation.volumes.n, 0);
    cr_assert_eq(m.activation.volumes.n_refused, 1);
}

#define TRANSID "\"transid\":[\"x\",1785970001500]"
#define INSTANCE                                                                                   \
    "\"instance\":{\"instance\":1,\"userMemory\":\"2147483648 B\",\"instanceType\":\"invoker\","   \
    "\"tags\":[\"gpu\"],\"dedicatedNamespaces\":[],\"uniqueName\":\"node-b\"}"

/* The three forms of an acknowledgement, in full and shrunk to the activation's id. */
Test(messages, acknowledgements)
{
    static const struct {
        const char *text;
        enum ow_ack_form form;
        bool is_shrunk, is_error;
    } cases[] = {
        {"{" TRANSID ",\"response\":{" ID
         ",\"cause\":\"c0ffee00c0ffee00c0ffee00c0ffee00\",\"namespace\":\"guest\","
         "\"response\":{\"statusCode\":0,\"result\":{\"out\":1}}}}",
         OW_ACK_RESULT, false, false},
        {"{" TRANSID ",\"response\":{" ID
         ",\"response\":{\"statusCode\":1,\"result\":{\"error\":\"no\"}}}}",
         OW_ACK_RESULT, false, true},
        {"{" TRANSID ",\"response\":{" ID
         ",\"response\":{\"statusCode\":0,\"result\":{\"error\":\"no\"}}}}",
         OW_ACK_RESULT, false, true},
        {"{" TRANSID ",\"response\":{" ID ",\"response\":{\"statusCode\":0,\"result\":[1]}}}",
         OW_ACK_RESULT, false, false},
        {"{" TRANSID ",\"response\":\"7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5\"}", OW_ACK_RESULT, true,
         false},
        {"{" TRANSID "," ID ",\"isSystemError\":false," INSTANCE "}", OW_ACK_COMPLETION, false,
         false},
        {"{" TRANSID "," ID ",\"response\":null," INSTANCE "}", OW_ACK_COMPLETION, false, false},
        {"{" TRANSID "," ID ",\"isSystemError\":true," INSTANCE "}", OW_ACK_COMPLETION, false,
         true},
        {"{" TRANSID
         ",\"response\":\"7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5\",\"isSystemError\":false," INSTANCE "}",
         OW_ACK_COMBINED, true, false},
        {"{" INSTANCE ",\"response\":{" ID
         ",\"response\":{\"statusCode\":2}},\"isSystemError\":null}",
         OW_ACK_COMBINED, false, true},
    };
    for (unsigned i = 0; i < N_ELEMENTS(cases); i++) {
        struct ow_message m;
        cr_assert_eq(decode(cases[i].text, &m), 0, "%u", i);
        cr_assert_eq(m.kind, OW_ACK, "%u", i);
        cr_assert_str_eq(m.ack.id, "7f1a0b6c9d3e4f58a2c1d0e9f8b7a6c5", "%u", i);
        cr_assert_eq(m.ack.form, cases[i].form, "%u", i);
        cr_assert_eq(m.ack.is_shrunk, cases[i].is_shrunk, "%u", i);
        cr_assert_eq(m.ack.is_error, cases[i].is_error, "%u", i);
        if (m.ack.has_invoker) {
            cr_assert_eq(m.ack.invoker.id, 1);
            cr_assert_str_eq(m.ack.invoker.unique_name, "node-b");
        }
    }
}

/* Pings of 1.0.0 have no isEnabled; memory comes in several units. */
Test(messages, pings)
{
    struct ow_message m;
    cr_assert_eq(
        decode("{\"name\":{\"instance\":3,\"userMemory\":\"2 GB\",\"instanceType\":\"invoker\"}}",
               &m),
        0);
    cr_assert_eq(m.kind, OW_PING);
    cr_assert(m.ping.is_enabled);
    cr_assert_eq(m.ping.invoker.id, 3);
    cr_assert_eq(m.ping.invoker.user_memory_bytes, 2ULL << 30);
    cr_assert_eq(
        decode("{\"isEnabled\":false,\"name\":{\"instance\":0,\"userMemory\":\"1024 B\"}}", &m), 0);
    cr_assert(!m.ping.is_enabled);
    cr_assert_eq(m.ping.invoker.user_memory_bytes, 1024);
}

/* The three forms of what is said of containers. */
Test(messages, containers)
{
#define ABOUT "\"action\":{\"path\":\"guest/pkg\",\"name\":\"a\"},\"invocationNamespace\":\"me\""
    static const struct {
        const char *text;
        enum ow_container_form form;
        bool is_error;
    } cases[] = {
        {"{" ABOUT ",\"creationId\":\"x\",\"whiskActionMetaData\":{\"big\":[]}}",
         OW_CONTAINER_CREATION, false},
        {"{" ABOUT ",\"whiskActionMetaData\":{}}", OW_CONTAINER_DELETION, false},
        {"{" ABOUT ",\"creationId\":\"x\",\"rootInvokerIndex\":{\"instance\":2}}",
         OW_CONTAINER_CREATED, false},
        {"{" ABOUT
         ",\"creationId\":\"x\",\"rootInvokerIndex\":{\"instance\":2},\"error\":\"TimeoutError\"}",
         OW_CONTAINER_CREATED, true},
    };
    for (unsigned i = 0; i < N_ELEMENTS(cases); i++) {
        struct ow_message m;
        cr_assert_eq(decode(cases[i].text, &m), 0, "%u", i);
        cr_assert_eq(m.kind, OW_CONTAINER);
        cr_assert_eq(m.container.form, cases[i].form);
        cr_assert_str_eq(m.container.action, "guest/pkg/a");
        cr_assert_str_eq(m.container.namespace_name, "me");
        cr_assert_eq(m.container.is_error, cases[i].is_error);
        cr_assert_eq(m.container.invoker.id, m.container.form == OW_CONTAINER_CREATED ? 2 : 0);
        cr_assert(!m.container.is_noise);
    }
    struct ow_message m;
    cr_assert_eq(
        decode("{\"creationId\":\"x\",\"action\":\"whisk.system/warmUp\",\"invocationNamespace\":"
               "\"whisk.system\"}",
               &m),
        0);
    cr_assert(m.container.is_noise);
}

/* Health checks and warm-ups are noise. */
Test(messages, noise)
{
    static const char *const noise[] = {
        "{" USER ID ",\"action\":\"whisk.system/invokerHealthTestAction0\"}",
        "{" USER ID ",\"action\":\"whisk.system/warmUp\"}",
        "{" USER ID ",\"action\":\"guest/a\",\"transid\":[\"sid_warmUp\",1]}",
    };
    for (unsigned i = 0; i < N_ELEMENTS(noise); i++) {
        struct ow_message m;
        cr_assert_eq(decode(noise[i], &m), 0);
        cr_assert(m.activation.is_noise);
    }
}

static unsigned n_zeroed_secrets;

/* The linker puts it before the C library's (--wrap): it sees what is wiped. */
void __wrap_explicit_bzero(void *data, size_t size);
void __wrap_explicit_bzero(void *data, size_t size)
{
    n_zeroed_secrets += holds(data, size, "SECRET");
    memset(data, 0, size);
    __asm__ volatile("" : : "r"(data) : "memory");
}

/* What the call becomes in a fortified build. */
void __wrap___explicit_bzero_chk(void *data, size_t size, size_t room);
void __wrap___explicit_bzero_chk(void *data, size_t size, size_t room)
{
    cr_assert_leq(size, room);
    __wrap_explicit_bzero(data, size);
}

/* A key is passed over where it lies. What is parsed is wiped before its memory is free, should it hold a secret: the
 * string of the tree, and the buffer of the lexer that it grew in. */
Test(messages, secrets_are_not_parsed_or_wiped)
{
    static const char secret[] =
        "SECRETsecretSECRETsecretSECRETsecretSECRETsecretSECRETsecretSECRETsecret";
    char text[512];
    struct ow_message m;
    (void)snprintf(text, sizeof text,
                   "{%s%s,\"action\":\"guest/infer\",\"authkey\":{\"api_key\":\"%s\"}}", USER, ID,
                   secret);
    n_zeroed_secrets = 0;
    cr_assert_eq(decode(text, &m), 0);
    cr_assert_eq(n_zeroed_secrets, 0);
    (void)snprintf(text, sizeof text,
                   "{%s%s,\"action\":\"guest/infer\",\"content\":{\"__ow_volume\":\"%s\"}}", USER,
                   ID, secret);
    cr_assert_eq(decode(text, &m), 0);
    cr_assert_geq(n_zeroed_secrets, 2);
    n_zeroed_secrets = 0;
    text[strlen(text) - 1] = ' ';
    cr_assert_eq(decode(text, &m), -EBADMSG);
    cr_assert_geq(n_zeroed_secrets, 2);
}

/* What is passed over has to be JSON all the same. */
Test(messages, grammar_of_what_is_passed_over)
{
    static const char *const good[] = {"0",   "-0.5e+7",        "1E9",  "\"\\\"\"", "[]", "[ 1 ]",
                                       "{ }", "{\"a\" : [{}]}", "null", " true "};
    static const char *const bad[] = {"",          "01",     "1.",       ".5",   "1e",    "-",
                                      "+1",        "tru",    "[1,",      "[1,]", "[1 2]", "{,}",
                                      "{\"a\"}",   "{a:1}",  "{\"a\":}", "\"",   "'a'",   "[1}",
                                      "{\"a\":1]", "\"\n\"", "nul",      "NaN",  "]",     "\"\\"};
    struct ow_message m;
    char text[128];
    for (unsigned i = 0; i < N_ELEMENTS(good); i++) {
        (void)snprintf(text, sizeof text, "{\"future\":%s,%s}", good[i], ID);
        cr_assert_eq(decode(text, &m), -EBADMSG, "no action: %s", text);
        (void)snprintf(text, sizeof text, "{\"future\":%s,%s%s,\"action\":\"g/a\"}", good[i], USER,
                       ID);
        cr_assert_eq(decode(text, &m), 0, "%s", text);
    }
    for (unsigned i = 0; i < N_ELEMENTS(bad); i++) {
        (void)snprintf(text, sizeof text, "{%s%s,\"action\":\"g/a\",\"future\":%s}", USER, ID,
                       bad[i]);
        cr_assert_eq(decode(text, &m), -EBADMSG, "%s", text);
    }
}

/* A key may be written with escapes, and of two the last counts. */
Test(messages, keys)
{
    struct ow_message m;
    cr_assert_eq(decode("{" USER ID ",\"action\":\"guest/a\",\"act\\u0069on\":\"guest/b\"}", &m),
                 0);
    cr_assert_str_eq(m.activation.action, "guest/b");
    cr_assert_eq(decode("{" USER ID ",\"action\":\"guest/a\",\"action\\u0000\":\"guest/b\"}", &m),
                 0);
    cr_assert_str_eq(m.activation.action, "guest/a");
}

/* A wanted value of any length does not make us copy it. */
Test(messages, huge_volume)
{
    char *padding = calloc(1, (1 << 19) + 1), *text;
    memset(padding, 'x', 1 << 19);
    cr_assert_gt(asprintf(&text,
                          "{%s%s,\"action\":\"guest/a\",\"content\":{\"__ow_volume\":\"%s\"}}",
                          USER, ID, padding),
                 0);
    struct ow_message m;
    cr_assert_eq(decode(text, &m), 0);
    cr_assert_eq(m.activation.volumes.n, 0);
    cr_assert_eq(m.activation.volumes.n_refused, 1);
    free(text);
    free(padding);
}
