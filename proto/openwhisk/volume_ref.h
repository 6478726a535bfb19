/* proto/openwhisk/volume_ref.h — the volumes that an action names in its parameter `__ow_volume`.
 *
 * The parameter is a name, an object {"name", "scope", "size", "read_only"}, or an array of these. A bare name
 * and scope "namespace" mean the long-lived volume of that name; scope "sequence" means an instance of the
 * run's own, `NAME--NAMESPACE--RUN`, whose name every host can tell without asking anybody.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/base/check.h"
#include "proto/openwhisk/limits.h"

#define OW_VOLUME_NAME_SIZE 64
#define OW_VOLUMES_MAX 8
#define OW_INSTANCE_NAME_SIZE 201 /* what daemon/membership.h has room for */
#define OW_VOLUME_PARAMETER "__ow_volume"

enum ow_scope {
    OW_SCOPE_NAMESPACE,
    OW_SCOPE_SEQUENCE
};

struct ow_volume_ref {
    char name[OW_VOLUME_NAME_SIZE];
    enum ow_scope scope;
    uint64_t size_bytes; /* 0: the daemon's default */
    bool is_read_only;
};

struct ow_volume_refs {
    unsigned n;
    unsigned n_refused; /* malformed, not allowed, or more than OW_VOLUMES_MAX */
    struct ow_volume_ref refs[OW_VOLUMES_MAX];
};

/* [a-z0-9][a-z0-9._-]{0,62} without "--", which separates the parts of an instance's name. */
bool ow_volume_name_is_valid(const char *name);

/* Whether actions that run for this namespace may name this volume. The one place to tighten: today a
 * namespace may name every well-formed volume. */
bool ow_volume_may_be_named(const char *namespace_name, const struct ow_volume_ref *ref);

/* The name that hosts know the volume by. run: the activation's cause, or its own id without one.
 * -EINVAL: a part that cannot be in a name. -ENAMETOOLONG. */
MUST_USE int ow_volume_instance_name(const struct ow_volume_ref *ref, const char *namespace_name,
                                     const char *run, char ret_name[static OW_INSTANCE_NAME_SIZE]);

/* The run that a volume of this name is an instance of. -EINVAL: of none. */
MUST_USE int ow_volume_instance_run(const char *volume_name, char ret_run[static OW_ID_SIZE]);

/* Reads the parameter's value; what is refused is counted in ret_refs, never an error: the activation goes on.
 * The same volume named twice counts once. */
struct json_t;
void ow_volume_refs_read(const struct json_t *parameter, const char *namespace_name,
                         struct ow_volume_refs *ret_refs);
