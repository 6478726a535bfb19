/* whiskfs pki: files appear whole, with the right modes, and are never replaced by accident. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "client/pki/pki.h"

static char dir[64], why[PKI_WHY_BYTES];

static void set_up(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/whiskfs-pki-XXXXXX");
    cr_assert(mkdtemp(dir));
}

static void tear_down(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(pki, .init = set_up, .fini = tear_down);

static const char *path_of(const char *file)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, file);
    return path;
}

static X509 *load(const char *file)
{
    FILE *f = fopen(path_of(file), "r");
    cr_assert(f, "%s", file);
    X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);
    (void)fclose(f);
    cr_assert(cert);
    return cert;
}

static mode_t mode_of(const char *file)
{
    struct stat st;
    cr_assert_eq(stat(path_of(file), &st), 0, "%s", file);
    return st.st_mode & 0777;
}

static int n_files(void)
{
    char command[128];
    (void)snprintf(command, sizeof command, "ls -A %s | wc -l", dir);
    FILE *f = popen(command, "r");
    int n = -1;
    cr_assert(f && fscanf(f, "%d", &n) == 1);
    (void)pclose(f);
    return n;
}

Test(pki, makes_a_ca_and_hosts)
{
    cr_assert_eq(pki_init(dir, NULL, why), 0, "%s", why);
    const char *addresses[] = {"10.0.0.1", "fd00::1"};
    cr_assert_eq(pki_host(dir, "h1", addresses, 2, NULL, why), 0, "%s", why);
    cr_assert_eq(mode_of("ca.key"), 0600);
    cr_assert_eq(mode_of("h1.key"), 0600);
    cr_assert_eq(mode_of("h1.pem"), 0644);
    cr_assert_eq(n_files(), 4, "nothing else is left behind");
    X509 *ca = load("ca.pem"), *host = load("h1.pem");
    cr_assert_eq(X509_check_ca(ca), 1);
    cr_assert_eq(X509_check_ca(host), 0);
    cr_assert_eq(X509_verify(host, X509_get0_pubkey(ca)), 1);
    cr_assert_eq(X509_check_host(host, "h1", 2, 0, NULL), 1);
    cr_assert_eq(X509_check_ip_asc(host, "10.0.0.1", 0), 1);
    cr_assert_eq(X509_check_ip_asc(host, "fd00::1", 0), 1);
    cr_assert_eq(X509_check_purpose(host, X509_PURPOSE_SSL_CLIENT, 0), 1);
    cr_assert_eq(X509_check_purpose(host, X509_PURPOSE_SSL_SERVER, 0), 1);
    X509_free(ca);
    X509_free(host);
}

Test(pki, never_replaces_without_force)
{
    cr_assert_eq(pki_init(dir, NULL, why), 0);
    X509 *before = load("ca.pem");
    cr_assert_eq(pki_init(dir, NULL, why), -EEXIST);
    cr_assert(strstr(why, "ca.key' exists already"), "%s", why);
    X509 *after = load("ca.pem");
    cr_assert_eq(X509_cmp(before, after), 0);
    X509_free(after);
    cr_assert_eq(pki_init(dir, &(struct pki_options){.force = true}, why), 0);
    after = load("ca.pem");
    cr_assert_neq(X509_cmp(before, after), 0);
    X509_free(before);
    X509_free(after);
}

/* Half a pair counts as there too, and is not completed with a key of another birth. */
Test(pki, half_a_pair)
{
    cr_assert_eq(pki_init(dir, NULL, why), 0);
    cr_assert_eq(pki_host(dir, "h1", NULL, 0, NULL, why), 0);
    cr_assert_eq(unlink(path_of("h1.key")), 0);
    cr_assert_eq(pki_host(dir, "h1", NULL, 0, NULL, why), -EEXIST);
    cr_assert(strstr(why, "h1.pem"), "%s", why);
    cr_assert_eq(n_files(), 3);
}

Test(pki, host_without_a_ca)
{
    cr_assert_eq(pki_host(dir, "h1", NULL, 0, NULL, why), -ENOENT);
    cr_assert(strstr(why, "make the CA first"), "%s", why);
    cr_assert_eq(n_files(), 0);
}

Test(pki, bad_names_and_addresses)
{
    cr_assert_eq(pki_init(dir, NULL, why), 0);
    static const char *const names[] = {"",   "ca",  "../x",      "a/b", "-x",
                                        ".x", "a b", "h1,DNS:h2", "h\n"};
    for (size_t i = 0; i < N_ELEMENTS(names); i++)
        cr_assert_eq(pki_host(dir, names[i], NULL, 0, NULL, why), -EINVAL, "%s", names[i]);
    char name[65];
    memset(name, 'x', 64);
    name[64] = '\0';
    cr_assert_eq(pki_host(dir, name, NULL, 0, NULL, why), -EINVAL);
    cr_assert_eq(pki_host(dir, name + 1, NULL, 0, NULL, why), 0);
    const char *addresses[] = {"example.org"};
    cr_assert_eq(pki_host(dir, "h1", addresses, 1, NULL, why), -EINVAL);
    cr_assert(strstr(why, "'example.org' is not a numeric IP"), "%s", why);
}

Test(pki, a_key_of_another_ca)
{
    cr_assert_eq(pki_init(dir, NULL, why), 0);
    cr_assert_eq(pki_host(dir, "h1", NULL, 0, NULL, why), 0);
    char from[128];
    (void)snprintf(from, sizeof from, "%s", path_of("h1.key"));
    cr_assert_eq(rename(from, path_of("ca.key")), 0);
    cr_assert_eq(pki_host(dir, "h2", NULL, 0, NULL, why), -EINVAL);
    cr_assert(strstr(why, "does not belong"), "%s", why);
}
