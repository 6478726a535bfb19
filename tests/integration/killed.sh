#!/bin/bash
# kill -9 of a daemon, the home's and another's, while files are written: after the restart everything is there that was
# closed, on both hosts. Without whiskfs-mountd, so that whoever writes is cut off (survive.sh has it otherwise).
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# write_until_killed HOST: notes each file in HOST.done after its close has returned.
write_until_killed() {
    on "$1" sh -c 'cd '"$cluster_directory/$1"' && for i in $(seq 1 100000); do
        head -c $((i * 37 % 300000)) /dev/urandom >data
        cp data /mnt/ow/v/'"$1"'-$i || exit 0
        sum=$(sha256sum <data); echo "${sum%% *} '"$1"'-$i"
    done' >"$cluster_directory/$1.done" 2>/dev/null || true
}

# check READER WRITER: what the writer noted is there.
check() {
    local count
    count=$(wc -l <"$cluster_directory/$2.done")
    ((count > 10)) || fail "$2 wrote only $count files"
    sed 's/ / */' "$cluster_directory/$2.done" >"$cluster_directory/$2.sums"
    within 60 on "$1" sh -c "cd /mnt/ow/v && sha256sum --quiet -c $cluster_directory/$2.sums" >&2 ||
        fail "$1 has lost files of $2"
    say "$1 has all $count files of $2"
}

for victim in h1 h2; do
    cluster_up 2 --no-kafka --no-mountd
    on h1 whiskfs volume create v >/dev/null
    on h2 whiskfs attach v >/dev/null
    write_until_killed $victim &
    writer=$!
    wait_until '(($(wc -l <"$cluster_directory/$victim.done") > 100))' 60
    "$cluster" kill $victim
    wait $writer
    "$cluster" start $victim
    for host in h1 h2; do
        wait_until "on $host whiskfs attach v" 20 >/dev/null
        wait_until "on $host stat /mnt/ow/v/$victim-1 >/dev/null" 20
    done
    check h1 $victim
    check h2 $victim
    # And it goes on.
    within 10 on $victim sh -c 'echo more >/mnt/ow/v/more'
    other=$([[ $victim == h1 ]] && echo h2 || echo h1)
    is_same more "$(within 10 on "$other" cat /mnt/ow/v/more)"
    cluster_down
done
