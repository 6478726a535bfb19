/* fs/fuse/mount_page.h — page 0 of the ledger: the page that who keeps a mount and who serves it share. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define LEDGER_PAGE 4096u
#define LEDGER_MAGIC 0x3167646c6b736877ULL /* "whskldg1" */
#define LEDGER_INIT_MAX 512u
#define LEDGER_NAME_MAX 256u
#define LEDGER_PATH_MAX 1024u
#define LEDGER_LEASE_FOREVER INT64_MAX

/* Who keeps the mount writes magic, name, mountpoint and session before it gives the ledger to anybody; the rest is the
 * serving daemon's. */
struct ledger_header {
    uint64_t magic;
    char name[LEDGER_NAME_MAX];
    char mountpoint[LEDGER_PATH_MAX];
    uint64_t session; /* drawn at mount(2): identity.session of what this kernel asks for */

    /* The kernel's names of this volume are right until then (monotonic clock; 0: it has none; LEDGER_LEASE_FOREVER: as
     * long as they like). Who keeps the mount lets them expire at that time, whatever has become of the daemon. */
    _Atomic int64_t lease_end_ns;

    uint32_t layout; /* of the slots, by the daemon that began the session; 0: none has */
    int64_t born_ns; /* of the volume: another one of this name is not this mount's */
    _Atomic uint64_t next_unique;
    _Atomic int32_t backing_mark;   /* the highest backing id registered so far */
    uint64_t negotiated[4];         /* what INIT was answered with: flags, limits */
    _Atomic uint32_t is_negotiated; /* set when the above is written */
    _Atomic uint32_t init_bytes;    /* set when init is written; 0: INIT was not read yet */
    uint8_t init[LEDGER_INIT_MAX];
};
_Static_assert(sizeof(struct ledger_header) <= LEDGER_PAGE, "the header is one page");
