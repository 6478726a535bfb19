#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>

#include "proto/tls_internal.h"

static int refuse(struct tls_link *link, const char *why, int error)
{
    (void)snprintf(link->why, sizeof link->why, "%s", why);
    return error;
}

/* ---- the BIO: OpenSSL's buffers to and from struct tls_io ---- */

static int bio_write(BIO *bio, const char *data, size_t size, size_t *ret_size)
{
    struct tls_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = link->io.send(link->io.ctx, data, size);
    if (n > 0) {
        *ret_size = (size_t)n;
        return 1;
    }
    if (n == -EAGAIN)
        BIO_set_retry_write(bio);
    else
        link->io_error = n < 0 ? (int)n : -EPIPE;
    return 0;
}

static int bio_read(BIO *bio, char *data, size_t size, size_t *ret_size)
{
    struct tls_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = link->io.receive(link->io.ctx, data, size);
    if (n > 0) {
        link->received_bytes += (uint64_t)n;
        if (!link->is_up && link->received_bytes > TLS_HANDSHAKE_BYTES_MAX) {
            link->io_error = refuse(link, "its handshake is too long", -EPROTO);
            return 0;
        }
        *ret_size = (size_t)n;
        return 1;
    }
    if (n == -EAGAIN)
        BIO_set_retry_read(bio);
    else if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    else
        link->io_error = (int)n;
    return 0;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_FLUSH)
        return 1;
    if (command == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return 0;
}

static BIO_METHOD *bio_method;

__attribute__((constructor)) static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "whiskfs peer");
    if (bio_method && (BIO_meth_set_write_ex(bio_method, bio_write) != 1 ||
                       BIO_meth_set_read_ex(bio_method, bio_read) != 1 ||
                       BIO_meth_set_ctrl(bio_method, bio_ctrl) != 1)) {
        BIO_meth_free(bio_method);
        bio_method = NULL;
    }
}

__attribute__((destructor)) static void drop_bio_method(void)
{
    BIO_meth_free(bio_method);
}

/* ---- a link's life ---- */

static int link_new(struct tls_context *context, const struct tls_io *io,
                    struct tls_link **ret_link)
{
    AUTO(tls_link_freep) struct tls_link *link = calloc(1, sizeof *link);
    if (!link || !bio_method)
        return -ENOMEM;
    link->io = *io;
    link->ssl = SSL_new(context->ssl);
    BIO *bio = link->ssl ? BIO_new(bio_method) : NULL;
    if (!bio)
        return -ENOMEM;
    BIO_set_data(bio, link);
    BIO_set_init(bio, 1);
    SSL_set_bio(link->ssl, bio, bio);
    if (SSL_set_app_data(link->ssl, link) != 1)
        return -ENOMEM;
    *ret_link = TAKE(link);
    return 0;
}

int tls_client_new(struct tls_context *context, const char *host, const struct tls_session *session,
                   const struct tls_io *io, struct tls_link **ret_link)
{
    AUTO(tls_link_freep) struct tls_link *link = NULL;
    int r = link_new(context, io, &link);
    if (r < 0)
        return r;
    link->is_client = true;
    if (strlen(host) >= sizeof link->meant)
        return -EINVAL;
    (void)snprintf(link->meant, sizeof link->meant, "%s", host);
    if (session) {
        /* A copy: OpenSSL changes what it is given, and others may be using it. */
        SSL_SESSION *copy = SSL_SESSION_dup((const SSL_SESSION *)(const void *)session);
        if (copy)
            (void)SSL_set_session(link->ssl, copy);
        SSL_SESSION_free(copy);
        ERR_clear_error();
    }
    SSL_set_connect_state(link->ssl);
    *ret_link = TAKE(link);
    return 0;
}

int tls_server_new(struct tls_context *context, const struct tls_io *io, struct tls_link **ret_link)
{
    AUTO(tls_link_freep) struct tls_link *link = NULL;
    int r = link_new(context, io, &link);
    if (r < 0)
        return r;
    SSL_set_accept_state(link->ssl);
    *ret_link = TAKE(link);
    return 0;
}

void tls_link_free(struct tls_link *link)
{
    if (!link)
        return;
    /* Else OpenSSL takes a link that ended without goodbye for an attack, and spoils its tickets. */
    if (link->ssl)
        SSL_set_shutdown(link->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(link->ssl);
    SSL_SESSION_free(link->session);
    free(link);
}

/* ---- moving bytes ---- */

/* What a call of OpenSSL that did not succeed means. Never 0. */
static int failure(struct tls_link *link, int result)
{
    switch (SSL_get_error(link->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        ERR_clear_error();
        return -EAGAIN;
    case SSL_ERROR_SYSCALL:
        ERR_clear_error();
        if (link->why[0] == '\0')
            (void)snprintf(link->why, sizeof link->why, "connection lost: %s",
                           link->io_error ? strerrordesc_np(-link->io_error) : "it ended");
        return link->io_error ? link->io_error : -EPIPE;
    case SSL_ERROR_ZERO_RETURN:
        return -EPIPE;
    default:
        return tls_explain(link);
    }
}

int tls_handshake(struct tls_link *link)
{
    if (link->is_up)
        return 0;
    ERR_clear_error();
    int result = SSL_do_handshake(link->ssl);
    if (result != 1)
        return failure(link, result);
    if (!tls_check_peer(link))
        return -EACCES;
    link->is_up = true;
    return 0;
}

ssize_t tls_read(struct tls_link *link, void *data, size_t size)
{
    size_t n = 0;
    ERR_clear_error();
    int result = SSL_read_ex(link->ssl, data, size, &n);
    if (result == 1)
        return (ssize_t)n;
    if (SSL_get_error(link->ssl, result) == SSL_ERROR_ZERO_RETURN)
        return 0;
    return failure(link, result);
}

ssize_t tls_write(struct tls_link *link, const void *data, size_t size)
{
    size_t n = 0;
    ERR_clear_error();
    int result = SSL_write_ex(link->ssl, data, size, &n);
    return result == 1 ? (ssize_t)n : failure(link, result);
}

void tls_bye(struct tls_link *link)
{
    if (link->is_up)
        (void)SSL_shutdown(link->ssl);
    ERR_clear_error();
}

const char *tls_peer_name(const struct tls_link *link)
{
    return link->is_up ? link->peer : "";
}

const char *tls_why(const struct tls_link *link)
{
    return link->why;
}

bool tls_resumed(const struct tls_link *link)
{
    return SSL_session_reused(link->ssl) == 1;
}

/* ---- tickets ---- */

int tls_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_link *link = SSL_get_app_data(ssl);
    SSL_SESSION_free(link->session);
    link->session = session;
    return 1; /* ours now */
}

struct tls_session *tls_take_session(struct tls_link *link)
{
    return (struct tls_session *)(void *)TAKE(link->session);
}

void tls_session_free(struct tls_session *session)
{
    SSL_SESSION_free((SSL_SESSION *)(void *)session);
}
