#!/bin/bash
# The disk below a volume grows, and the volume with it: its image is made larger while it is mounted. Before, and where the
# daemon may not do that (the kernel wants CAP_SYS_RESOURCE), a limit that the disk cannot give is ENOSPC at what it can.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
requires mkfs.ext4 e2fsck resize2fs fallocate

cluster_up 1 --no-kafka
state=$cluster_directory/h1/state
disk=$cluster_directory/disk
truncate -s 2G "$disk"
mkfs.ext4 -q -m 0 "$disk"
"$cluster" stop h1
on h1 mount -o loop "$disk" "$state"
"$cluster" start h1
on h1 whiskfs volume create v --size 512MiB >/dev/null
is_same kernel "$(on h1 whiskfs volume show v --json | jq -r .limit_held_by)" # else there is no image to grow

image_bytes() {
    on h1 stat -c %s "$state/volumes/v/content.img"
}

before=$(image_bytes)
on h1 fallocate -l 400M /mnt/ow/v/a
refused on h1 fallocate -l 400M /mnt/ow/v/b 2>/dev/null
on h1 rm -f /mnt/ow/v/b
on h1 sh -c 'head -c 5M /dev/urandom >/mnt/ow/v/old'
sum=$(sum_on h1 /mnt/ow/v/old)

say "larger than the disk"
on h1 whiskfs volume resize v --size 6GiB >/dev/null
wait_until 'on h1 fallocate -l 400M /mnt/ow/v/b' 20
refused on h1 fallocate -l 4G /mnt/ow/v/c 2>/dev/null
on h1 rm -f /mnt/ow/v/c

say "the disk grows"
"$cluster" stop h1
wait_until 'on h1 umount "$state"' 20
truncate -s 10G "$disk"
e2fsck -p -f "$disk" >/dev/null
resize2fs "$disk" 2>/dev/null >&2
on h1 mount -o loop "$disk" "$state"
"$cluster" start h1
wait_until 'on h1 test -e /mnt/ow/v/a' 20
capabilities=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
if ((0x$capabilities >> 24 & 1)); then
    wait_until 'on h1 fallocate -l 4G /mnt/ow/v/c' 30
    ((after = $(image_bytes), after > before && after > 4 << 30)) || fail "the image had $before bytes and has $after"
    refused on h1 fallocate -l 2G /mnt/ow/v/d 2>/dev/null # the limit
else
    say "without CAP_SYS_RESOURCE: the image stays as it is"
    wait_until 'grep -q "cannot grow the image" "$cluster_directory/h1/log"' 20
    refused on h1 fallocate -l 4G /mnt/ow/v/c 2>/dev/null
fi
on h1 rm -f /mnt/ow/v/c /mnt/ow/v/d
on h1 sh -c 'head -c 5M /dev/urandom >/run/new && cp /run/new /mnt/ow/v/new'

say "it stays so"
"$cluster" kill h1
"$cluster" start h1
wait_until 'on h1 test -e /mnt/ow/v/new' 20
is_same "$sum" "$(sum_on h1 /mnt/ow/v/old)"
is_same "$(sum_on h1 /run/new)" "$(sum_on h1 /mnt/ow/v/new)"
"$cluster" stop h1
on h1 "$WHISKFS_BUILD/daemon/whiskfsd" --config "$cluster_directory/h1/whiskfsd.conf" --fsck v >&2 || fail "fsck found something"
no_errors_in_logs
