#!/bin/bash
# A small disk that is filled by what is written on it, and runs out of inodes: errors that say so, nothing that returned is
# lost, removing goes on, and so does everything once there is room again, without a restart. (Read-only and failing disks:
# the unit test volume_faults.)
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

requires mkfs.ext4 losetup
cluster_up 1 --no-kafka --config volumes.image=off # an image has inodes of its own
state=$cluster_directory/h1/state
image=$cluster_directory/disk
truncate -s 96M "$image"
mkfs.ext4 -q -N 600 -m 0 "$image"
"$cluster" stop h1
on h1 mount -o loop "$image" "$state"
"$cluster" start h1
on h1 whiskfs volume create v >/dev/null

# write_until_full: files of 1 MiB; notes those whose fsync has returned.
write_until_full() {
    on h1 sh -c 'for i in $(seq 1 200); do
        dd if=/dev/urandom of=/mnt/ow/v/f$i bs=1M count=1 conv=fsync 2>/dev/null || exit 0
        echo "$(sha256sum </mnt/ow/v/f$i | cut -d " " -f 1)  f$i"
    done' >"$cluster_directory/sums"
}

check() {
    within 30 on h1 sh -c "cd /mnt/ow/v && sha256sum --quiet -c" <"$cluster_directory/sums" >&2
}

say "filled by what is written"
within 60 write_until_full
count=$(wc -l <"$cluster_directory/sums")
((count > 40 && count < 96)) || fail "$count files fitted into 96 MiB"
check
for i in $(seq 1 50); do
    on h1 mkdir "/mnt/ow/v/d$i" 2>/dev/null || break
done
on h1 sh -c 'rm /mnt/ow/v/f1 /mnt/ow/v/f2 /mnt/ow/v/f3 /mnt/ow/v/f4 /mnt/ow/v/f5; rmdir /mnt/ow/v/d* 2>/dev/null || true'
sed -i '/f[1-5]$/d' "$cluster_directory/sums"
wait_until 'on h1 sh -c "head -c 1M /dev/zero >/mnt/ow/v/again"' 10
check

say "out of inodes"
made=$(on h1 sh -c 'n=0; while touch /mnt/ow/v/i$n 2>/dev/null; do n=$((n + 1)); done; echo $n')
((made > 100 && made < 600)) || fail "$made files were made"
error=$(on h1 touch /mnt/ow/v/one-more 2>&1 || true)
[[ $error == *"No space left"* ]] || fail "wanted ENOSPC: $error"
is_same "" "$(on h1 sh -c 'ls /mnt/ow/v/one-more 2>/dev/null || true')"
on h1 sh -c 'rm /mnt/ow/v/i*'
wait_until 'on h1 touch /mnt/ow/v/one-more' 10
check

say "after a restart, and to fsck"
"$cluster" stop h1
on h1 "$WHISKFS_BUILD/daemon/whiskfsd" --config "$cluster_directory/h1/whiskfsd.conf" --fsck v >&2 || fail "fsck found something"
"$cluster" start h1
wait_until 'on h1 stat /mnt/ow/v/one-more >/dev/null' 20
check
