#!/bin/bash
# Blocks that are damaged on their way are refused and fetched again; as long as nothing else comes, the answer is EIO,
# never wrong bytes. A block that its keeper's disk has damaged is found by its seal, named, and served to nobody.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# fault HOST N: the next N blocks that the daemon of HOST serves are damaged after their checksum was taken.
fault() {
    on "$1" python3 -c '
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/whiskfs/control.sock")
s.sendall(json.dumps({"command": "fault", "corrupt_blocks": int(sys.argv[1])}).encode() + b"\n")
answer = json.loads(s.makefile().readline())
sys.exit(0 if "result" in answer else answer["error"])' "$2"
}

export WHISKFS_FAULTS=1
cluster_up 2 --no-kafka
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
wanted=$(on h1 sh -c 'head -c 32M /dev/urandom | tee /mnt/ow/v/some | sha256sum' | cut -d ' ' -f 1)
on h1 sh -c 'head -c 300K /dev/urandom >/mnt/ow/v/none'

fault h1 5
is_same "$wanted" "$(within 10 on h2 sha256sum /mnt/ow/v/some | cut -d ' ' -f 1)"
refused=$(metric h2 whiskfs_checksum_failures_total)
((${refused%.*} == 5)) || fail "5 blocks were damaged, $refused refused"

say "nothing but damaged blocks: EIO, bounded"
fault h1 4294967295
if within 10 on h2 cat /mnt/ow/v/none >/dev/null 2>&1; then
    fail "bytes were read that can only be wrong"
fi
fault h1 0
is_same "$(on h1 sha256sum /mnt/ow/v/none)" "$(within 10 on h2 sha256sum /mnt/ow/v/none)"
cluster_down
unset WHISKFS_FAULTS

say "a bit that flips on the keeper's disk"
cluster_up 2 --no-kafka --config volumes.image=off
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
on h1 sh -c 'mkdir /mnt/ow/v/dir && head -c 4M /dev/urandom >/mnt/ow/v/dir/file && echo small >/mnt/ow/v/small'
wait_until '(($(metric h1 whiskfs_sealed_files_total) == 2))' 60
own=$cluster_directory/h1/state/volumes/v/content/own
number=$(on h1 stat -c %i /mnt/ow/v/dir/file)
flip "$own/$(printf %016x "$number")" $((9 * 131072 + 77))
if within 20 on h2 cat /mnt/ow/v/dir/file >"$cluster_directory/read" 2>/dev/null; then
    fail "h2 read bytes that can only be wrong"
fi
damaged=$(metric h1 whiskfs_damaged_blocks_refused_total)
((damaged > 0)) || fail "h1 served $damaged blocks less than it was asked for"
grep -q "block 9 of inode $number is damaged on this disk and not served to h2" "$cluster_directory/h1/log" ||
    fail "the log of h1 does not name the block"
is_same small "$(within 10 on h2 cat /mnt/ow/v/small)"
"$cluster" stop h1
on h1 "$WHISKFS_BUILD/daemon/whiskfsd" --config "$cluster_directory/h1/whiskfsd.conf" --fsck v >"$cluster_directory/said" && fail "fsck found nothing"
cat "$cluster_directory/said" >&2
grep -q "inode $number ('/dir/file'): blocks 9 to 9 are damaged" "$cluster_directory/said" || fail "fsck does not name the block"
"$cluster" start h1

say "written anew it is well"
wait_until 'on h1 stat /mnt/ow/v/dir/file >/dev/null' 20
on h1 sh -c 'head -c 4M /dev/urandom >/mnt/ow/v/dir/new && mv /mnt/ow/v/dir/new /mnt/ow/v/dir/file'
is_same "$(on h1 sha256sum /mnt/ow/v/dir/file)" "$(within 20 on h2 sha256sum /mnt/ow/v/dir/file)"
