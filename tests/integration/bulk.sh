#!/bin/bash
# 1 GiB written on one host is read on another, byte for byte; the second time from the copy that is there now.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka --config h2:transfer.prefetch_rate=8MiB
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
wanted=$(on h1 sh -c 'head -c 1G /dev/urandom | tee /mnt/ow/v/big | sha256sum' | cut -d ' ' -f 1)
is_same "$((1 << 30))" "$(on h2 stat -c %s /mnt/ow/v/big)"

# A piece from the middle first: it does not take the whole file.
is_same "$(on h1 dd if=/mnt/ow/v/big bs=1M skip=700 count=3 status=none | sha256sum)" \
    "$(within 10 on h2 dd if=/mnt/ow/v/big bs=1M skip=700 count=3 status=none | sha256sum)"
received=$(metric h2 whiskfs_peer_received_bytes_total)
((${received%.*} < 200000000)) || fail "3 MiB were read, and $received bytes came"

is_same "$wanted" "$(within 60 on h2 sha256sum /mnt/ow/v/big | cut -d ' ' -f 1)"
received=$(metric h2 whiskfs_peer_received_bytes_total)
((${received%.*} >= 1 << 30)) || fail "only $received bytes came"

say "again: nothing comes, and the kernel reads the copy itself"
opens=$(metric h2 whiskfs_opens_passthrough_total)
is_same "$wanted" "$(within 60 on h2 sha256sum /mnt/ow/v/big | cut -d ' ' -f 1)"
again=$(metric h2 whiskfs_peer_received_bytes_total)
((${again%.*} - ${received%.*} < 1000000)) || fail "$((${again%.*} - ${received%.*})) bytes came again"
if [[ $(on h2 whiskfs status --json) == *'"passthrough": true'* ]]; then
    [[ $(metric h2 whiskfs_opens_passthrough_total) != "$opens" ]] || fail "a complete file was not passed through"
fi

say "many files in a tree"
on h1 sh -c 'cd /mnt/ow/v && for d in 1 2 3 4 5; do mkdir $d; for f in $(seq 1 100); do head -c $((f * 997)) /dev/urandom >$d/$f; done; done'
listing='cd /mnt/ow/v && find 1 2 3 4 5 -type f | sort | xargs sha256sum | sha256sum'
is_same "$(on h1 sh -c "$listing")" "$(within 60 on h2 sh -c "$listing")"

say "a volume that is warmed is here, and says how far it is"
requires script
on h1 sh -c 'head -c 30000000 /dev/urandom >/mnt/ow/v/warmed'
shown=$(within 60 on h2 script -qec 'whiskfs warm v warmed' /dev/null)
[[ $shown =~ "28.6 MiB of 28.6 MiB, 1 of 1 files, "[0-9.]+" "[KM]"iB/s, 0 s left".*"28.6 MiB in 1 files are here" ]] || fail "the bar was '$shown'"
received=$(metric h2 whiskfs_peer_received_bytes_total)
is_same "$(sum_on h1 /mnt/ow/v/warmed)" "$(sum_on h2 /mnt/ow/v/warmed)"
(($(metric h2 whiskfs_peer_received_bytes_total) - received < 1000000)) || fail "what was warmed came again"

say "files that were made together come together"
on h1 sh -c 'cd /mnt/ow/v && mkdir small && for f in $(seq 1 400); do head -c 4000 /dev/urandom >small/$f; done'
requests=$(metric h2 whiskfs_fetch_requests_total)
is_same "$(on h1 sh -c 'find /mnt/ow/v/small -type f -exec cat {} + | sha256sum')" \
    "$(within 60 on h2 sh -c 'find /mnt/ow/v/small -type f -exec cat {} + | sha256sum')"
requests=$(($(metric h2 whiskfs_fetch_requests_total) - requests))
((requests < 100)) || fail "400 small files took $requests requests"
no_errors_in_logs
