/* proto/tls_internal.h — shared by tls_context.c, tls_link.c and tls_verify.c only. */
#pragma once

#include <openssl/ssl.h>

#include "proto/tls.h"

struct tls_context {
    SSL_CTX *ssl;
    char name[TLS_NAME_BYTES];
};

struct tls_link {
    SSL *ssl;
    struct tls_io io;
    bool is_client, is_up;
    uint64_t received_bytes;
    int io_error; /* the transport's, once it failed */
    SSL_SESSION *session;
    char meant[TLS_NAME_BYTES]; /* client: the host that was called */
    char peer[TLS_NAME_BYTES];
    char why[TLS_WHY_BYTES];
};

/* The one DNS name of a certificate, or its common name if it has none. False: none, several, or not a host name. */
bool tls_certificate_name(X509 *cert, char ret_name[static TLS_NAME_BYTES]);
/* "2026-01-31 12:00:00 UTC" */
void tls_time_text(const ASN1_TIME *time, char *ret_text, size_t size);
int tls_verify(int ok, X509_STORE_CTX *store);
/* What the verify callback does not see when a session is resumed: times and names. False: why is set. */
bool tls_check_peer(struct tls_link *link);
/* Turns OpenSSL's error queue into link->why and an errno. */
int tls_explain(struct tls_link *link);
/* SSL_CTX_sess_set_new_cb */
int tls_new_session(SSL *ssl, SSL_SESSION *session);
