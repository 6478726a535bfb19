#!/bin/bash
# What becomes of a replica's copy: it stays while the home is away, and goes when the volume is removed or made anew.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka
on h1 whiskfs volume create v --size 1GiB >/dev/null
on h2 whiskfs attach v >/dev/null
on h2 sh -c 'echo "kept by h2" >/mnt/ow/v/file'
is_same "kept by h2" "$(on h1 cat /mnt/ow/v/file)"

for how in stop kill; do
    say "the home goes and comes: $how"
    "$cluster" $how h1
    "$cluster" start h1
    is_same "kept by h2" "$(within 20 on h2 cat /mnt/ow/v/file)"
    wait_until 'on h1 grep -q kept /mnt/ow/v/file' 20
    within 20 on h2 sh -c "echo $how >>/mnt/ow/v/log"
    on h2 sh -c 'echo "kept by h2" >/mnt/ow/v/file'
done
is_same $'stop\nkill' "$(on h1 cat /mnt/ow/v/log)"

say "made anew under the same name; the replica has slept through it"
"$cluster" stop h2
state=$cluster_directory/h2/state/volumes
cp -a --sparse=always "$state/v" "$cluster_directory/asleep"
"$cluster" start h2
on h1 whiskfs volume remove v --force >/dev/null
wait_until '[[ ! -e $state/v ]]' 20
on h1 whiskfs volume create v --size 1GiB >/dev/null
on h1 sh -c 'echo "of the new v" >/mnt/ow/v/file'
"$cluster" stop h2
mv "$cluster_directory/asleep" "$state/v"
"$cluster" start h2
wait_until 'on h2 grep -q new /mnt/ow/v/file' 20
is_same "of the new v" "$(on h2 cat /mnt/ow/v/file)"
refused on h2 test -e /mnt/ow/v/log
grep -q 'was made anew' "$cluster_directory/h2/log"
on h2 sh -c 'echo "kept by h2" >/mnt/ow/v/own'
is_same "kept by h2" "$(on h1 cat /mnt/ow/v/own)"

say "removed at its home"
on h1 whiskfs volume remove v --force >/dev/null
wait_until '! on h2 mountpoint -q /mnt/ow/v' 20
wait_until '! on h2 whiskfs volume show v' 20 >/dev/null
on h2 whiskfs volume create v --size 1GiB >/dev/null
is_same "" "$(on h2 ls /mnt/ow/v)"
no_errors_in_logs
