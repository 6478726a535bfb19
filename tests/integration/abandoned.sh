#!/bin/bash
# Whom a daemon leaves: while it is stopped or dead its host shows no name that another host has changed; when it stays
# away its mounts end with an error and not with a hang; when whiskfs-mountd is killed the mounts go on.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# ends_in SECONDS COMMAND…: on h1; it must fail, and not because it was stopped.
ends_in() {
    local limit=$1 status=0
    shift
    on h1 timeout -s KILL "$limit" "$@" 2>/dev/null || status=$?
    ((status != 0)) || fail "succeeded without a daemon: $*"
    ((status != 137)) || fail "hangs without a daemon: $*"
}

status_says() {
    [[ $(on h1 whiskfs status) == *"$1"* ]]
}

# no_old_name ACTION: h2's kernel knows a name, its daemon goes silent, h1 changes the name.
no_old_name() {
    local status=0
    on h1 sh -c 'echo here >/mnt/ow/v/name'
    wait_until 'on h2 stat /mnt/ow/v/name >/dev/null' 10
    on h2 stat /mnt/ow/v/name >/dev/null
    "$cluster" "$1" h2
    within 20 on h1 mv /mnt/ow/v/name "/mnt/ow/v/renamed-$1"
    on h2 timeout -s KILL 1 stat /mnt/ow/v/name >/dev/null 2>&1 || status=$?
    ((status != 0)) || fail "a host whose daemon is silent ($1) shows a name that is gone"
    grep -q "lease on 'v' ends: names expire: done" "$cluster_directory/h2/mountd.log" || fail "nobody let the names expire"
    : >"$cluster_directory/h2/mountd.log"
    "$cluster" "$2" h2
    refused within 10 on h2 stat /mnt/ow/v/name 2>/dev/null
    is_same here "$(within 10 on h2 cat "/mnt/ow/v/renamed-$1")"
}

say "no old names on the host of a silent daemon"
cluster_up 2 --no-kafka --mountd=--debug
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
no_old_name pause resume
no_old_name kill start
cluster_down

cluster_up 1 --no-kafka --mountd=--timeout=3
on h1 whiskfs volume create v >/dev/null
on h1 sh -c 'echo content >/mnt/ow/v/file'

say "whiskfs-mountd is killed: the mount goes on, and is given back to the next one"
"$cluster" kill h1 --mountd
wait_until 'status_says "ENDS WITH THE DAEMON"' 10 # which has the descriptors too: nothing is lost yet
is_same content "$(on h1 cat /mnt/ow/v/file)"
"$cluster" start h1 --mountd
wait_until 'status_says "survives the daemon"' 10
"$cluster" kill h1
"$cluster" start h1
grep -q 'resumed the mount' "$cluster_directory/h1/log" || fail "the mount was not given back"
is_same content "$(on h1 cat /mnt/ow/v/file)"

say "whiskfs-mountd is stopped: it unmounts; the daemon mounts again with the next one"
"$cluster" stop h1 --mountd
refused on h1 mountpoint -q /mnt/ow/v
"$cluster" start h1 --mountd
wait_until 'on h1 mountpoint -q /mnt/ow/v' 10
is_same content "$(within 10 on h1 cat /mnt/ow/v/file)"

say "a second daemon is refused"
on h1 sh -c "sed 's/^listen.*/listen = 127.0.0.1:7999/; s/^metrics.*/metrics =/; s/control.sock/other.sock/' \
    $cluster_directory/h1/whiskfsd.conf >/run/second.conf"
refused within 20 on h1 "$WHISKFS_BUILD/daemon/whiskfsd" --config /run/second.conf 2>"$cluster_directory/second.log"
grep -q 'another whiskfsd is connected' "$cluster_directory/second.log" || fail "$(cat "$cluster_directory/second.log")"

say "the daemon stays away: an error after the bound"
{ on h1 sh -c 'exec 3</mnt/ow/v/file; echo open; exec sleep 1000' >"$cluster_directory/opened" || true; } &
wait_until 'grep -q open "$cluster_directory/opened"' 10
"$cluster" kill h1
ends_in 10 stat /mnt/ow/v/file
wait_until 'on h1 sh -c "! mountpoint -q /mnt/ow/v"' 10
grep -q "no daemon serves 'v'" "$cluster_directory/h1/mountd.log" || fail "nothing says why"
"$cluster" start h1
wait_until 'on h1 mountpoint -q /mnt/ow/v' 10
is_same content "$(within 10 on h1 cat /mnt/ow/v/file)"

say "detach unmounts; a volume that is removed leaves no mount"
within 10 on h1 whiskfs detach v >/dev/null
refused is_mounted h1 v
within 10 on h1 whiskfs attach v >/dev/null
within 10 on h1 whiskfs volume remove v >/dev/null
refused on h1 test -e /mnt/ow/v
cluster_down

say "without whiskfs-mountd the mount ends with the daemon, and that is said"
cluster_up 1 --no-kafka --no-mountd
on h1 whiskfs volume create v >/dev/null
status_says "ENDS WITH THE DAEMON"
grep -q 'mountd is off' "$cluster_directory/h1/log" || fail "the log does not say that mounts end with the daemon"
"$cluster" kill h1
ends_in 10 stat /mnt/ow/v/file
