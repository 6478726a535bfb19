#include <errno.h>
#include <stdio.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "proto/tls_internal.h"

/* A certificate chain longer than this on the wire is refused unread. */
#define CHAIN_BYTES_MAX (16u << 10)

static bool has_aes_instructions(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    return (getauxval(AT_HWCAP) & (1UL << 3)) != 0; /* HWCAP_AES */
#else
    return false;
#endif
}

static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "unknown reason";
}

static int refuse_file(char *why, const char *what, const char *path)
{
    (void)snprintf(why, TLS_WHY_BYTES, "cannot use %s '%s': %s", what, path, openssl_reason());
    ERR_clear_error();
    return -EINVAL;
}

/* OpenSSL decodes a CA's extensions when they are first needed. Now, while there is one thread, is better: what it does
 * to make that safe for several cannot be seen by ThreadSanitizer. */
static void decode_extensions(SSL_CTX *ssl)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ssl));
    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509 *cert = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
        if (cert)
            (void)X509_check_purpose(cert, -1, 0);
    }
    (void)X509_check_purpose(SSL_CTX_get0_certificate(ssl), -1, 0);
}

static int load_files(SSL_CTX *ssl, const struct tls_files *files, char *why)
{
    if (SSL_CTX_load_verify_file(ssl, files->ca) != 1)
        return refuse_file(why, "the CA's certificate", files->ca);
    if (SSL_CTX_use_certificate_chain_file(ssl, files->cert) != 1)
        return refuse_file(why, "the host's certificate", files->cert);
    /* Checks against the certificate too; it reports that as a mismatch. */
    if (SSL_CTX_use_PrivateKey_file(ssl, files->key, SSL_FILETYPE_PEM) != 1)
        return refuse_file(why, "the host's key", files->key);
    return 0;
}

static bool set_rules(SSL_CTX *ssl)
{
    static const char with_aes[] =
        "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
    static const char without_aes[] =
        "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
    static const unsigned char session_context[] = "whiskfs";
    if (SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ssl, has_aes_instructions() ? with_aes : without_aes) != 1 ||
        SSL_CTX_set_session_id_context(ssl, session_context, sizeof session_context - 1) != 1 ||
        SSL_CTX_set_num_tickets(ssl, 1) != 1)
        return false;
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, tls_verify);
    SSL_CTX_set_max_cert_list(ssl, CHAIN_BYTES_MAX);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, tls_new_session);
    SSL_CTX_set_timeout(ssl, TLS_TICKET_S);
    SSL_CTX_set_read_ahead(ssl, 1);
    return true;
}

int tls_context_new(const struct tls_files *files, char why[static TLS_WHY_BYTES],
                    struct tls_context **ret_context)
{
    (void)snprintf(why, TLS_WHY_BYTES, "out of memory");
    AUTO(tls_context_freep) struct tls_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->ssl = SSL_CTX_new(TLS_method());
    if (!context->ssl || !set_rules(context->ssl))
        return -ENOMEM;
    int r = load_files(context->ssl, files, why);
    if (r < 0)
        return r;
    decode_extensions(context->ssl);
    if (!tls_certificate_name(SSL_CTX_get0_certificate(context->ssl), context->name)) {
        (void)snprintf(why, TLS_WHY_BYTES, "certificate '%s' does not name exactly one host",
                       files->cert);
        return -EINVAL;
    }
    why[0] = '\0';
    *ret_context = TAKE(context);
    return 0;
}

void tls_context_free(struct tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

const char *tls_context_name(const struct tls_context *context)
{
    return context->name;
}

int64_t tls_context_valid_s(const struct tls_context *context)
{
    int days = 0;
    int seconds = 0;
    const X509 *cert = SSL_CTX_get0_certificate(context->ssl);
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1)
        return -1;
    return (int64_t)days * 86400 + seconds;
}
