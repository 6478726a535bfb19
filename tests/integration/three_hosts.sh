#!/bin/bash
# Three hosts that find each other and their volumes over Kafka; a volume that is made on one is on all.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 3
for host in h1 h2 h3; do
    wait_until "[[ \$(metric $host whiskfs_hosts_known) == 2 ]]" 15
done
on h2 whiskfs volume create shared >/dev/null
for host in h1 h3; do
    wait_until "on $host whiskfs attach shared" 10 >/dev/null
done
refused on h3 whiskfs volume create shared

# Every host writes; every host reads the same of all.
for host in h1 h2 h3; do
    on $host sh -c "mkdir /mnt/ow/shared/$host && head -c 3000000 /dev/urandom >/mnt/ow/shared/$host/data && seq 1 20000 >/mnt/ow/shared/$host/text"
done
listing='cd /mnt/ow/shared && find . -type f | sort | xargs sha256sum'
wanted=$(on h1 sh -c "$listing")
is_same 6 "$(wc -l <<<"$wanted")"
is_same "$wanted" "$(on h2 sh -c "$listing")"
is_same "$wanted" "$(on h3 sh -c "$listing")"

# Two hosts that are cut off from each other, not from the home, go on; the blocks that each needs come from the owner.
"$cluster" partition h1 h3
within 10 on h1 sh -c 'echo cut >/mnt/ow/shared/cut'
is_same cut "$(within 10 on h2 cat /mnt/ow/shared/cut)"
"$cluster" heal
is_same cut "$(within 15 on h3 cat /mnt/ow/shared/cut)"
