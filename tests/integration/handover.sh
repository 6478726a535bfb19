#!/bin/bash
# The home follows the work: a host that makes 10,000 files pays one hand-over, and then asks nobody. The others find
# the new home, also after restarts; hosts that write at the same time do not hand it to and fro.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 3 --no-kafka

# make HOST DIRECTORY FROM TO: an empty file for each number.
make() {
    within 100 on "$1" sh -c 'mkdir -p "$1"; i=$2; while [ $i -lt $3 ]; do : >"$1/$i"; i=$((i + 1)); done' \
        sh "/mnt/ow/v/$2" "$3" "$4"
}

count() {
    on "$1" sh -c 'ls "$1" | wc -l' sh "/mnt/ow/v/$2"
}

on h1 whiskfs volume create v --size 1GiB >/dev/null
on h2 whiskfs attach v >/dev/null
on h3 whiskfs attach v >/dev/null
make h1 seed 0 100
is_same 100 "$(count h3 seed)"

say "10,000 files on another host"
make h2 work 0 10000
is_same h2 "$(of h2 home)"
is_same 1 "$(of h2 handovers)"
asked=$(of h2 forwarded)
say "h2 asked the home $asked times"
((asked < 5000)) || fail "h2 asked the home $asked times"
make h2 work 10000 11000
is_same "$asked" "$(of h2 forwarded)"
for host in h1 h2 h3; do
    is_same 11000 "$(count $host work)"
    wait_until "[[ \$(of $host home) == h2 ]]" 10
done

say "the others go on with the new home"
for host in h1 h3; do
    within 10 on $host sh -c 'echo "$1" >"/mnt/ow/v/by-$1"' sh $host
    is_same $host "$(within 10 on h2 cat /mnt/ow/v/by-$host)"
done
refused on h1 whiskfs volume remove v

say "the new home is killed, and starts again"
"$cluster" kill h2
"$cluster" start h2
wait_until 'on h2 test -e /mnt/ow/v/work/10999' 20
is_same h2 "$(of h2 home)"
within 20 on h1 sh -c 'echo after >/mnt/ow/v/after'
is_same after "$(within 10 on h3 cat /mnt/ow/v/after)"

say "a host that was away while the home moved on"
"$cluster" stop h1
make h3 more 0 3000
is_same h3 "$(of h3 home)"
"$cluster" start h1
wait_until 'on h1 test -e /mnt/ow/v/more/2999' 20
is_same h3 "$(of h1 home)"
within 10 on h1 sh -c 'echo back >/mnt/ow/v/back'
is_same back "$(within 10 on h2 cat /mnt/ow/v/back)"

say "two hosts that write at the same time"
before=$(($(of h1 handovers) + $(of h2 handovers) + $(of h3 handovers)))
make h1 both1 0 500 &
first=$!
make h2 both2 0 500 &
second=$!
wait $first
wait $second
moved=$(($(of h1 handovers) + $(of h2 handovers) + $(of h3 handovers) - before))
say "the home moved $moved times"
((moved <= 4)) || fail "the home moved $moved times"
for host in h1 h2 h3; do
    is_same 500 "$(count $host both1)"
    is_same 500 "$(count $host both2)"
done

say "its name changes at the new home; a host that slept knows the old name and the old home"
make h2 named2 0 3000
is_same h2 "$(of h2 home)"
on h1 whiskfs detach v >/dev/null
state=$cluster_directory/h1/state/volumes
"$cluster" stop h1
cp -a --sparse=always "$state/v" "$cluster_directory/asleep"
"$cluster" start h1
make h3 named3 0 3000
is_same h3 "$(of h3 home)"
for host in h1 h2; do
    on $host whiskfs detach v >/dev/null 2>&1 || true # h1 may not have it any more
done
wait_until 'on h3 whiskfs volume rename v w' 20
"$cluster" stop h1
rm -rf "$state/v" "$state/w"
mv "$cluster_directory/asleep" "$state/v"
"$cluster" start h1
wait_until 'on h1 mountpoint -q /mnt/ow/w' 30
is_same 3000 "$(on h1 sh -c 'ls /mnt/ow/w/named3 | wc -l')"
no_errors_in_logs
