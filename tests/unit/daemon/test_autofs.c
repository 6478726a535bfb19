/* Packets of an autofs, and who waits for what they name. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/auto_fs.h>
#include <stdio.h>
#include <string.h>

#include "daemon/mountd/accesses.h"

/* ---- packets, as the kernel makes them ---- */

static union {
    struct autofs_v5_packet packet;
    uint8_t bytes[AUTOFS_PACKET_BYTES + 1];
} kernels;

static void fill(const char *name)
{
    memset(&kernels, 0, sizeof kernels);
    kernels.packet.hdr.proto_version = 5;
    kernels.packet.hdr.type = autofs_ptype_missing_indirect;
    kernels.packet.wait_queue_token = 77;
    kernels.packet.dev = 0xffffffff;
    kernels.packet.ino = UINT64_MAX;
    kernels.packet.uid = kernels.packet.gid = 0xfffffffe;
    kernels.packet.len = (uint32_t)strlen(name);
    memcpy(kernels.packet.name, name, strlen(name));
}

static int decode(struct autofs_packet *ret_packet)
{
    return autofs_packet_decode(kernels.bytes, AUTOFS_PACKET_BYTES, ret_packet);
}

/* Type, token and name come through. */
Test(autofs_packet, is_decoded)
{
    struct autofs_packet packet;
    char longest[AUTOFS_NAME_MAX + 1];
    fill("volume");
    cr_assert_eq(decode(&packet), 0);
    cr_assert_eq(packet.type, AUTOFS_PACKET_MISSING);
    cr_assert_eq(packet.token, 77);
    cr_assert_str_eq(packet.name, "volume");
    memset(longest, 'x', AUTOFS_NAME_MAX);
    longest[AUTOFS_NAME_MAX] = '\0';
    fill(longest);
    kernels.packet.hdr.type = autofs_ptype_expire_indirect;
    cr_assert_eq(decode(&packet), 0);
    cr_assert_eq(packet.type, AUTOFS_PACKET_EXPIRE);
    cr_assert_str_eq(packet.name, longest);
}

/* Only a whole packet of this protocol with one component is. */
Test(autofs_packet, refuses_other_bytes)
{
    static const char *const names[] = {"", ".", "..", "a/b", "/"};
    struct autofs_packet packet;
    for (size_t i = 0; i < N_ELEMENTS(names); i++) {
        fill(names[i]);
        cr_assert_eq(decode(&packet), -EBADMSG, "'%s'", names[i]);
    }
    fill("volume");
    for (size_t size = 0; size < AUTOFS_PACKET_BYTES; size++)
        cr_assert_eq(autofs_packet_decode(kernels.bytes, size, &packet), -EBADMSG);
    cr_assert_eq(autofs_packet_decode(kernels.bytes, sizeof kernels.bytes, &packet), -EBADMSG);
    kernels.packet.len = 7; /* a NUL is among them */
    cr_assert_eq(decode(&packet), -EBADMSG);
    kernels.packet.len = AUTOFS_NAME_MAX + 1;
    cr_assert_eq(decode(&packet), -EBADMSG);
    fill("volume");
    kernels.packet.hdr.proto_version = 4;
    cr_assert_eq(decode(&packet), -EBADMSG);
    fill("volume");
    kernels.packet.hdr.type = autofs_ptype_missing_direct;
    cr_assert_eq(decode(&packet), -EBADMSG);
}

/* ---- accesses ---- */

static struct accesses accesses;

static void add(unsigned i, int64_t now_ns)
{
    struct autofs_packet packet = {.type = AUTOFS_PACKET_MISSING, .token = i};
    snprintf(packet.name, sizeof packet.name, "v%u", i);
    cr_assert_eq(accesses_add(&accesses, &packet, now_ns), 0);
}

static void tell(const char *name)
{
    struct access *access = accesses_untold(&accesses);
    cr_assert_not_null(access);
    cr_assert_str_eq(access->name, name);
    access->is_told = true;
}

/* Each is told once, in order, and taken by its answer; another daemon is told again. */
Test(accesses, are_told_and_taken)
{
    struct access access;
    add(0, 10);
    add(1, 20);
    tell("v0");
    tell("v1");
    cr_assert_null(accesses_untold(&accesses));
    cr_assert(accesses_take(&accesses, "v0", &access) && access.token == 0);
    cr_assert(!accesses_take(&accesses, "v0", &access));
    add(2, 30);
    accesses_untell(&accesses);
    tell("v1");
    tell("v2");
    cr_assert(accesses_take(&accesses, "v2", &access) && access.token == 2);
    cr_assert(accesses_take(&accesses, "v1", &access) && access.token == 1);
    cr_assert_eq(accesses.n, 0);
}

/* Who waits for too long is taken, the oldest first, told or not. */
Test(accesses, grow_old)
{
    struct access access;
    add(0, 10);
    add(1, 20);
    tell("v0");
    cr_assert(!accesses_take_older(&accesses, 9, &access));
    cr_assert(accesses_take_older(&accesses, 10, &access) && access.token == 0);
    cr_assert(!accesses_take_older(&accesses, 19, &access));
    cr_assert(accesses_take_older(&accesses, 25, &access) && access.token == 1);
    cr_assert(!accesses_take_older(&accesses, INT64_MAX, &access));
}

/* Both bounds hold: of what waits, and of what the daemon is told at a time. */
Test(accesses, are_bounded)
{
    struct autofs_packet packet = {.type = AUTOFS_PACKET_MISSING, .name = "one more"};
    struct access access;
    for (unsigned i = 0; i < ACCESSES_MAX; i++)
        add(i, 0);
    cr_assert_eq(accesses_add(&accesses, &packet, 0), -ENOSPC);
    for (unsigned i = 0; i < ACCESSES_TOLD_MAX; i++) {
        struct access *untold = accesses_untold(&accesses);
        cr_assert_not_null(untold);
        untold->is_told = true;
    }
    cr_assert_null(accesses_untold(&accesses));
    cr_assert(accesses_take(&accesses, "v0", &access));
    cr_assert_not_null(accesses_untold(&accesses));
    cr_assert_eq(accesses_add(&accesses, &packet, 0), 0);
}
