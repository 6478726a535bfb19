#!/bin/bash
# Blocks that are damaged on their way are refused and fetched again; as long as nothing else comes, the answer is EIO,
# never wrong bytes.
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
