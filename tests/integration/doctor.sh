#!/bin/bash
# whiskfs doctor on hosts that are set up wrongly: it names what is wrong, its remedy mends it, and then it says so.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
requires unshare

# findings CHECK: a line each, VERDICT|FINDING|REMEDY.
findings() {
    { on h1 whiskfs doctor --json || true; } | python3 -c 'import json, sys
for line in json.load(sys.stdin):
    if line["check"] == sys.argv[1]:
        print(line["verdict"], line["finding"], line["remedy"], sep="|")' "$1"
}

# says WANTED CHECK: its only finding matches the pattern.
says() {
    local found
    found=$(findings "$2")
    # shellcheck disable=SC2053 # a pattern
    [[ $found == $1 ]] || fail "$2: wanted '$1', got '$found'"
}

# engine PROPAGATION NAME: a process that is called so, in a mount namespace of its own.
engine() {
    cp "$(command -v sleep)" "$cluster_directory/$2"
    { on h1 unshare --mount --propagation "$1" "$cluster_directory/$2" 600 || true; } 2>/dev/null &
    wait_until "on h1 pidof $2 >/dev/null" 20
    engine_pid=$(on h1 pidof "$2")
}

# engine_ends: the process of engine().
engine_ends() {
    on h1 kill "$engine_pid"
    wait_until "! on h1 test -e /proc/$engine_pid" 20
}

# in_engine COMMAND…: where that process looks.
in_engine() {
    on h1 nsenter -t "$engine_pid" -m "$@"
}

cluster_up 1 --no-kafka
on h1 whiskfs volume create before >/dev/null

say "a private mount"
on h1 mount --make-rprivate /
says 'warning|/mnt/ow lies on */*, which is private*|mount --make-rshared *' "mount propagation"
is_same "" "$(findings "container engine")" # not asked before that is mended
engine slave dockerd
on h1 whiskfs volume create unseen >/dev/null
refused in_engine mountpoint -q /mnt/ow/unseen
engine_ends
remedy=$(findings "mount propagation")
on h1 sh -c "${remedy##*|}"
says 'ok|/mnt/ow lies on */*, which is shared|' "mount propagation"

say "an engine that is reached"
engine slave dockerd
says "ok|dockerd (process $engine_pid) sees what is mounted in /mnt/ow|" "container engine"
on h1 whiskfs volume create later >/dev/null
in_engine mountpoint -q /mnt/ow/later
engine_ends
is_same "" "$(findings "container engine")"

say "engines in namespaces of their own"
for name in dockerd containerd crio; do
    engine private $name
    says "warning|$name (process $engine_pid) has a mount namespace of its own*|*MountFlags=shared*nsenter -t 1 -m $name'" \
        "container engine"
    on h1 whiskfs volume create "unseen-by-$name" >/dev/null
    refused in_engine mountpoint -q "/mnt/ow/unseen-by-$name"
    engine_ends
done
no_errors_in_logs
