#!/bin/bash
# A host that changes a part of a file it has not read becomes its keeper: it draws the rest by itself, and then needs
# nobody. Once as the home of the volume, once as a member whose home is a third host.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 3 --no-kafka
on h2 whiskfs volume create here --size 1GiB >/dev/null
on h3 whiskfs volume create there --size 1GiB >/dev/null
for host in h1 h2 h3; do
    on $host whiskfs attach here >/dev/null
    on $host whiskfs attach there >/dev/null
done

# The hosts share everything but /mnt/ow.
readonly files=$cluster_directory/files
readonly size=$((64 << 20))
mkdir "$files"
head -c $size /dev/urandom >"$files/original"
head -c 4096 /dev/urandom >"$files/change"

# change HOST FILE: 4 KiB in the middle, nothing else is read or written.
change() {
    on "$1" dd if="$files/change" of="$2" bs=4096 seek=7777 conv=notrunc status=none
}

cp "$files/original" "$files/merged"
change h1 "$files/merged"
wanted=$(sum_on h1 "$files/merged")
[[ $wanted != "$(sum_on h1 "$files/original")" ]] || fail "nothing was changed"

say "a reader gets the merged bytes at once, whoever has them"
for volume in here there; do
    on h1 cp "$files/original" /mnt/ow/$volume/file
    change h2 /mnt/ow/$volume/file
done
is_same "$wanted" "$(sum_on h3 /mnt/ow/here/file)"
is_same "$size" "$(on h1 stat -c %s /mnt/ow/here/file)"
is_same "$wanted" "$(sum_on h1 /mnt/ow/there/file)"

say "the writer becomes complete by itself"
wait_until '[[ $(metric h2 whiskfs_keeper_files_total) == 2 ]]' 30
is_same 0 "$(metric h2 whiskfs_keeper_failed_total)"
drawn=$(metric h2 whiskfs_keeper_bytes_total)
((drawn <= 2 * size)) || fail "it drew $drawn bytes"

say "then it needs nobody"
on h3 whiskfs detach here >/dev/null
"$cluster" stop h1
on h3 whiskfs attach here >/dev/null
for volume in here there; do
    is_same "$wanted" "$(within 60 sum_on h3 /mnt/ow/$volume/file)"
    is_same "$wanted" "$(within 60 sum_on h2 /mnt/ow/$volume/file)"
done
is_same 2 "$(metric h2 whiskfs_keeper_files_total)"
no_errors_in_logs
