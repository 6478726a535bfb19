#!/bin/bash
# /mnt/ow is an autofs: naming a volume attaches it, also from another mount namespace, also while the daemon is away for a
# while; what cannot be attached is an error, at once or after a bound, and is not remembered.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
grep -qw autofs /proc/filesystems && [[ -e /dev/autofs ]] || skip "there is no autofs in this kernel"

# fails_with WORDS SECONDS COMMAND…: on h2; it must fail within that time and say so.
fails_with() {
    local words=$1 limit=$2 said
    shift 2
    if said=$(on h2 timeout -s KILL "$limit" env LC_ALL=C "$@" 2>&1); then
        fail "succeeded, and should not: $*"
    fi
    [[ $said == *"$words"* ]] || fail "wanted '$words', got '$said'"
}

# detached: h2 has no mount of v.
detached() {
    within 20 on h2 whiskfs detach v >/dev/null
    refused is_mounted h2 v
    refused on h2 sh -c 'ls /mnt/ow | grep -qx v'
}

cluster_up 2 --no-kafka --mountd=--timeout=11
on h1 whiskfs volume create v >/dev/null
on h1 sh -c 'echo here >/mnt/ow/v/file'

say "first access attaches, on a host that never heard 'attach'"
is_same 1 "$(metric h2 whiskfs_autofs)"
is_same "" "$(on h2 ls /mnt/ow)"
is_same here "$(within 20 on h2 cat /mnt/ow/v/file)"
is_same v "$(on h2 ls /mnt/ow)"
on h2 sh -c 'echo there >/mnt/ow/v/second'
is_same there "$(on h1 cat /mnt/ow/v/second)"
on h2 rm /mnt/ow/v/second
is_same 1 "$(metric h2 whiskfs_first_accesses_total)"

say "every way to name it does"
for command in 'stat /mnt/ow/v/file' 'ls /mnt/ow/v/.' 'cd /mnt/ow/v && pwd' 'test -d /mnt/ow/v/' 'find /mnt/ow/v -name file' \
    'mkdir /mnt/ow/v/new && rmdir /mnt/ow/v/new' 'mountpoint -q /mnt/ow/v'; do
    detached
    within 20 on h2 sh -c "$command" >/dev/null
    is_mounted h2 v
done

say "50 at once"
detached
within 60 on h2 sh -c 'for i in $(seq 50); do cat /mnt/ow/v/file & done; wait' >"$cluster_directory/fifty"
is_same 50 "$(grep -cx here "$cluster_directory/fifty")"

say "unknown names fail at once, and are not remembered"
fails_with "No such file" 3 cat /mnt/ow/later/file
fails_with "No such file" 3 ls /mnt/ow/.hidden
fails_with "denied" 3 mkdir /mnt/ow/later
on h1 whiskfs volume create later >/dev/null
within 20 on h2 touch /mnt/ow/later/file
on h1 test -e /mnt/ow/later/file
within 20 on h2 whiskfs detach later >/dev/null

say "20 unknown names and a known one at once"
detached
within 60 on h2 sh -c 'for i in $(seq 20); do cat /mnt/ow/none$i/f 2>/dev/null & done; cat /mnt/ow/v/file; wait' >"$cluster_directory/many"
is_same here "$(cat "$cluster_directory/many")"

say "from another mount namespace, a slave of this one"
detached
is_same here "$(within 20 on h2 unshare -m --propagation slave cat /mnt/ow/v/file)"
detached
{ on h2 unshare -m --propagation slave sh -c 'mkdir -p /run/ow && mount --rbind --make-rslave /mnt/ow /run/ow && touch /run/bound &&
    until test -e /run/go; do sleep 0.05; done; cat /run/ow/v/file; cat /run/ow/none/file 2>/dev/null || echo none' >"$cluster_directory/slave" || true; } &
slave=$!
wait_until 'on h2 test -e /run/bound' 10
on h2 touch /run/go
wait "$slave"
is_same 'here none' "$(tr '\n' ' ' <"$cluster_directory/slave" | sed 's/ $//')"
is_mounted h2 v

say "detach while it is used is refused; a volume that is removed is unknown"
{ on h2 sh -c 'exec 3</mnt/ow/later/file; touch /run/open; until test -e /run/over; do sleep 0.05; done' || true; } &
holder=$!
wait_until 'on h2 test -e /run/open' 20
refused on h2 whiskfs detach later
on h2 touch /run/over
wait "$holder"
wait_until 'on h2 whiskfs detach later' 10 >/dev/null
within 20 on h1 whiskfs volume remove later --force >/dev/null
fails_with "No such file" 10 cat /mnt/ow/later/file
within 10 refused on h1 cat /mnt/ow/later/file 2>/dev/null

# waits_over ACTION…: a first access while there is no daemon waits, and succeeds after ACTION.
waits_over() {
    local pid
    { on h2 timeout -s KILL 30 cat /mnt/ow/v/file >"$cluster_directory/waited" 2>&1 || true; } &
    pid=$!
    wait_until '[[ $(on h2 sh -c "cat /proc/[0-9]*/wchan" | tr "\0" "\n") == *autofs* ]]' 10
    "$@"
    wait "$pid"
    is_same here "$(cat "$cluster_directory/waited")"
}

say "the daemon is killed: a first access waits for the next one"
for _ in 1 2 3; do
    detached
    "$cluster" kill h2
    waits_over "$cluster" start h2
done

say "the daemon is killed, or stopped, in the middle of a first access"
for how in kill stop; do
    detached
    "$cluster" pause h2
    if [[ $how == kill ]]; then
        waits_over eval '"$cluster" kill h2 && "$cluster" start h2'
    else
        waits_over eval '"$cluster" resume h2 && "$cluster" stop h2 && "$cluster" start h2'
    fi
done

say "no daemon for longer than the bound: an error, also for who comes next; then it works again"
detached
"$cluster" kill h2
fails_with "timed out" 20 cat /mnt/ow/v/file
fails_with "timed out" 20 cat /mnt/ow/v/file
"$cluster" start h2
is_same here "$(within 20 on h2 cat /mnt/ow/v/file)"
detached
"$cluster" pause h2
fails_with "timed out" 20 cat /mnt/ow/v/file
"$cluster" resume h2
wait_until '[[ $(on h2 cat /mnt/ow/v/file) == here ]]' 20

say "its home is silent: an error after a bound; then it works again"
detached
"$cluster" kill h1
fails_with "No route" 20 cat /mnt/ow/v/file
say "after which unknown names wait for it no more"
fails_with "No route" 5 cat /mnt/ow/none/file
fails_with "No route" 5 cat /mnt/ow/none/file
"$cluster" start h1
is_same here "$(within 20 on h2 cat /mnt/ow/v/file)"

say "both processes are killed: the next ones go on with the autofs that is left"
"$cluster" kill h2
"$cluster" kill h2 --mountd
"$cluster" start h2 --mountd
"$cluster" start h2
grep -q 'goes on with the autofs' "$cluster_directory/h2/mountd.log" || fail "it was not taken over"
is_same here "$(within 20 on h2 cat /mnt/ow/v/file)"
detached
is_same here "$(within 20 on h2 cat /mnt/ow/v/file)"

say "whiskfs-mountd alone is killed"
"$cluster" kill h2 --mountd
is_same here "$(within 10 on h2 cat /mnt/ow/v/file)"
"$cluster" start h2 --mountd
wait_until 'on h2 whiskfs status | grep -q "survives the daemon"' 10
detached
is_same here "$(within 20 on h2 cat /mnt/ow/v/file)"

say "doctor"
on h2 whiskfs doctor | grep -q 'first access .*autofs in force at /mnt/ow' || fail "$(on h2 whiskfs doctor)"
on h2 whiskfs doctor | grep -q 'mount propagation .*is shared' || fail "$(on h2 whiskfs doctor)"
on h2 mount --make-private /mnt/ow
on h2 whiskfs doctor | grep -q 'mount --make-rshared /mnt/ow' || fail "$(on h2 whiskfs doctor)"

say "stopped, nothing is left mounted"
"$cluster" stop h2
"$cluster" stop h2 --mountd
refused on h2 grep -qE ' - (autofs|fuse[.a-z]*) whiskfs' /proc/self/mountinfo
is_same "" "$(on h2 ls /mnt/ow)"
expected_errors="no daemon serves"
no_errors_in_logs
cluster_down

say "off, /mnt/ow is a directory"
cluster_up 1 --no-kafka --config mounts.autofs=off
is_same 0 "$(metric h1 whiskfs_autofs)"
refused on h1 grep -q ' - autofs whiskfs ' /proc/self/mountinfo
on h1 whiskfs volume create v >/dev/null
is_mounted h1 v
