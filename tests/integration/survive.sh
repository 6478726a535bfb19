#!/bin/bash
# Mounts survive their daemon: programs go on, without an error, while it is killed (kill -9), stopped and upgraded
# (SIGTERM), and started again; what it had done and not answered is done once.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
requires cc
here=$(cd "$(dirname "$0")" && pwd)
n_random=$((${WHISKFS_LONG:-0} ? 300 : 20))

program() {
    local host=$1
    shift
    on "$host" python3 "$here/survive.py" "$@"
}

# under_load VICTIM SIGNAL TIMES PAUSE_S KIND…: they work on every host while the victim's daemon is restarted; nothing
# fails, and nobody waits for long.
under_load() {
    local victim=$1 signal=$2 times=$3 pause=$4 kind host pids=() stop="$cluster_directory/stop"
    local results="$cluster_directory/results" directory="/mnt/ow/v/$1-$2-$3"
    shift 4
    rm -rf "$stop" "$results"
    mkdir "$results"
    for host in $hosts; do
        on "$host" mkdir "$directory-$host"
        for kind; do
            program "$host" work "$kind" "$directory-$host" "$results/$host-$kind.begun" "$stop" \
                >"$results/$host-$kind" 2>"$results/$host-$kind.err" &
            pids+=($!)
        done
    done
    for host in $hosts; do
        for kind; do
            wait_until "[[ -e $results/$host-$kind.begun ]]" 60
        done
    done
    python3 "$here/survive.py" restart "$victim" "$signal" "$times" "$pause"
    touch "$stop"
    for kind in "${pids[@]}"; do
        wait "$kind" || fail "$(cat "$results"/*)"
    done
    cat "$results"/* >&2
    python3 - "$results" <<'END'
import json, pathlib, statistics, sys
pauses = [json.loads(p.read_text()) for p in pathlib.Path(sys.argv[1]).iterdir() if not p.suffix]
assert all(r["error"] is None and r["steps"] > 1 for r in pauses), pauses
assert max(r["pause_s"] for r in pauses) < 8, "somebody waited for too long"
assert statistics.median(r["pause_s"] for r in pauses) <= 2, "the usual pause is longer than 2 s"
END
}

# done_once OPERATION KIND [N]: the daemon is killed after the N-th entry of that kind, before anybody is answered.
done_once() {
    local operation=$1 kind=$2 n=${3:-1} directory="/mnt/ow/v/$1-$2-${3:-1}" pid
    on h1 mkdir "$directory"
    program h1 prepare "$directory"
    "$cluster" stop h1
    WHISKFS_KILL_AFTER=$kind:$n "$cluster" start h1
    program h1 "do" "$operation" "$directory" &
    pid=$!
    wait_until '[[ $("$cluster" status) == *"ended with status -9"* ]]' 20
    "$cluster" start h1
    wait_until "! kill -0 $pid" 20
    wait "$pid" || fail "$operation, killed after $kind $n: see above"
    within 10 program h1 check "$operation" "$directory"
}

say "two hosts: the member's daemon is killed, the home's is"
hosts='h1 h2'
cluster_up 2 --no-kafka
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
under_load h2 SIGKILL 3 1.5 read write insert
under_load h1 SIGKILL 3 1.5 read write insert
no_errors_in_logs
cluster_down

hosts=h1
cluster_up 1 --no-kafka
on h1 whiskfs volume create v >/dev/null

say "killed ten times"
under_load h1 SIGKILL 10 1 read write lock look build insert
say "killed $n_random times at random"
under_load h1 SIGKILL "$n_random" 0.4 read write insert
say "stopped and started"
under_load h1 SIGTERM 5 1 read write look insert

say "killed between the log and the answer"
while read -r operation kind n; do
    done_once "$operation" "$kind" "$n"
done <<'END'
make make
symlink make
mknod make
create make
create publish
create close_write
tmpfile make
tmpfile link
link link
unlink unlink
unlink_open unlink
unlink_open drop
rmdir rmdir
rename rename
setattr setattr
setxattr setxattr
removexattr removexattr
open_write open_write
open_write publish
truncate open_write
truncate publish
open_truncate publish
append publish
append publish 2
allocate publish
copy publish
fsync publish
END
no_errors_in_logs
