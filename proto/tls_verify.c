/* proto/tls_verify.c — whose certificate is this, may it be here, and if not: why, in one sentence. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "proto/tls_internal.h"

static bool name_is_valid(const unsigned char *name, size_t size)
{
    if (size == 0 || size >= TLS_NAME_BYTES)
        return false;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && (i == 0 || (c != '-' && c != '.' && c != '_')))
            return false;
    }
    return true;
}

static bool copy_name(const ASN1_STRING *string, char *ret_name)
{
    const unsigned char *text = ASN1_STRING_get0_data(string);
    size_t size = (size_t)ASN1_STRING_length(string);
    if (!name_is_valid(text, size))
        return false;
    memcpy(ret_name, text, size);
    ret_name[size] = '\0';
    return true;
}

static bool common_name(X509 *cert, char *ret_name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return false;
    return copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), ret_name);
}

bool tls_certificate_name(X509 *cert, char ret_name[static TLS_NAME_BYTES])
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int n_dns = 0;
    bool good = true;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS) {
            good = good && copy_name(name->d.dNSName, ret_name);
            n_dns++;
        }
    }
    GENERAL_NAMES_free(names);
    return n_dns == 0 ? common_name(cert, ret_name) : n_dns == 1 && good;
}

void tls_time_text(const ASN1_TIME *time, char *ret_text, size_t size)
{
    struct tm tm;
    if (ASN1_TIME_to_tm(time, &tm) != 1 ||
        strftime(ret_text, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        (void)snprintf(ret_text, size, "an unreadable time");
}

static void why_of_expiry(struct tls_link *link, const char *name, X509 *cert)
{
    char when[64];
    tls_time_text(X509_get0_notAfter(cert), when, sizeof when);
    (void)snprintf(link->why, sizeof link->why, "the certificate of '%s' has expired: it ended %s",
                   name, when);
}

static void why_of_early(struct tls_link *link, const char *name, X509 *cert)
{
    char when[64];
    tls_time_text(X509_get0_notBefore(cert), when, sizeof when);
    (void)snprintf(link->why, sizeof link->why, "the certificate of '%s' is not valid before %s",
                   name, when);
}

static void why_of_error(struct tls_link *link, int error, X509 *cert)
{
    char name[TLS_NAME_BYTES] = "";
    if (!cert || !tls_certificate_name(cert, name))
        (void)snprintf(name, sizeof name, "an unnamed host");
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        why_of_expiry(link, name, cert);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        why_of_early(link, name, cert);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        (void)snprintf(link->why, sizeof link->why,
                       "the certificate of '%s' is signed by a foreign CA, not by this cluster's",
                       name);
        break;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_INVALID_CA:
        (void)snprintf(link->why, sizeof link->why,
                       "the certificate of '%s' has the wrong key usage: not made to be a %s", name,
                       link->is_client ? "server" : "client");
        break;
    default:
        (void)snprintf(link->why, sizeof link->why, "the certificate of '%s' is not accepted: %s",
                       name, X509_verify_cert_error_string(error));
    }
}

/* Sets link->peer, or says what is wrong with the name. */
static bool check_name(struct tls_link *link, X509 *cert)
{
    char name[TLS_NAME_BYTES];
    if (!tls_certificate_name(cert, name)) {
        (void)snprintf(link->why, sizeof link->why,
                       "its certificate does not name exactly one host");
        return false;
    }
    if (link->is_client && strcmp(name, link->meant) != 0) {
        (void)snprintf(link->why, sizeof link->why, "its certificate names '%s', not '%s'", name,
                       link->meant);
        return false;
    }
    (void)snprintf(link->peer, sizeof link->peer, "%s", name);
    return true;
}

int tls_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_link *link = SSL_get_app_data(ssl);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    if (!ok) {
        why_of_error(link, X509_STORE_CTX_get_error(store), cert);
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(store) == 0 && !check_name(link, cert)) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
        return 0;
    }
    return 1;
}

bool tls_check_peer(struct tls_link *link)
{
    X509 *cert = SSL_get0_peer_certificate(link->ssl);
    if (!cert) {
        (void)snprintf(link->why, sizeof link->why, "it showed no certificate");
        return false;
    }
    if (!check_name(link, cert))
        return false;
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        why_of_expiry(link, link->peer, cert);
        return false;
    }
    return true;
}

/* ---- from OpenSSL's reasons to sentences ---- */

struct sentence {
    int reason;
    int error;
    const char *text;
};

static const struct sentence sentences[] = {
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, -EACCES, "it showed no certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, -EACCES,
     "it refused this host's certificate, which has expired"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, -EACCES,
     "it refused this host's certificate, which is signed by a CA foreign to it"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, -EACCES,
     "it refused this host, which showed no certificate"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, -EACCES,
     "it refused this host's certificate, which names another host, is not valid yet, or is "
     "damaged"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, -EACCES,
     "it refused this host's certificate, which has the wrong key usage"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, -EACCES, "it refused this host's certificate"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, -EACCES,
     "it refused this host's certificate, which is revoked"},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, -EACCES, "it denied access"},
    {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, -EACCES,
     "it refused this host's certificate: the key does not match"},
    {SSL_R_UNSUPPORTED_PROTOCOL, -EPROTO, "it does not speak TLS 1.3"},
    {SSL_R_VERSION_TOO_LOW, -EPROTO, "it does not speak TLS 1.3"},
    {SSL_R_WRONG_SSL_VERSION, -EPROTO, "it does not speak TLS 1.3"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, -EPROTO, "it does not speak TLS 1.3"},
    {SSL_R_WRONG_VERSION_NUMBER, -EPROTO, "it does not speak TLS"},
    {SSL_R_HTTP_REQUEST, -EPROTO, "it speaks HTTP, not TLS"},
    {SSL_R_UNEXPECTED_EOF_WHILE_READING, -EPIPE, "it closed the connection"},
};

int tls_explain(struct tls_link *link)
{
    unsigned long first = ERR_peek_error();
    int reason = ERR_GET_REASON(first);
    for (size_t i = 0; i < N_ELEMENTS(sentences); i++) {
        if (sentences[i].reason == reason) {
            (void)snprintf(link->why, sizeof link->why, "%s", sentences[i].text);
            ERR_clear_error();
            return sentences[i].error;
        }
    }
    if (link->why[0] == '\0') {
        const char *text = ERR_reason_error_string(first);
        (void)snprintf(link->why, sizeof link->why, "TLS failed: %s",
                       text ? text : "unknown reason");
    }
    ERR_clear_error();
    return reason == SSL_R_CERTIFICATE_VERIFY_FAILED ? -EACCES : -EPROTO;
}
