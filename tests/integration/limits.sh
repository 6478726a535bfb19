#!/bin/bash
# A volume's limits on two hosts: bytes and inodes, resized while it is in use, and cache that makes room.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

free_bytes() { # HOST
    on "$1" df -B1 --output=avail /mnt/ow/v | tail -n 1 | tr -d ' '
}

MIB=$((1 << 20))
cluster_up 2 --no-kafka --config volumes.content=160MiB
on h1 whiskfs volume create v --size 64MiB --inodes 100 --copies 2 >/dev/null
on h2 whiskfs attach v >/dev/null
is_same 2 "$(on h1 whiskfs --json volume show v | jq .copies)"

say "bytes: what one host published counts on the other"
on h1 fallocate -l $((40 * MIB)) /mnt/ow/v/a
is_same $((24 * MIB)) "$(free_bytes h2)"
wait_until "[[ \$(on h2 dd if=/dev/zero of=/mnt/ow/v/b bs=1M 2>&1 | grep -o '^[0-9]* bytes') == '$((24 * MIB)) bytes' ]]" 10
is_same 0 "$(free_bytes h1)"
refused on h1 sh -c 'echo x >/mnt/ow/v/c' 2>/dev/null
is_same $((24 * MIB)) "$(on h1 stat -c %s /mnt/ow/v/b)"
on h1 rm /mnt/ow/v/b
is_same $((24 * MIB)) "$(free_bytes h2)"

say "passed-through and direct writes end at the limit"
for flag in append direct sync; do
    refused on h1 dd if=/dev/zero of=/mnt/ow/v/b bs=1M oflag=$flag status=none 2>/dev/null
    is_same $((24 * MIB)) "$(on h1 stat -c %s /mnt/ow/v/b)"
    on h1 rm /mnt/ow/v/b
done

say "resize"
refused on h2 whiskfs volume resize v --size 1GiB 2>/dev/null # not its home
refused on h1 whiskfs volume resize v --size 30MiB 2>/dev/null
on h1 whiskfs volume resize v --size 1GiB --inodes 12 >/dev/null
on h1 dd if=/dev/zero of=/mnt/ow/v/b bs=1M count=100 status=none
is_same $(((1024 - 140) * MIB)) "$(free_bytes h2)"

say "inodes"
is_same 12 "$(on h2 df --output=itotal /mnt/ow/v | tail -n 1 | tr -d ' ')"
on h1 sh -c 'for i in 1 2 3 4 5 6 7 8; do : >/mnt/ow/v/f$i || exit 1; done'
refused on h2 mkdir /mnt/ow/v/d 2>/dev/null # with c, the root, a and b: 12
is_same 0 "$(on h2 df --output=iavail /mnt/ow/v | tail -n 1 | tr -d ' ')"
on h1 sh -c 'rm /mnt/ow/v/f?'

say "cache goes, oldest first, and is fetched again"
sum=$(sum_on h1 /mnt/ow/v/b)
is_same "$sum" "$(sum_on h2 /mnt/ow/v/b)"
on h2 cat /mnt/ow/v/a >/dev/null # zeros take no room; the next does
on h1 sh -c 'head -c 100M /dev/urandom >/mnt/ow/v/e'
is_same "$(sum_on h1 /mnt/ow/v/e)" "$(sum_on h2 /mnt/ow/v/e)"
on h1 sh -c 'head -c 100M /dev/urandom >/mnt/ow/v/g'
is_same "$(sum_on h1 /mnt/ow/v/g)" "$(sum_on h2 /mnt/ow/v/g)"
wait_until '(($(metric h2 whiskfs_evicted_bytes_total) >= 100000000))' 10
is_same "$(sum_on h1 /mnt/ow/v/e)" "$(sum_on h2 /mnt/ow/v/e)"
is_same 0 "$(metric h1 whiskfs_evicted_bytes_total)" # it keeps them: over the limit, and nothing goes

say "removing frees the disk on both hosts"
on h1 whiskfs volume remove v --force >/dev/null
wait_until '! on h2 test -e /mnt/ow/v' 20
refused test -e "$cluster_directory/h1/state/volumes/v"
expected_errors='cannot|EIO'
