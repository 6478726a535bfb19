#!/bin/bash
# The broker goes away while a volume is in use: what is mounted goes on on every host; after its return all is as before.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2
for host in h1 h2; do
    wait_until "[[ \$(metric $host whiskfs_hosts_known) == 1 ]]" 15
done
on h1 whiskfs volume create v >/dev/null
wait_until 'on h2 whiskfs attach v' 10 >/dev/null
on h1 sh -c 'echo before >/mnt/ow/v/before'

"$cluster" broker stop
wait_until '[[ $(metric h1 whiskfs_membership_connected) == 0 ]]' 40
for host in h1 h2; do
    within 10 on $host sh -c "mkdir /mnt/ow/v/$host && head -c 1000000 /dev/urandom >/mnt/ow/v/$host/data"
done
is_same "$(sum_on h1 /mnt/ow/v/h2/data)" "$(sum_on h2 /mnt/ow/v/h2/data)"
is_same "$(sum_on h2 /mnt/ow/v/h1/data)" "$(sum_on h1 /mnt/ow/v/h1/data)"
is_same before "$(within 10 on h2 cat /mnt/ow/v/before)"
within 10 on h1 whiskfs status >/dev/null

"$cluster" broker start
for host in h1 h2; do
    wait_until "[[ \$(metric $host whiskfs_membership_connected) == 1 ]]" 40
    wait_until "[[ \$(metric $host whiskfs_hosts_known) == 1 ]]" 40
done
within 20 on h2 whiskfs volume create w >/dev/null
wait_until 'on h1 whiskfs attach w' 10 >/dev/null
on h2 sh -c 'echo after >/mnt/ow/w/after'
is_same after "$(within 10 on h1 cat /mnt/ow/w/after)"
