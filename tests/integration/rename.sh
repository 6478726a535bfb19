#!/bin/bash
# A volume gets another name: never while it is in use, on every host, with all that hosts keep of it, and killed at any
# moment it has one of the two names. Once with a static list of hosts, once with Kafka's directory of volumes.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# rename_on HOST OLD NEW: its exit code; the sentence goes to $said.
rename_on() {
    local status=0
    said=$(on "$1" whiskfs volume rename "$2" "$3" 2>&1) || status=$?
    return $status
}

cluster_up 3 --no-kafka
on h1 whiskfs volume create old --size 1GiB >/dev/null
on h1 whiskfs volume create other --size 1GiB >/dev/null
on h1 sh -c 'echo "of h1" >/mnt/ow/old/one'
on h2 whiskfs attach old >/dev/null
on h2 sh -c 'echo "kept by h2" >/mnt/ow/old/two'

say "refused: in use here, in use elsewhere, taken, elsewhere, unknown, no name"
hold h1 '</mnt/ow/old/one'
on h2 whiskfs detach old >/dev/null
status=0
rename_on h1 old new || status=$?
is_same 5 "$status"
[[ $said == *"in use"* ]] || fail "it says '$said'"
is_same "of h1" "$(on h1 cat /mnt/ow/old/one)"
let_go h1
on h2 whiskfs attach old >/dev/null
is_same "of h1" "$(on h2 cat /mnt/ow/old/one)"
status=0
rename_on h1 old new || status=$?
is_same 5 "$status"
is_same "of h1" "$(on h2 cat /mnt/ow/old/one)"
on h2 whiskfs detach old >/dev/null
refused rename_on h1 old other
refused rename_on h1 old old
refused rename_on h2 old new
refused rename_on h1 nosuchvolume new
refused rename_on h1 old 'no/name'

say "a learner follows; a host that keeps content goes on serving it; one that slept hears of it later"
state=$cluster_directory/h2/state/volumes
"$cluster" stop h2
cp -a --sparse=always "$state/old" "$cluster_directory/asleep"
"$cluster" start h2
on h3 whiskfs attach old >/dev/null # idle: nothing has looked into it
wait_until 'rename_on h1 old new' 20 # h2 has just returned
is_same "of h1" "$(on h1 cat /mnt/ow/new/one)"
refused on h1 test -e /mnt/ow/old
for host in h2 h3; do
    wait_until "on $host mountpoint -q /mnt/ow/new" 20
    refused on $host mountpoint -q /mnt/ow/old
    is_same "of h1" "$(on $host cat /mnt/ow/new/one)"
done
is_same "kept by h2" "$(on h1 cat /mnt/ow/new/two)"
on h3 whiskfs detach new >/dev/null
on h1 whiskfs volume create old --size 1GiB >/dev/null # the name is free
on h1 sh -c 'echo "another volume" >/mnt/ow/old/one'
"$cluster" stop h2
rm -r "$state/new"
mv "$cluster_directory/asleep" "$state/old"
"$cluster" start h2
wait_until 'on h2 mountpoint -q /mnt/ow/new' 20
is_same "kept by h2" "$(on h1 cat /mnt/ow/new/two)"
on h2 whiskfs attach old >/dev/null
is_same "another volume" "$(on h2 cat /mnt/ow/old/one)"
is_same "kept by h2" "$(on h2 cat /mnt/ow/new/two)"
is_same "new old" "$(on h2 ls "/mnt/ow" | sort | xargs)"

say "and back, with both daemons away in between"
on h2 whiskfs detach new >/dev/null
on h1 whiskfs volume remove old --force >/dev/null
rename_on h1 new old || fail "$said"
"$cluster" stop h1
"$cluster" stop h2
"$cluster" start h2
"$cluster" start h1
wait_until 'on h2 mountpoint -q /mnt/ow/old' 30
is_same "kept by h2" "$(within 30 on h1 cat /mnt/ow/old/two)"

say "two renames at once to one name: one of them"
on h2 whiskfs detach old >/dev/null
rename_on h1 old both &
first=$!
rename_on h1 other both &
second=$!
n=0
wait $first && n=$((n + 1))
wait $second && n=$((n + 1))
is_same 1 $n
is_same both "$(on h1 ls /mnt/ow | grep -x both)"
no_errors_in_logs
cluster_down

# names_on HOST: which of v and w there are, for `volume list`.
names_on() {
    on "$1" whiskfs volume list | awk '$1 == "v" || $1 == "w" { print $1 }' | sort | xargs
}

say "killed at any moment, with Kafka"
cluster_up 2
on h1 whiskfs volume create v --size 1GiB >/dev/null
on h1 sh -c 'echo content >/mnt/ow/v/file'
wait_until '[[ $(names_on h2) == v ]]' 20
old=v new=w
for round in {1..12}; do
    { on h1 whiskfs volume rename $old $new >/dev/null 2>&1 || true; } &
    renaming=$!
    sleep "0.0$((round % 4))$((RANDOM % 10))"
    "$cluster" kill h1
    wait $renaming
    "$cluster" start h1
    wait_until 'on h1 grep -q content /mnt/ow/v/file || on h1 grep -q content /mnt/ow/w/file' 30
    wait_until '[[ $(names_on h1) == [vw] && $(names_on h2) == "$(names_on h1)" ]]' 30
    old=$(names_on h1)
    new=$([[ $old == v ]] && echo w || echo v)
    refused on h1 test -e "/mnt/ow/$new/file"
done
on h2 whiskfs attach "$old" >/dev/null
is_same content "$(on h2 cat "/mnt/ow/$old/file")"
refused on h2 whiskfs attach "$new"
on h2 whiskfs volume create "$new" >/dev/null # the other name is free
no_errors_in_logs
