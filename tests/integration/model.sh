#!/bin/bash
# Random operations on two hosts in turn, beside the reference model: what one has done the other sees at once.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
on h1 chmod 0777 /mnt/ow/v
paths=()
for host in h1 h2; do
    read -r pid _ <"$cluster_directory/$host/pid"
    paths+=(--path "/proc/$pid/root/mnt/ow/v")
done
"$WHISKFS_BUILD/tests/model/model" --seed 1 --ops 3000 "${paths[@]}"
no_errors_in_logs
