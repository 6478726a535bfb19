/* proto/tls.h — TLS 1.3 between two hosts of a cluster: both show a certificate that the cluster's CA signed.
 *
 * A host's name is the one DNS name in its certificate (or its common name, if it has no DNS name). A client says
 * which host it means and accepts no other; a server learns who called. A link has no socket: it moves ciphertext
 * through the two functions of struct tls_io, straight to and from the buffers of OpenSSL.
 *
 * Why a peer was refused, or refused us, is one sentence: tls_why(). With TLS 1.3 a server looks at the client's
 * certificate after the client believes the handshake to be over, so that sentence may come from tls_read().
 *
 * Threads: a context may be used by many at a time; a link by one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/check.h"
#include "proto/base/cleanup.h"

#define TLS_WHY_BYTES 256
#define TLS_NAME_BYTES 64 /* of a host, with its NUL */
/* More ciphertext than this before the handshake is over ends the link. */
#define TLS_HANDSHAKE_BYTES_MAX (32u << 10)
/* A ticket older than this is not accepted. */
#define TLS_TICKET_S 3600

struct tls_context;
struct tls_link;
struct tls_session; /* lets a client skip the certificates at its next link to the same host */

struct tls_files {
    const char *ca, *cert, *key; /* PEM; `ca` may hold several, `cert` its intermediates */
};

/* -EINVAL: a file is missing or wrong; why says which and how. -ENOMEM. */
MUST_USE int tls_context_new(const struct tls_files *files, char why[static TLS_WHY_BYTES],
                             struct tls_context **ret_context);
void tls_context_free(struct tls_context *context);
DEFINE_FREEP(tls_context, struct tls_context)
const char *
tls_context_name(const struct tls_context *context); /* this host's, as its certificate says */
/* Seconds until this host's certificate expires, negative once it has. */
int64_t tls_context_valid_s(const struct tls_context *context);

/* The bytes' way out and in. Both return how many bytes they took or gave, -EAGAIN, or another negative errno;
 * receive returns 0 at the end. */
struct tls_io {
    ssize_t (*send)(void *ctx, const void *data, size_t size);
    ssize_t (*receive)(void *ctx, void *data, size_t size);
    void *ctx;
};

/* session may be NULL; it stays the caller's. -ENOMEM. */
MUST_USE int tls_client_new(struct tls_context *context, const char *host,
                            const struct tls_session *session, const struct tls_io *io,
                            struct tls_link **ret_link);
MUST_USE int tls_server_new(struct tls_context *context, const struct tls_io *io,
                            struct tls_link **ret_link);
void tls_link_free(struct tls_link *link);
DEFINE_FREEP(tls_link, struct tls_link)

/* All: -EAGAIN: until the transport moves. -EACCES: a certificate was refused, here or there. -EPROTO: not TLS 1.3,
 * or a broken stream. -EPIPE: the transport ended. Any other errno: the transport's. All but -EAGAIN are final. */
MUST_USE int tls_handshake(struct tls_link *link);
/* 0: the peer said goodbye. */
MUST_USE ssize_t tls_read(struct tls_link *link, void *data, size_t size);
/* Takes at most one record (16 KiB) a call. After -EAGAIN call again with the same bytes. */
MUST_USE ssize_t tls_write(struct tls_link *link, const void *data, size_t size);
/* Says goodbye, if the transport takes it. */
void tls_bye(struct tls_link *link);

const char *tls_peer_name(const struct tls_link *link); /* "" before the handshake is over */
const char *tls_why(const struct tls_link *link);       /* "" while nothing is wrong */
bool tls_resumed(const struct tls_link *link);
/* The newest ticket that the server gave, or NULL: the caller's from now on. */
struct tls_session *tls_take_session(struct tls_link *link);
void tls_session_free(struct tls_session *session);
