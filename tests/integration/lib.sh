# Vocabulary of the integration tests; they are bash scripts that source this first:
#
#   . "$(dirname "$0")/lib.sh"
#   cluster_up 2 --no-kafka
#   on h1 whiskfs volume create v
#   wait_until 'on h2 test -e /mnt/ow/v/file' 10
#
# Every command that fails ends the test. Whatever happens, the cluster goes away; when the test failed, the daemons'
# logs are shown first. Exit code 77: cannot run here. Nothing here sleeps except to poll a condition.
# shellcheck shell=bash

set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly repository
readonly cluster=$repository/bench/cluster
readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/whiskfs # what tests/setup made
# shellcheck disable=SC2034 # for those who source this
readonly suites=$cache/suites
export WHISKFS_BUILD=${WHISKFS_BUILD:-$repository/build/dev}

cleanups=()
cluster_directory=

say() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
}

skip() {
    say "skipped: $*"
    exit 77
}

fail() {
    say "FAILED (line ${BASH_LINENO[-2]}): $*"
    exit 1
}

# requires COMMAND…: skips the test where one of them is missing.
requires() {
    local command
    for command; do
        command -v "$command" >/dev/null || skip "there is no $command"
    done
}

# cleanup_fn COMMAND…: runs at the end, however it ends; the last one first.
cleanup_fn() {
    local quoted
    printf -v quoted '%q ' "$@"
    cleanups+=("$quoted")
}

leave() {
    local status=$? i
    trap - EXIT
    set +e
    if ((status != 0 && status != 77)); then
        show_logs
    fi
    for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
        eval "${cleanups[i]}" || status=$((status == 0 || status == 77 ? 1 : status))
    done
    exit "$status"
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'say "FAILED (line $LINENO): $BASH_COMMAND"' ERR
set -E

show_logs() {
    local log
    for log in "$cluster_directory"/h*/log; do
        [[ -e $log ]] || continue
        printf -- '---- the end of %s\n' "${log#"$cluster_directory"/}" >&2
        tail -n 40 "$log" >&2
    done
}

# cluster_up N [options of bench/cluster up]: hosts h1…hN, with daemons that answer. One at a time.
cluster_up() {
    [[ $(id -u) == 0 ]] || skip "hosts are made of namespaces, which needs root"
    requires nsenter setpriv ip tc nft python3 curl
    WHISKFS_CLUSTER=$(basename "$0" .sh)-$$
    export WHISKFS_CLUSTER
    "$cluster" up "$@" --owner $$ >/dev/null
    cleanups+=(cluster_down)
    cluster_directory=$("$cluster" directory)
}

# cluster_down: for a test that makes several, one after the other. Fails when a daemon does not end well.
cluster_down() {
    cleanups=("${cleanups[@]/#cluster_down/:}")
    "$cluster" down
}

# on HOST COMMAND…: runs it there, as root, in /.
on() {
    local pid
    read -r pid _ <"$cluster_directory/$1/pid"
    shift
    # shellcheck disable=SC2086 # the limit of within() is a word or nothing
    PATH=$WHISKFS_BUILD/client:$PATH ${within_limit:+timeout -k 1 $within_limit} \
        nsenter -t "$pid" -n -m -u -p -- setpriv --pdeathsig KILL -- env -C / "$@"
}

# within SECONDS COMMAND…: the test fails when the command is not done by then; else its exit code.
within() {
    local within_limit=$1 status=0
    shift
    if [[ $(type -t "$1") == function ]]; then
        "$@" || status=$?
    else
        timeout -k 1 "$within_limit" "$@" || status=$?
    fi
    ((status != 124 && status != 137)) || fail "not done within $within_limit s: $*"
    return "$status"
}

# wait_until CONDITION SECONDS: polls until the condition, a piece of shell, is true.
wait_until() {
    local deadline=$((SECONDS + $2 + 1))
    until eval "$1" 2>/dev/null; do
        ((SECONDS < deadline)) || fail "not true within $2 s: $1"
        sleep 0.05
    done
}

# is_mounted HOST VOLUME: from the kernel's list, since naming a volume may mount it.
is_mounted() {
    on "$1" grep -q " /mnt/ow/$2 " /proc/self/mountinfo
}

# metric HOST NAME: its value; without labels in NAME the sum of all its series; 0 when there is none.
metric() {
    on "$1" curl -sS --max-time 5 http://127.0.0.1:9433/metrics |
        awk -v name="$2" '$1 == name || index($1, name "{") == 1 { sum += $2 } END { printf "%.15g\n", sum }'
}

# is_same WANTED GOT: fails with both when they differ.
is_same() {
    [[ $1 == "$2" ]] || fail "wanted '$1', got '$2'"
}

# of HOST FIELD: what the host says of volume v in `whiskfs status`.
of() {
    on "$1" whiskfs status --json | python3 -c '
import json, sys
print(next(v[sys.argv[1]] for v in json.load(sys.stdin)["volumes"] if v["name"] == "v"))' "$2"
}

# flip FILE OFFSET: one bit.
flip() {
    python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
at = int(sys.argv[2])
os.pwrite(fd, bytes([os.pread(fd, 1, at)[0] ^ 4]), at)' "$1" "$2"
}

# hold HOST REDIRECTION: a process there opens what the redirection names (">>/mnt/ow/v/f") and has it open until let_go.
hold() {
    local line
    on "$1" rm -f /run/stop
    exec 7< <(on "$1" sh -c "exec 3$2; echo open; while ! test -e /run/stop; do sleep 0.05; done; echo closed")
    read -r -u 7 line
    is_same open "$line"
}

# let_go HOST: returns when it is closed.
let_go() {
    local line
    on "$1" touch /run/stop
    read -r -u 7 line
    is_same closed "$line"
    exec 7<&-
}

# refused COMMAND…: the command must fail.
refused() {
    if "$@"; then
        fail "succeeded, and should not: $*"
    fi
}

# publish TOPIC: standard input, to the cluster's broker.
publish() {
    on kafka kcat -P -b kafka:9092 -t "$1" -X acks=1
}

# shellcheck disable=SC2034
readonly whisk=$repository/tests/integration/whisk.py

# ping_all: as the invokers of h1, h2 and h3 do.
ping_all() {
    local i
    for i in 0 1 2; do
        "$whisk" ping "$i" | publish health
    done
}

# wait_hears HOST…: until these hosts hear what is published now. A ping says that they do: pings count for ten seconds.
wait_hears() {
    local host heard
    for host; do
        heard=$(metric "$host" whiskfs_openwhisk_messages_total)
        wait_until "ping_all; (($heard < \$(metric $host whiskfs_openwhisk_messages_total)))" 40
        wait_until "ping_all; [[ \$(metric $host whiskfs_openwhisk_invokers_up) == 3 ]]" 15
    done
    ping_all
}

# start_hosts: h1, h2 and h3, of a cluster that is up without daemons, until each knows the others.
start_hosts() {
    local host
    for host in h1 h2 h3; do
        "$cluster" start $host
    done
    for host in h1 h2 h3; do
        wait_until "[[ \$(metric $host whiskfs_hosts_known) == 2 ]]" 15
    done
}

# on_all METRIC: of h1, h2 and h3.
on_all() {
    local host
    for host in h1 h2 h3; do
        metric $host "$1"
    done | tr '\n' ' '
}

# sum_on HOST FILE: the SHA-256 of a file as that host sees it.
sum_on() {
    on "$1" sha256sum "$2" | cut -d ' ' -f 1
}

# no_errors_in_logs: no daemon logged an error, but for those that match $expected_errors.
expected_errors='^$'
no_errors_in_logs() {
    local found
    found=$(grep -nE '^<[0-3]>|Sanitizer|runtime error:' "$cluster_directory"/h*/log | grep -vE "$expected_errors" || true)
    [[ -z $found ]] || fail "errors in the logs: $found"
}
