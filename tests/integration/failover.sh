#!/bin/bash
# A home that is lost: an operator gives its place to a replica. When it comes back it yields; what only it had is put
# aside, and neither dropped nor merged.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 3 --no-kafka

# saved HOST FIELD: of what was put aside there, a line each.
saved() {
    on "$1" whiskfs status --json | python3 -c '
import json, sys
for s in json.load(sys.stdin)["saved"]: print(s[sys.argv[1]])' "$2"
}

# put HOST NAME TEXT
put() {
    within 20 on "$1" sh -c 'echo "$2" >"/mnt/ow/v/$1"' sh "$2" "$3"
}


on h1 whiskfs volume create v --size 1GiB >/dev/null
on h2 whiskfs attach v >/dev/null
on h3 whiskfs attach v >/dev/null
put h1 shared of-h1
put h2 by-h2 of-h2
is_same of-h2 "$(within 20 on h3 cat /mnt/ow/v/by-h2)"
is_same of-h1 "$(within 20 on h2 cat /mnt/ow/v/shared)"
on h1 sh -c 'for i in 1 2 3 4 5 6 7 8; do echo known-$i >/mnt/ow/v/known-$i; done' # read nowhere else
wait_until 'on h2 test -s /mnt/ow/v/known-8' 20
wait_until 'on h3 test -s /mnt/ow/v/known-8' 20

say "nobody takes the home of a volume whose home works"
refused on h2 whiskfs volume take-home v --force 2>"$cluster_directory/said"
grep -q "it answers" "$cluster_directory/said"
is_same h1 "$(of h2 home)"

say "the home is cut off and goes on; the others lose it"
"$cluster" partition h1 h2
"$cluster" partition h1 h3
put h1 only-h1 left-behind
put h1 shared changed-by-h1
on h1 mkdir /mnt/ow/v/directory-of-h1
on h1 sh -c 'for i in 1 2 3 4 5 6 7 8 9; do echo $i >/mnt/ow/v/lost-$i; done'
refused on h2 whiskfs volume take-home v 2>"$cluster_directory/said"
grep -q -- "--force" "$cluster_directory/said"
within 30 on h2 whiskfs volume take-home v --force >/dev/null
is_same h2 "$(of h2 home)"
put h2 after of-the-new-home
wait_until 'on h3 test -e /mnt/ow/v/after' 30
put h3 by-h3 of-h3
is_same of-h3 "$(within 20 on h2 cat /mnt/ow/v/by-h3)"

say "it comes back: it yields, and what only it had is put aside"
"$cluster" heal
wait_until '[[ $(of h1 home) == h2 ]]' 30
wait_until '[[ -n $(saved h1 path) ]]' 30
wait_until 'on h1 test -e /mnt/ow/v/by-h3' 30
path=$(saved h1 path)
is_same v "$(saved h1 volume)"
is_same left-behind "$(on h1 cat "$path/files/only-h1")"
is_same changed-by-h1 "$(on h1 cat "$path/files/shared")"
on h1 test -d "$path/files/directory-of-h1"
on h1 grep -q "mkdir\|make.*'directory-of-h1'" "$path/changes"
on h1 whiskfs status | grep -q "SAVED of volume 'v'"
for host in h1 h2 h3; do
    refused on $host test -e /mnt/ow/v/only-h1
    refused on $host test -e /mnt/ow/v/directory-of-h1
    is_same of-h2 "$(within 20 on $host cat /mnt/ow/v/by-h2)"
    is_same of-the-new-home "$(within 20 on $host cat /mnt/ow/v/after)"
done
say "what the others knew of it is still kept by it"
for i in 1 2 3 4 5 6 7 8; do
    is_same "known-$i" "$(within 20 on h1 cat /mnt/ow/v/known-$i)"
    is_same "known-$i" "$(within 20 on h3 cat /mnt/ow/v/known-$i)"
done
put h1 back of-a-replica
is_same of-a-replica "$(within 20 on h3 cat /mnt/ow/v/back)"

say "a home whose machine is lost, and back much later"
is_same h2 "$(of h2 home)"
"$cluster" kill h2
wait_until 'on h3 whiskfs volume take-home v --force >/dev/null' 60
put h3 without-h2 of-h3
wait_until 'on h1 test -e /mnt/ow/v/without-h2' 30
"$cluster" start h2
wait_until '[[ $(of h2 home) == h3 ]]' 30
wait_until 'on h2 test -e /mnt/ow/v/without-h2' 30
is_same of-h2 "$(within 20 on h1 cat /mnt/ow/v/by-h2)"
put h2 again of-h2
is_same of-h2 "$(within 20 on h1 cat /mnt/ow/v/again)"

say "a home that was killed before it could note that it is one"
is_same h3 "$(of h3 home)"
"$cluster" kill h3
printf h1 >"$cluster_directory/h3/state/volumes/v/home"
"$cluster" start h3
wait_until '[[ $(of h3 home) == h3 ]]' 30
is_same of-h3 "$(within 20 on h1 cat /mnt/ow/v/by-h3)"
is_same of-h3 "$(within 20 on h3 cat /mnt/ow/v/without-h2)"
is_same "" "$(saved h3 path)"

no_errors_in_logs
