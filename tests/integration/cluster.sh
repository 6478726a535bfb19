#!/bin/bash
# bench/cluster: hosts reach each other, a partition cuts them and heals, and nothing is left behind.
# shellcheck disable=SC2016 # conditions are evaluated later
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# left: processes, mounts and files of this test's clusters.
left() {
    {
        pgrep -f "hostinit.py $1" || true
        grep -F "$1" /proc/mounts || true
        ls -d "$1"* 2>/dev/null || true
    } | sort -u
}

cluster_up 2 --no-kafka --no-daemons --rate 1gbit
where=$cluster_directory
is_same "h1" "$(on h1 hostname)"
on h1 touch /mnt/ow/mine
refused on h2 test -e /mnt/ow/mine

within 5 on h1 ping -q -c 1 -W 2 h2 >/dev/null
"$cluster" partition h1 h2
refused on h1 ping -q -c 1 -W 0.3 h2 >/dev/null
"$cluster" heal
within 5 on h1 ping -q -c 1 -W 2 h2 >/dev/null

# A command's exit code and its output are the caller's.
status=0
"$cluster" run h1 sh -c 'exit 7' || status=$?
is_same 7 "$status"

# A mount and a stray process inside do not outlive the cluster.
on h1 mount -t tmpfs tmpfs /mnt/ow
on h2 sh -c 'setsid sleep 1000 >/dev/null 2>&1 &'
"$cluster" down
is_same "" "$(left "$where")"
cleanups=()

# A cluster goes with its owner, even one that had no time to say so.
WHISKFS_CLUSTER=owned-$$
where=$(dirname "$where")/whiskfs-cluster-$WHISKFS_CLUSTER
bash -c '"$1" up 1 --no-kafka --no-daemons --owner $$ >/dev/null; kill -KILL $$' owner "$cluster" 2>/dev/null || true
wait_until '[[ -z $(left "$where") ]]' 10

# Interrupted in the middle, "up" takes back what it made.
WHISKFS_CLUSTER=interrupted-$$
where=$(dirname "$where")/whiskfs-cluster-$WHISKFS_CLUSTER
"$cluster" up 9 --no-kafka --no-daemons >/dev/null &
up=$!
wait_until '[[ -e $where/cluster.json ]]' 10
kill -TERM $up
wait $up || true
is_same "" "$(left "$where")"
