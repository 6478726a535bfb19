/* tests/unit/daemon/net_suite.h — shared by the tests of daemon/net, which are one program in several files. */
#pragma once

#include <criterion/criterion.h>

#include <stdatomic.h>

#include "proto/base/clock.h"
#include "proto/messages.pb-c.h"
#include "tests/unit/daemon/net_fixture.h"

#define NOTHING ((struct span){NULL, 0})

extern struct net_fixture net;
extern atomic_int n_seen; /* one-way frames that came */

int64_t soon(void); /* a deadline that is not meant to be met */
bool eventually(bool (*done)(void *), void *ctx);
bool seen_at_least(void *n);
/* A running host that answers FORWARD, counts ACK and BLOCK, and refuses JOIN. */
struct peers *start(const char *name);
struct conn *get(struct peers *from, const char *host, enum channel channel, unsigned stream);
/* Asks a host that start() made; *ret_ino is the size of raw. A first byte of raw: milliseconds to think. */
int call_forward(struct conn *conn, const void *raw, size_t size, int64_t deadline,
                 uint64_t *ret_ino);
void net_suite_begin(void);
void net_suite_end(void);
