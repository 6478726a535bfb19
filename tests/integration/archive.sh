#!/bin/bash
# `volume export` and `volume import`: there and back, and to and from tar itself, with all that a tar stream can hold;
# files that are open; and imports that fail or are interrupted leave nothing.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=trees.sh
. "$(dirname "$0")/trees.sh"
requires tar setfacl getfacl setfattr getfattr setcap

cluster_up 2 --no-kafka
wanted=$cluster_directory/wanted
stream=$cluster_directory/stream
tar_options='--acls --xattrs --xattrs-include=* --numeric-owner'

# differs DIRECTORY [HOST]: fails when the tree there is another than what is wanted.
is_wanted() {
    describe "${2:-h1}" "$1" | diff "$wanted" - >&2 || fail "another tree is in $1"
}

volumes() {
    on "$1" whiskfs volume list | awk 'NR > 1 { print $1 }' | sort | xargs
}

on h1 whiskfs volume create one --size 1GiB >/dev/null
make_tree h1 /mnt/ow/one/tree
on h1 bash -euo pipefail -c 'cd /mnt/ow/one/tree && cp /bin/true capable && setcap cap_net_raw=ep capable
    printf x >$'"'"'\377\376'"'"' && mkdir -p deep && cd deep && name=$(printf "d%.0s" $(seq 200))
    for _ in $(seq 15); do mkdir $name && cd $name; done && echo deepest >file
    truncate -s 1G /mnt/ow/one/hole; mkdir -m 700 /mnt/ow/one/tree/locked
    for i in $(seq 3000); do echo $i >/mnt/ow/one/tree/empty/$i; done
    mknod /mnt/ow/one/tree/block b 7 9 && chown 12345:54321 /mnt/ow/one/tree/empty/1
    chmod 1775 /mnt/ow/one && chown 3:4 /mnt/ow/one && setfattr -n user.root -v yes /mnt/ow/one'
describe h1 /mnt/ow/one >"$wanted"

say "there and back, on another host"
on h1 whiskfs volume export one >"$stream"
(($(stat -c %s "$stream") < 100000000)) || fail "holes were written as zeros"
on h2 whiskfs volume import two <"$stream" >/dev/null
is_wanted /mnt/ow/two h2
on h2 sh -c '[ $(stat -c %b /mnt/ow/two/hole) -lt 100 ] && [ $(stat -c %b /mnt/ow/two/tree/sparse) -lt 1000 ]'
[[ $(on h2 stat -c '%U %G %a %X' /mnt/ow/two) == "$(on h1 stat -c '%U %G %a %X' /mnt/ow/one)" ]]
is_same "$(on h1 stat -c %y /mnt/ow/one/tree/deep)" "$(on h2 stat -c %y /mnt/ow/two/tree/deep)"
is_same yes "$(on h2 getfattr --only-values -n user.root /mnt/ow/two)"
is_same "$(on h1 getcap /mnt/ow/one/tree/capable | cut -d ' ' -f 2-)" "$(on h2 getcap /mnt/ow/two/tree/capable | cut -d ' ' -f 2-)"

say "tar reads it, tar writes it"
mkdir "$cluster_directory/untarred"
# shellcheck disable=SC2086 # options
on h1 tar -C "$cluster_directory/untarred" $tar_options --same-owner -p -x <"$stream"
is_wanted "$cluster_directory/untarred"
rm "$cluster_directory/untarred/tree/"$'\377\376' # tar does not say that it is not UTF-8
describe h1 "$cluster_directory/untarred" >"$wanted"
# shellcheck disable=SC2086
on h1 tar -C "$cluster_directory/untarred" $tar_options -S --format=pax -c . | on h1 whiskfs volume import three >/dev/null
is_wanted /mnt/ow/three

say "files that are open, and a socket"
on h1 python3 -c '
import os, socket, subprocess, sys
os.chdir("/mnt/ow/three")
f = open("open", "wb"); f.write(b"so far"); f.flush()
gone = open("gone", "wb"); gone.write(b"x"); gone.flush(); os.unlink("gone")
socket.socket(socket.AF_UNIX).bind("socket")
with open(sys.argv[1], "wb") as out:
    said = subprocess.run(["whiskfs", "volume", "export", "three"], stdout=out, stderr=subprocess.PIPE, check=True).stderr
assert b"1 sockets are left out" in said, said' "$cluster_directory/open"
is_same "so far" "$(tar -xOf "$cluster_directory/open" ./open)"
refused tar -tf "$cluster_directory/open" ./gone ./socket 2>/dev/null

say "what a script wants to know"
on h1 whiskfs volume export one --json >/dev/null 2>"$cluster_directory/json"
is_same "one $((1 << 30))" "$(python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["name"], d["bytes"] >> 30 << 30)' <"$cluster_directory/json")"
is_same "four 1" "$(tar -C "$cluster_directory" -c json | on h1 whiskfs volume import four --json |
    python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["name"], d["entries"])')"

say "no half volumes"
before=$(volumes h1)
refused on h1 whiskfs volume import one <"$stream" # exists
refused on h1 whiskfs volume import half </etc/passwd
head -c $(($(stat -c %s "$stream") / 2)) "$stream" >"$stream.half"
refused on h1 whiskfs volume import half <"$stream.half"
refused on h1 whiskfs volume import half --size 2MiB <"$stream"
tar -C / -P -c --transform 's,etc/hostname,../escaped,' /etc/hostname 2>/dev/null >"$stream.escaping"
refused on h1 whiskfs volume import half <"$stream.escaping"
refused on h1 test -e /mnt/ow/escaped
for signal in INT TERM; do
    mkfifo "$stream.fifo"
    on h1 whiskfs volume import half <"$stream.fifo" 2>"$cluster_directory/said" &
    importing=$!
    exec 8>"$stream.fifo"
    cat "$stream.half" >&8
    wait_until 'on h1 test -e /mnt/ow/half.partial/tree/plain' 20
    on h1 sh -c "kill -$signal \$(pidof whiskfs)"
    status=0
    wait $importing || status=$?
    exec 8>&-
    rm "$stream.fifo"
    ((status != 0)) || fail "interrupted, and it exits with 0"
    grep -q interrupted "$cluster_directory/said" || fail "it says $(cat "$cluster_directory/said")"
done
is_same "$before" "$(volumes h1)"
say "one that was killed is known by its name"
{ cat "$stream.half" && sleep 60; } | on h1 whiskfs volume import half 2>/dev/null &
wait_until 'on h1 test -e /mnt/ow/half.partial/tree/plain' 20
on h1 sh -c 'kill -9 $(pidof whiskfs)'
is_same "$before half.partial" "$(volumes h1 | xargs -n 1 | sort -u | sed /half/d | xargs) half.partial"
refused on h1 whiskfs volume show half
on h1 whiskfs volume remove half.partial --force >/dev/null
no_errors_in_logs
