#!/bin/bash
# Hosts that make the same volume at the same time: one of them does, the others attach it.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

readonly hosts='h1 h2 h3'
cluster_up 3 --no-kafka

# On all hosts at once; each writes a file of its own into it.
make_everywhere() {
    local host pids=()
    for host in $hosts; do
        on "$host" sh -c "whiskfs attach $1 --create >/dev/null && echo $host >/mnt/ow/$1/$host" &
        pids+=($!)
    done
    for host in "${pids[@]}"; do
        wait "$host"
    done
}

home_on() {
    on "$1" whiskfs volume show "$2" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["home"])'
}

for i in 1 2 3 4 5 6 7 8; do
    within 30 make_everywhere "v$i"
    home=$(home_on h1 "v$i")
    for host in $hosts; do
        is_same "$home" "$(home_on "$host" "v$i")"
        is_same "$hosts" "$(on "$host" sh -c "cd /mnt/ow/v$i && echo *")"
    done
    say "v$i: $home"
done

say "only one of them can say that it made it"
made=0
pids=()
for host in $hosts; do
    on "$host" whiskfs volume create once >/dev/null 2>&1 &
    pids+=($!)
done
for pid in "${pids[@]}"; do
    if wait "$pid"; then
        made=$((made + 1))
    fi
done
is_same 1 "$made"
no_errors_in_logs
