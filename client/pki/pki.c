#include "client/pki/pki.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "client/pki/file.h"
#include "proto/base/cleanup.h"

#define NAME_BYTES_MAX 63
/* A host whose clock is a little behind must accept a certificate made just now. */
#define CLOCK_SKEW_S 300
#define DAY_S 86400

static void key_freep(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}

static void cert_freep(X509 **p)
{
    X509_free(*p);
}

static void bio_freep(BIO **p)
{
    BIO_free(*p);
}

__attribute__((format(printf, 3, 4))) static int fail(char *why, int error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(why, PKI_WHY_BYTES, fmt, args);
    va_end(args);
    ERR_clear_error();
    return error;
}

static int fail_openssl(char *why, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return fail(why, -EIO, "cannot make %s: %s", what, reason ? reason : "unknown reason");
}

/* ---- certificates ---- */

static bool set_validity(X509 *cert, const struct pki_options *options, unsigned default_days)
{
    int64_t from = -CLOCK_SKEW_S;
    int64_t to = (int64_t)(options->days ? options->days : default_days) * DAY_S;
    if (options->from_s != 0 || options->to_s != 0) {
        from = options->from_s;
        to = options->to_s;
    }
    return X509_gmtime_adj(X509_getm_notBefore(cert), (long)from) &&
           X509_gmtime_adj(X509_getm_notAfter(cert), (long)to);
}

static bool set_serial(X509 *cert)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *n = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool done = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
    BN_free(n);
    return done;
}

static bool set_subject(X509 *cert, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    return X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const unsigned char *)"whiskfs",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                                      -1, 0) == 1;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool done = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return done;
}

/* Everything but what tells a CA from a host. */
static X509 *begin_certificate(EVP_PKEY *key, const char *name, const struct pki_options *options,
                               unsigned default_days)
{
    AUTO(cert_freep) X509 *cert = X509_new();
    if (!cert || X509_set_version(cert, X509_VERSION_3) != 1 || !set_serial(cert) ||
        !set_validity(cert, options, default_days) || X509_set_pubkey(cert, key) != 1 ||
        !set_subject(cert, name))
        return NULL;
    return TAKE(cert);
}

static X509 *make_ca(EVP_PKEY *key, const struct pki_options *options)
{
    AUTO(cert_freep) X509 *cert = begin_certificate(key, "whiskfs CA", options, PKI_CA_DAYS);
    if (!cert || X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
        !add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(cert, cert, NID_subject_key_identifier, "hash") ||
        X509_sign(cert, key, EVP_sha256()) == 0)
        return NULL;
    return TAKE(cert);
}

struct ca {
    EVP_PKEY *key;
    X509 *cert;
};

static X509 *make_host(const struct ca *ca, EVP_PKEY *key, const char *name, const char *alt_names,
                       const struct pki_options *options)
{
    const char *usage = options->usage ? options->usage : "serverAuth,clientAuth";
    AUTO(cert_freep) X509 *cert = begin_certificate(key, name, options, PKI_HOST_DAYS);
    if (!cert || X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) != 1 ||
        !add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(cert, ca->cert, NID_ext_key_usage, usage) ||
        !add_extension(cert, ca->cert, NID_subject_alt_name, alt_names) ||
        !add_extension(cert, ca->cert, NID_subject_key_identifier, "hash") ||
        !add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid") ||
        X509_sign(cert, ca->key, EVP_sha256()) == 0)
        return NULL;
    return TAKE(cert);
}

/* ---- files ---- */

static int save_pair(const char *dir, const char *name, EVP_PKEY *key, X509 *cert, bool force,
                     char *why)
{
    AUTO(bio_freep) BIO *key_pem = BIO_new(BIO_s_mem());
    AUTO(bio_freep) BIO *cert_pem = BIO_new(BIO_s_mem());
    if (!key_pem || !cert_pem ||
        PEM_write_bio_PKCS8PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        PEM_write_bio_X509(cert_pem, cert) != 1)
        return fail_openssl(why, "PEM text");
    struct pki_file files[2] = {{.suffix = "key", .mode = 0600}, {.suffix = "pem", .mode = 0644}};
    files[0].size = (size_t)BIO_get_mem_data(key_pem, &files[0].text);
    files[1].size = (size_t)BIO_get_mem_data(cert_pem, &files[1].text);
    char path[PKI_WHY_BYTES / 2];
    int r = pki_save(dir, name, files, N_ELEMENTS(files), force, path, sizeof path);
    if (r == -EEXIST)
        return fail(why, r, "'%s' exists already: use --force to replace it", path);
    if (r < 0)
        return fail(why, r, "cannot write '%s': %s", path, strerrordesc_np(-r));
    return 0;
}

static int open_pem(const char *dir, const char *file, char *why, BIO **ret_bio)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", dir, file);
    BIO *bio = BIO_new_file(path, "r");
    if (!bio)
        return fail(why, -ENOENT, "cannot read '%s': make the CA first with 'whiskfs pki init %s'",
                    path, dir);
    *ret_bio = bio;
    return 0;
}

static void ca_done(struct ca *ca)
{
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
}

static int ca_load(const char *dir, char *why, struct ca *ret_ca)
{
    AUTO(bio_freep) BIO *cert_pem = NULL;
    AUTO(bio_freep) BIO *key_pem = NULL;
    int r = open_pem(dir, "ca.pem", why, &cert_pem);
    if (r == 0)
        r = open_pem(dir, "ca.key", why, &key_pem);
    if (r < 0)
        return r;
    AUTO(ca_done)
    struct ca ca = {.cert = PEM_read_bio_X509(cert_pem, NULL, NULL, NULL),
                    .key = PEM_read_bio_PrivateKey(key_pem, NULL, NULL, NULL)};
    if (!ca.cert || !ca.key)
        return fail(why, -EINVAL, "'%s/ca.pem' or '%s/ca.key' is damaged", dir, dir);
    if (X509_check_private_key(ca.cert, ca.key) != 1)
        return fail(why, -EINVAL, "'%s/ca.key' does not belong to '%s/ca.pem'", dir, dir);
    *ret_ca = (struct ca){.cert = TAKE(ca.cert), .key = TAKE(ca.key)};
    return 0;
}

/* ---- what the command calls ---- */

static const struct pki_options no_options;

int pki_init(const char *dir, const struct pki_options *options, char why[static PKI_WHY_BYTES])
{
    if (!options)
        options = &no_options;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return fail(why, -errno, "cannot make directory '%s': %s", dir, strerrordesc_np(errno));
    AUTO(key_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
    AUTO(cert_freep) X509 *cert = key ? make_ca(key, options) : NULL;
    if (!cert)
        return fail_openssl(why, "the CA's certificate");
    return save_pair(dir, "ca", key, cert, options->force, why);
}

static int check_name(const char *name, char *why)
{
    size_t size = strlen(name);
    bool good = size > 0 && size <= NAME_BYTES_MAX && name[0] != '-' && name[0] != '.';
    for (size_t i = 0; i < size && good; i++) {
        char c = name[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
    }
    if (!good || strcmp(name, "ca") == 0)
        return fail(
            why, -EINVAL,
            "'%s' is no name for a host: 1 to %d letters, digits, '-', '_' or '.', and not 'ca'",
            name, NAME_BYTES_MAX);
    return 0;
}

static int alt_names(const char *name, const char *const *addresses, unsigned n_addresses,
                     char *text, size_t size, char *why)
{
    int used = snprintf(text, size, "DNS:%s", name);
    for (unsigned i = 0; i < n_addresses; i++) {
        uint8_t binary[16];
        if (inet_pton(AF_INET, addresses[i], binary) != 1 &&
            inet_pton(AF_INET6, addresses[i], binary) != 1)
            return fail(why, -EINVAL, "'%s' is not a numeric IP address", addresses[i]);
        used += snprintf(text + used, size - (size_t)used, ",IP:%s", addresses[i]);
        if ((size_t)used >= size)
            return fail(why, -E2BIG, "too many addresses for '%s'", name);
    }
    return 0;
}

int pki_host(const char *dir, const char *name, const char *const *addresses, unsigned n_addresses,
             const struct pki_options *options, char why[static PKI_WHY_BYTES])
{
    if (!options)
        options = &no_options;
    char names[2048];
    int r = check_name(name, why);
    if (r == 0)
        r = alt_names(name, addresses, n_addresses, names, sizeof names, why);
    if (r < 0)
        return r;
    AUTO(ca_done) struct ca ca = {NULL, NULL};
    r = ca_load(dir, why, &ca);
    if (r < 0)
        return r;
    AUTO(key_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
    AUTO(cert_freep) X509 *cert = key ? make_host(&ca, key, name, names, options) : NULL;
    if (!cert)
        return fail_openssl(why, "the host's certificate");
    return save_pair(dir, name, key, cert, options->force, why);
}
