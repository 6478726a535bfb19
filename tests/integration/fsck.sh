#!/bin/bash
# whiskfs fsck: finds nothing in a volume that is being used, names what is damaged in one, and mends what has one right answer;
# the same of a volume that lies on the disk, by the daemon or without one.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# check HOST [OPTION…]: what fsck says of the volume goes to `said`; fails when it found something.
check() {
    local host=$1
    shift
    within 120 on "$host" env PATH="$WHISKFS_BUILD/daemon:$WHISKFS_BUILD/client:$PATH" \
        whiskfs fsck v "$@" >"$cluster_directory/said"
}

# finds SENTENCE [OPTION…]: on h1
finds() {
    local sentence=$1
    shift
    check h1 "$@" && fail "fsck found nothing"
    cat "$cluster_directory/said" >&2
    grep -qF "$sentence" "$cluster_directory/said" || fail "fsck does not say '$sentence'"
}

cluster_up 2 --no-kafka --config volumes.image=off --config volumes.scrub_rate=0
state=$cluster_directory/h1/state/volumes/v
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
on h1 sh -c 'mkdir /mnt/ow/v/dir && head -c 1M /dev/urandom >/mnt/ow/v/dir/file && echo small >/mnt/ow/v/small'
on h2 sh -c 'cat /mnt/ow/v/dir/file >/mnt/ow/v/far && head -c 1M /dev/urandom >/mnt/ow/v/other'
on h1 dd if=/mnt/ow/v/other of=/dev/null bs=4k count=1 status=none
wait_until '(($(metric h1 whiskfs_sealed_files_total) == 2))' 60

say "nothing is found while files are made, written and removed"
on h1 sh -c 'for i in $(seq 100000); do
        head -c 5000 /dev/urandom >/mnt/ow/v/dir/$((i % 300)); rm -f /mnt/ow/v/dir/$((i * 7 % 300))
        echo x >>/mnt/ow/v/dir/$((i % 7 + 290)); done' 2>/dev/null &
writer=$!
for host in h1 h2 h1 h2; do
    check $host || fail "something was found: $(<"$cluster_directory/said")"
    cat "$cluster_directory/said" >&2
done
kill $writer
wait $writer || true
[[ ! -e $state/fsck.snapshot ]] || fail "the snapshot is still there"
check h1 --json
python3 -c '
import json, sys
said = json.load(sys.stdin)
sys.exit(said["online"] is not True or said["found"] != 0 or said["files"] < 2)' <"$cluster_directory/said" ||
    fail "not what --json should say"

say "a damaged block, an orphan, a map, and the log, of a volume in use"
flip "$state/content/own/$(printf %016x "$(on h1 stat -c %i /mnt/ow/v/dir/file)")" $((3 * 131072 + 77))
finds "('/dir/file'): block 3 is damaged"
echo orphan >"$state/content/own/0000000000ffffff"
finds "own/0000000000ffffff: its inode is not in the volume"
finds "moved own/0000000000ffffff to lost+found" --repair
map=$(find "$state/content/drawn" -name '*.map' | head -n 1)
echo spoilt >"$map"
finds "${map##*/}: the map is damaged"
finds "it is drawn anew" --repair
on h1 cat /mnt/ow/v/other | cmp - <(on h2 cat /mnt/ow/v/other)
segment=$(find "$state/log" -name '*.log' | sort | head -n 1)
flip "$segment" 100
finds "log/${segment##*/}: entry"
flip "$segment" 100
finds ": found 1, mended 0"

say "by a daemon of a volume that is not attached"
on h2 whiskfs detach v >/dev/null
if [[ -e $cluster_directory/h2/state/volumes/v ]]; then
    check h2 || fail "something was found: $(<"$cluster_directory/said")"
fi
on h1 whiskfs fsck nobody >&2 && fail "a volume that is nowhere was checked"

say "without a daemon"
"$cluster" stop h1
check h1 --config "$cluster_directory/h1/whiskfsd.conf" && fail "fsck found nothing"
cat "$cluster_directory/said" >&2
grep -qF "blocks 3 to 3 are damaged" "$cluster_directory/said" || fail "fsck does not name the block"
"$cluster" start h1
expected_errors="is damaged on this disk|cannot check volume 'nobody'"
no_errors_in_logs
