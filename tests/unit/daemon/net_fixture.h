/* tests/unit/daemon/net_fixture.h — hosts on the loopback: certificates, a membership, peers. For tests of daemon/net. */
#pragma once

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/pki/pki.h"
#include "daemon/net/peers.h"
#include "proto/base/mutex.h"

#define NET_HOSTS_MAX 8

struct net_fixture {
    struct membership membership;
    char dir[64], foreign_dir[64];
    struct mutex lock;
    struct member_host hosts[NET_HOSTS_MAX];
    int n_hosts;
    struct peers *peers[NET_HOSTS_MAX];
    int n_peers;
    char paths[NET_HOSTS_MAX * 4][160];
    int n_paths;
};

static int net_host_by_id(struct membership *m, struct host_id id, struct member_host *ret_host)
{
    struct net_fixture *net = container_of(m, struct net_fixture, membership);
    SCOPED_LOCK(&net->lock);
    for (int i = 0; i < net->n_hosts; i++) {
        if (host_equal(net->hosts[i].id, id)) {
            *ret_host = net->hosts[i];
            return 0;
        }
    }
    return -ENOENT;
}

static const struct membership_ops net_membership_ops = {.host_by_id = net_host_by_id};

/* Host NAME lives at this address from now on. */
static inline void net_announce(struct net_fixture *net, const char *name, const char *address)
{
    SCOPED_LOCK(&net->lock);
    struct member_host *host = &net->hosts[net->n_hosts];
    for (int i = 0; i < net->n_hosts; i++)
        if (strcmp(net->hosts[i].name, name) == 0)
            host = &net->hosts[i];
    if (host == &net->hosts[net->n_hosts])
        net->n_hosts++;
    *host = (struct member_host){.id = host_id_of(name), .alive = true, .invoker = -1};
    (void)snprintf(host->name, sizeof host->name, "%s", name);
    (void)snprintf(host->address, sizeof host->address, "%s", address);
}

static inline int net_certificate(struct net_fixture *net, const char *from, const char *name,
                                  const char *file, const struct pki_options *options)
{
    char why[PKI_WHY_BYTES], made[160], wanted[160];
    int r = pki_host(from, name, NULL, 0, options, why);
    for (int i = 0; r == 0 && i < 2; i++) {
        const char *suffix = i ? "key" : "pem";
        (void)snprintf(made, sizeof made, "%s/%s.%s", from, name, suffix);
        (void)snprintf(wanted, sizeof wanted, "%s/%s.%s", net->dir, file, suffix);
        r = strcmp(made, wanted) == 0 ? 0 : rename(made, wanted);
    }
    return r;
}

/* h1, h2, h3; and hN-expired, hN-foreign: certificates of the same names that are no good. */
static inline int net_set_up(struct net_fixture *net)
{
    char why[PKI_WHY_BYTES];
    *net = (struct net_fixture){.membership = {&net_membership_ops}};
    mutex_init(&net->lock, LOCK_membership);
    (void)snprintf(net->dir, sizeof net->dir, "/tmp/whiskfs-net-XXXXXX");
    (void)snprintf(net->foreign_dir, sizeof net->foreign_dir, "/tmp/whiskfs-net-XXXXXX");
    if (!mkdtemp(net->dir) || !mkdtemp(net->foreign_dir))
        return -errno;
    int r = pki_init(net->dir, NULL, why);
    r = r < 0 ? r : pki_init(net->foreign_dir, NULL, why);
    struct pki_options expired = {.from_s = -2 * 86400, .to_s = -86400};
    for (int i = 1; i <= 3 && r == 0; i++) {
        char name[16], file[32];
        (void)snprintf(name, sizeof name, "h%d", i);
        (void)snprintf(file, sizeof file, "h%d-expired", i);
        r = net_certificate(net, net->dir, name, file, &expired);
        (void)snprintf(file, sizeof file, "h%d-foreign", i);
        r = r < 0 ? r : net_certificate(net, net->foreign_dir, name, file, NULL);
        r = r < 0 ? r : net_certificate(net, net->dir, name, name, NULL);
    }
    return r;
}

static inline void net_tear_down(struct net_fixture *net)
{
    for (int i = 0; i < net->n_peers; i++)
        peers_stop(net->peers[i]);
    for (int i = 0; i < net->n_peers; i++)
        peers_free(net->peers[i]);
    char command[160];
    (void)snprintf(command, sizeof command, "rm -rf '%s' '%s'", net->dir, net->foreign_dir);
    CHECK(system(command) == 0);
    mutex_done(&net->lock);
}

static inline const char *net_path(struct net_fixture *net, const char *file, const char *suffix)
{
    CHECK(net->n_paths < (int)N_ELEMENTS(net->paths));
    char *path = net->paths[net->n_paths++];
    (void)snprintf(path, sizeof net->paths[0], "%s/%s.%s", net->dir, file, suffix);
    return path;
}

static inline void net_options(struct net_fixture *net, const char *name, const char *cert,
                               struct peers_options *ret)
{
    *ret = (struct peers_options){.name = name,
                                  .listen = "127.0.0.1:0",
                                  .ca_file = net_path(net, "ca", "pem"),
                                  .cert_file = net_path(net, cert, "pem"),
                                  .key_file = net_path(net, cert, "key"),
                                  .streams = 2,
                                  .n_workers = 8,
                                  .membership = &net->membership};
}

/* Host NAME with the certificate in file CERT, announced, not yet started. */
static inline struct peers *net_host(struct net_fixture *net, const char *name, const char *cert)
{
    struct peers_options options;
    net_options(net, name, cert, &options);
    struct peers *peers = NULL;
    int r = peers_new(&options, &peers);
    CHECK(r == 0 && net->n_peers < NET_HOSTS_MAX);
    net->peers[net->n_peers++] = peers;
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", peers_port(peers));
    net_announce(net, name, address);
    return peers;
}

/* A socket that listens as NAME and never answers. */
static inline int net_listen(struct net_fixture *net, const char *name)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&in, size) == 0 && listen(fd, 8) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&in, &size) == 0);
    char address[32];
    (void)snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(in.sin_port));
    net_announce(net, name, address);
    return fd;
}

/* A plain connection to where peers listens. */
static inline int net_connect(struct peers *peers)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr = {htonl(INADDR_LOOPBACK)},
                             .sin_port = htons(peers_port(peers))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) == 0);
    return fd;
}
