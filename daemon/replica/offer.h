/* daemon/replica/offer.h — what a replica says at the join that it holds already: the last entry, and of which volume. */
#pragma once

#include "daemon/replica/env.h"
#include "fs/volume/volume.h"
#include "proto/messages.pb-c.h"

/* Fills in all but the volume's name. -ENOMEM, or what reading the log says. */
MUST_USE int offer_make(struct volume *have, Whiskfs__Join *join);
/* The answer is not a JoinReply. -EREMCHG: the home has that volume under another name, of which env->renamed was told. */
MUST_USE int offer_refused(const struct replica_env *env, const char *name,
                           const struct frame *answer);
