#!/bin/bash
# How a file is served while its blocks come: through the daemon, beside each other, until the last such descriptor has
# gone; the next open is passed through to the kernel.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka
on h1 whiskfs volume create v >/dev/null
on h1 sh -c 'head -c 8000000 /dev/urandom >/mnt/ow/v/f'
on h2 whiskfs attach v >/dev/null
wanted=$(sum_on h1 /mnt/ow/v/f)

# One descriptor is opened while nothing is here, a second beside it when all is.
on h2 bash -c 'exec 3</mnt/ow/v/f && sha256sum </mnt/ow/v/f && sha256sum </mnt/ow/v/f && sha256sum <&3' >"$cluster_directory/sums"
is_same "$wanted  -" "$(sort -u "$cluster_directory/sums")"
is_same 3 "$(wc -l <"$cluster_directory/sums")"
is_same 0 "$(metric h2 whiskfs_opens_passthrough_total)"
cached=$(metric h2 whiskfs_opens_cached_total)
((cached >= 2)) || fail "only $cached opens were served by the daemon"

if [[ $(on h2 whiskfs status --json) == *'"passthrough": true'* ]]; then
    wait_until 'on h2 cat /mnt/ow/v/f >/dev/null && (($(metric h2 whiskfs_opens_passthrough_total) > 0))' 5
fi
is_same "$wanted" "$(sum_on h2 /mnt/ow/v/f)"

# What is read straight into the reader's memory can be mapped as well, shared and private, while its blocks come.
on h1 sh -c 'head -c 6000000 /dev/urandom >/mnt/ow/v/mapped'
is_same "$(sum_on h1 /mnt/ow/v/mapped)" "$(on h2 python3 -c '
import hashlib, mmap
with open("/mnt/ow/v/mapped", "rb", buffering=0) as file:
    file.read(5000)
    shared = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    assert shared[:] == private[:]
    print(hashlib.sha256(shared).hexdigest())')"

# A descriptor that is open when the file is replaced elsewhere keeps what it had; the next open has the new content.
on h2 bash -c 'exec 3</mnt/ow/v/f; echo ready; while [[ ! -e /mnt/ow/v/go ]]; do :; done; sha256sum <&3; sha256sum </mnt/ow/v/f' \
    >"$cluster_directory/old-and-new" &
reader=$!
wait_until 'grep -q ready "$cluster_directory/old-and-new"' 10
on h1 sh -c 'head -c 5000000 /dev/urandom >/mnt/ow/v/new && mv /mnt/ow/v/new /mnt/ow/v/f && touch /mnt/ow/v/go'
wait $reader
is_same "ready $wanted  - $(sum_on h1 /mnt/ow/v/f)  -" "$(tr '\n' ' ' <"$cluster_directory/old-and-new" | sed 's/ $//')"
no_errors_in_logs
