/* daemon/net/hello.c — the first two frames of a connection: who, which version, which features. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/net/conn.h"
#include "proto/messages.pb-c.h"

/* What both ends name is in use; what one end does not know is left out. None is optional in version 1. */
static const char *const features[] = {NULL}; /* ends with NULL */

int hello_begin(struct conn *conn)
{
    Whiskfs__Hello hello = WHISKFS__HELLO__INIT;
    hello.version_min = PROTOCOL_VERSION_MIN;
    hello.version_max = PROTOCOL_VERSION_MAX;
    hello.host = conn->peers->name;
    hello.channel = (uint32_t)conn->channel;
    return conn_queue(conn, FRAME_CONTROL, FRAME_HELLO, conn_next_id(conn), &hello.base);
}

/* The last word: why this connection will not be. */
static int decline(struct conn *conn, uint64_t id, int error, const char *text)
{
    (void)conn_violation(conn, text);
    Whiskfs__Error body = WHISKFS__ERROR__INIT;
    char copy[TLS_WHY_BYTES];
    (void)snprintf(copy, sizeof copy, "%s", text);
    body.code = wire_code_of_errno(error);
    body.text = copy;
    conn->has_last_word = conn_last_word(conn, id, &body.base);
    return -EPROTO;
}

static size_t common_features(const Whiskfs__Hello *hello, char **ret_common)
{
    size_t n = 0;
    for (size_t k = 0; features[k]; k++)
        for (size_t i = 0; i < hello->n_features; i++)
            if (strcmp(hello->features[i], features[k]) == 0) {
                ret_common[n++] = hello->features[i];
                break;
            }
    return n;
}

static int accept_hello(struct conn *conn, uint64_t id, const Whiskfs__Hello *hello)
{
    char why[TLS_WHY_BYTES];
    if (strcmp(hello->host, conn->peer->name) != 0) {
        (void)snprintf(why, sizeof why, "hello from '%s' with the certificate of '%s'", hello->host,
                       conn->peer->name);
        return decline(conn, id, EACCES, why);
    }
    if (hello->version_min > PROTOCOL_VERSION_MAX || hello->version_max < PROTOCOL_VERSION_MIN) {
        (void)snprintf(why, sizeof why, "'%s' speaks protocol versions %u to %u, '%s' %u to %u",
                       conn->peer->name, hello->version_min, hello->version_max, conn->peers->name,
                       PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX);
        return decline(conn, id, EPROTONOSUPPORT, why);
    }
    if (hello->channel > CHANNEL_DATA)
        return decline(conn, id, EINVAL, "a hello for an unknown channel");
    conn->channel = (enum channel)hello->channel;
    char *common[N_ELEMENTS(features)];
    Whiskfs__HelloReply reply = WHISKFS__HELLO_REPLY__INIT;
    reply.version = MIN(hello->version_max, PROTOCOL_VERSION_MAX);
    reply.host = conn->peers->name;
    reply.n_features = common_features(hello, common);
    reply.features = common;
    int r = conn_queue(conn, FRAME_CONTROL, FRAME_HELLO_REPLY, id, &reply.base);
    if (r == 0)
        peers_ready(conn->peers, conn);
    return r;
}

static int accept_reply(struct conn *conn, const Whiskfs__HelloReply *reply)
{
    if (reply->version < PROTOCOL_VERSION_MIN || reply->version > PROTOCOL_VERSION_MAX)
        return conn_violation(conn, "an answer to hello with a version that was not offered");
    if (strcmp(reply->host, conn->peer->name) != 0)
        return conn_violation(conn, "an answer to hello with another host's name");
    peers_ready(conn->peers, conn);
    return 0;
}

static int accept_error(struct conn *conn, const Whiskfs__Error *error)
{
    char why[TLS_WHY_BYTES];
    (void)snprintf(why, sizeof why, "it declined: %s", error->text);
    conn_shut(conn, why);
    return error->code == wire_code_of_errno(EACCES) ? -EACCES : -EPROTO;
}

static int take(struct conn *conn, const struct frame *frame, const ProtobufCMessage *m)
{
    if (frame->type == FRAME_HELLO)
        return accept_hello(conn, frame->id, (const Whiskfs__Hello *)(const void *)m);
    if (frame->type == FRAME_HELLO_REPLY)
        return accept_reply(conn, (const Whiskfs__HelloReply *)(const void *)m);
    return accept_error(conn, (const Whiskfs__Error *)(const void *)m);
}

int hello_frame(struct conn *conn, const struct frame *frame)
{
    const ProtobufCMessageDescriptor *expected = NULL;
    if (!conn->is_dialler && frame->type == FRAME_HELLO && frame->id != 0)
        expected = &whiskfs__hello__descriptor;
    else if (conn->is_dialler && frame->type == FRAME_HELLO_REPLY)
        expected = &whiskfs__hello_reply__descriptor;
    else if (conn->is_dialler && frame->type == FRAME_ERROR)
        expected = &whiskfs__error__descriptor;
    if (!expected)
        return conn_violation(conn, "a frame before hello");
    ProtobufCMessage *m = NULL;
    if (message_get(frame->body, expected, &m) < 0)
        return conn_violation(conn, "a malformed hello");
    int r = take(conn, frame, m);
    message_free(m);
    return r;
}
