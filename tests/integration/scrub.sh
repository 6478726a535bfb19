#!/bin/bash
# whiskfs scrub: finds what the disk has damaged, names it, and from then on reading it is an error on this host as on others;
# what is written anew is well. Also in an image, and while files are written.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# own PATH: the file of h1 that holds its content.
own() {
    printf '%s/h1/state/volumes/v/content/own/%016x\n' "$cluster_directory" "$(on h1 stat -c %i "/mnt/ow/v/$1")"
}

# damaged: how many blocks h1 knows of.
damaged() {
    on h1 whiskfs --json volume show v | python3 -c 'import json, sys; print(json.load(sys.stdin)["damaged"])'
}

cluster_up 2 --no-kafka --config volumes.image=off --config volumes.scrub_rate=0
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
on h1 sh -c 'mkdir /mnt/ow/v/dir && head -c 4M /dev/urandom >/mnt/ow/v/dir/file && echo small >/mnt/ow/v/small'
on h1 cp /mnt/ow/v/dir/file "$cluster_directory/kept"
wait_until '(($(metric h1 whiskfs_sealed_files_total) == 2))' 60
on h1 whiskfs scrub v --wait >&2 || fail "something was found where nothing is"
is_same 0 "$(damaged)"

say "bits flip"
flip "$(own dir/file)" $((9 * 131072 + 77))
flip "$(own small)" 2
on h1 whiskfs scrub v --wait >"$cluster_directory/said" && fail "nothing was found"
cat "$cluster_directory/said" >&2
grep -q "DAMAGED: block 9 of '/dir/file'" "$cluster_directory/said" || fail "the block is not named"
on h1 whiskfs status | grep -q "DAMAGED: block 0 of '/small'" || fail "status does not name the block"
grep -q "block 9 of '/dir/file' .* is damaged" "$cluster_directory/h1/log" || fail "the log does not name the block"
is_same 2 "$(damaged)"
is_same 2 "$(metric h1 whiskfs_damaged_blocks)"

say "reading it is an error, here and elsewhere, and nothing else is"
for host in h1 h2; do
    refused within 20 on $host dd if=/mnt/ow/v/dir/file of=/dev/null bs=128k skip=9 count=1 status=none
    refused within 20 on $host cat /mnt/ow/v/small
done
cmp -n $((9 * 131072)) "$cluster_directory/kept" <(on h1 dd if=/mnt/ow/v/dir/file bs=128k count=9 status=none)
cmp <(tail -c $((22 * 131072)) "$cluster_directory/kept") <(on h1 dd if=/mnt/ow/v/dir/file bs=128k skip=10 status=none)

say "it cannot be changed into something that looks well; it can be written anew"
refused on h1 sh -c 'echo more >>/mnt/ow/v/small'
refused on h1 truncate -s 3 /mnt/ow/v/small
on h1 sh -c 'echo anew >/mnt/ow/v/small'
is_same anew "$(within 10 on h1 cat /mnt/ow/v/small)"
is_same anew "$(within 10 on h2 cat /mnt/ow/v/small)"
on h1 sh -c 'cp "$0" /mnt/ow/v/dir/new && mv /mnt/ow/v/dir/new /mnt/ow/v/dir/file' "$cluster_directory/kept"
within 20 on h2 cat /mnt/ow/v/dir/file | cmp - "$cluster_directory/kept"
wait_until '(($(damaged) == 0))' 20
wait_until '(($(metric h1 whiskfs_sealed_files_total) == 4))' 60
on h1 whiskfs scrub v --wait >&2 || fail "something was found where nothing is"

say "a daemon that was killed finds it again"
flip "$(own dir/file)" 5
on h1 whiskfs scrub v --wait >&2 && fail "nothing was found"
"$cluster" kill h1
"$cluster" start h1
wait_until 'on h1 stat /mnt/ow/v/dir/file >/dev/null' 20
on h1 whiskfs scrub v --wait >&2 && fail "nothing was found"
is_same 1 "$(damaged)"

say "a volume is scrubbed by itself when its last scrub is long ago"
"$cluster" stop h1
echo 1 >"$cluster_directory/h1/state/volumes/v/scrubbed"
"$cluster" start h1
wait_until '(($(metric h1 whiskfs_scrub_passes_total) == 1))' 60
is_same 1 "$(damaged)"
(($(metric h1 whiskfs_scrub_ended_seconds | cut -d . -f 1) > 1000000000)) || fail "the end of the scrub is not noted"
cluster_down

say "in an image, and while files are written and removed"
cluster_up 1 --no-kafka --config volumes.scrub_rate=0
on h1 whiskfs volume create v >/dev/null
on h1 sh -c 'for i in $(seq 300); do head -c $((i * 1000)) /dev/urandom >/mnt/ow/v/$i; done'
on h1 sh -c 'for i in $(seq 10000); do
        head -c 5000 /dev/urandom >/mnt/ow/v/$((i % 300)); rm -f /mnt/ow/v/$((i * 7 % 300))
        echo x >>/mnt/ow/v/$((i % 7 + 290)); done' 2>/dev/null &
writer=$!
for _ in $(seq 10); do
    on h1 whiskfs scrub v --wait >&2 || fail "something was found where nothing is"
done
kill $writer 2>/dev/null || true
wait $writer || true
no_errors_in_logs
