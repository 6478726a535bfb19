#!/bin/bash
# Set-id programs and device files of a volume have an effect only where it says so: on every host, from the next mount on,
# whoever mounts.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
readonly stranger=4711

# fill HOST VOLUME: a program that shows whose rights it has, and a device file.
fill() {
    on "$1" sh -c 'cd "$1" && cp /usr/bin/id id && chmod 4755 id && mknod -m 666 null c 1 3' fill "/mnt/ow/$2"
}

# is_suid HOST VOLUME yes|no
is_suid() {
    local wanted=$stranger
    if [[ $3 == yes ]]; then
        wanted=0
    fi
    is_same $wanted "$(on "$1" setpriv --reuid $stranger --clear-groups "/mnt/ow/$2/id" -u)"
}

# is_dev HOST VOLUME yes|no
is_dev() {
    local can=no
    if on "$1" sh -c 'echo x >"$1"' is_dev "/mnt/ow/$2/null" 2>/dev/null; then
        can=yes
    fi
    is_same "$3" $can
}

again() {
    on "$1" whiskfs detach "$2" >/dev/null
    on "$1" whiskfs attach "$2" >/dev/null
}

for mountd in "" --no-mountd; do
    say "with ${mountd:-whiskfs-mountd}"
    cluster_up 2 --no-kafka ${mountd:+"$mountd"}
    on h1 whiskfs volume create plain >/dev/null
    on h1 whiskfs volume create both --suid --dev >/dev/null
    on h1 whiskfs volume create devices --dev >/dev/null
    for volume in plain both devices; do
        fill h1 $volume
        on h2 whiskfs attach $volume >/dev/null
    done
    for host in h1 h2; do
        is_suid $host plain no
        is_dev $host plain no
        is_suid $host both yes
        is_dev $host both yes
        is_suid $host devices no
        is_dev $host devices yes
    done
    refused on h2 whiskfs volume set plain --suid # not its home
    refused on h1 whiskfs volume set plain
    refused on h1 whiskfs volume set plain --nonsense 2>/dev/null

    on h1 whiskfs volume set plain --suid >/dev/null
    on h1 whiskfs volume set both --no-dev >/dev/null
    is_suid h1 plain no # mounted before
    is_dev h1 both yes
    for host in h1 h2; do
        again $host plain
        again $host both
        is_suid $host plain yes
        is_dev $host plain no
        is_suid $host both yes
        is_dev $host both no
    done
    "$cluster" kill h1
    "$cluster" start h1
    wait_until 'on h1 test -e /mnt/ow/plain/id && on h1 test -e /mnt/ow/devices/id' 20
    is_suid h1 plain yes
    is_dev h1 devices yes
    is_suid h1 devices no
    is_same "true false" "$(on h1 whiskfs volume show plain --json | python3 -c 'import json, sys; d = json.load(sys.stdin)
print(str(d["suid"]).lower(), str(d["dev"]).lower())')"
    no_errors_in_logs
    cluster_down
done
