#!/bin/bash
# fsx: random reads, writes, maps, truncations, holes and copies, each read checked; many seeds, with and without direct
# I/O, over files that are passed through, that the daemon serves, and that change from one to the other with each open.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

readonly suite=$suites/fsx@0.3.2/bin/fsx operations=4000
direct=$WHISKFS_BUILD/tests/integration/libdirect_io.so
seeds=4 # of each kind: about 100,000 operations in all
[[ -z ${WHISKFS_LONG-} ]] || seeds=42 # a million
requires "$suite" "$direct"

# configure ALIGNMENT SENDFILE: fsx's settings on stdout. (Aligned, it asks for allocations of nothing and takes the error
# for ours.)
configure() {
    cat <<EOF
[opsize]
align = $1
[weights]
close_open = 1
invalidate = 1
mapread = 10
mapwrite = 10
read = 10
write = 10
truncate = 5
fsync = 0.2
fdatasync = 0.2
posix_fallocate = $(($1 == 1 ? 3 : 0))
punch_hole = 5
sendfile = $2
posix_fadvise = 1
copy_file_range = 5
EOF
}

# exercise HOST VOLUME NAME ALIGNMENT PRELOAD: so many seeds one after the other; a failure is named with its seed.
exercise() {
    local host=$1 volume=$2 name=$3 alignment=$4 preload=$5 sendfile=5 seed
    # A file that is passed through and written through the daemon at once: Linux splices from the page cache of the mount,
    # which sees no store into the passed-through map.
    [[ $volume != both ]] || sendfile=0
    configure "$alignment" $sendfile >"$cluster_directory/$name.toml"
    for seed in $(seq "$first_seed" $((first_seed + seeds - 1))); do
        on "$host" env LD_PRELOAD="$preload" "$suite" -q -N $operations -S "$seed" -P "$cluster_directory" \
            -f "$cluster_directory/$name.toml" "/mnt/ow/$volume/$name-$seed" >"$cluster_directory/$name.log" 2>&1 || {
            tail -n 30 "$cluster_directory/$name.log" >&2
            fail "$name, seed $seed"
        }
        on "$host" rm "/mnt/ow/$volume/$name-$seed"
    done
}

# waver: a file whose set-id bit a write would have to take away is written through the daemon; one without is passed
# through. The bit comes and goes, so opens find either.
waver() {
    on h1 sh -c 'while [ -e '"$cluster_directory/wavering"' ]; do
        chmod u+s /mnt/ow/both/* && sleep 0.02; chmod u-s /mnt/ow/both/* && sleep 0.02
    done 2>/dev/null; true'
}

first_seed=$((${WHISKFS_SEED:-RANDOM}))
say "the first seed is $first_seed"
cluster_up 2 --no-kafka --config h2:volumes.passthrough=off
on h1 whiskfs volume create passed >/dev/null
on h2 whiskfs volume create served >/dev/null
on h1 whiskfs volume create both >/dev/null

jobs=()
for volume in passed served; do
    host=$([[ $volume == passed ]] && echo h1 || echo h2)
    { exercise "$host" $volume $volume 1 "" && exercise "$host" $volume $volume-direct 4096 "$direct"; } &
    jobs+=($!)
done
for job in "${jobs[@]}"; do
    wait "$job"
done
touch "$cluster_directory/wavering"
waver &
waverer=$!
exercise h1 both both 1 ""
exercise h1 both both-direct 4096 "$direct"
rm "$cluster_directory/wavering"
wait $waverer
say "$((6 * seeds * operations)) operations"
say "opens passed through: $(metric h1 whiskfs_opens_passthrough_total), served: $(metric h1 whiskfs_opens_cached_total)"
no_errors_in_logs
