/* client/pki/pki.h — makes a cluster's certificates: a CA, and a key with a certificate for each host.
 *
 *     DIR/ca.pem  DIR/ca.key        who holds ca.key can admit hosts: keep it off the hosts
 *     DIR/NAME.pem  DIR/NAME.key    for host NAME, which needs ca.pem beside them
 *
 * Keys are EC P-256, mode 0600. A file appears whole or not at all, and is replaced only with `force`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"

#define PKI_WHY_BYTES 512
#define PKI_CA_DAYS 3650
#define PKI_HOST_DAYS 825

struct pki_options {
    bool force;        /* replace what is there */
    unsigned days;     /* 0: PKI_CA_DAYS or PKI_HOST_DAYS */
    const char *usage; /* extended key usage of a host; NULL: "serverAuth,clientAuth" */
    /* If either is not 0: validity from and to, in seconds from now, instead of `days`. For tests. */
    int64_t from_s, to_s;
};

/* Both: 0, or a negative errno and one sentence in why. options may be NULL. -EEXIST: it is there already. */
MUST_USE int pki_init(const char *dir, const struct pki_options *options,
                      char why[static PKI_WHY_BYTES]);
/* addresses: numeric IPs that go into the certificate, n_addresses of them (0 is fine: peers compare names). */
MUST_USE int pki_host(const char *dir, const char *name, const char *const *addresses,
                      unsigned n_addresses, const struct pki_options *options,
                      char why[static PKI_WHY_BYTES]);
