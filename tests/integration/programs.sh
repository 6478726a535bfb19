#!/bin/bash
# Real programs on a volume, each checked: git and a build, sqlite3 with two writers, archives there and back, a Python
# environment with numpy, fio's verification, stress-ng's filesystem stressors.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=trees.sh
. "$(dirname "$0")/trees.sh"
requires git gcc make sqlite3 tar rsync python3 fio stress-ng setfacl getfacl setfattr getfattr

v=/mnt/ow/v
cluster_up 1 --no-kafka
on h1 whiskfs volume create v >/dev/null

# in_volume SCRIPT [ARGUMENT…]: runs it in the volume; whatever fails ends the test.
in_volume() {
    local script=$1
    shift
    within 120 on h1 bash -euo pipefail -c "cd $v && $script" in_volume "$@" >&2
}

say "git clone, fsck and a build"
in_volume 'git -c safe.directory="*" clone -q --no-local "$1" tree && cd tree && git fsck --full --strict --no-dangling &&
    for file in proto/base/*.c; do gcc -D_GNU_SOURCE -I. -fPIC -c "$file" -o "${file%.c}.o"; done &&
    gcc -shared -o libbase.so proto/base/*.o && python3 -c "import ctypes; ctypes.CDLL(\"./libbase.so\").clock_mono_ns()" &&
    git status --porcelain --untracked-files=no | { ! grep .; }' "$repository"

for mode in wal delete; do
    say "sqlite3, journal_mode=$mode, two writers"
    in_volume 'sqlite3 "$1.db" "pragma journal_mode=$1; create table t(writer, n);"
        write() {
            for n in $(seq 100); do
                echo ".timeout 20000"; echo "begin immediate; insert into t values($2, $n); commit;"
            done | sqlite3 "$1.db"
        }
        write "$1" 1 & first=$!
        write "$1" 2 & second=$!
        wait $first && wait $second
        [[ $(sqlite3 "$1.db" "pragma integrity_check") == ok ]]
        [[ $(sqlite3 "$1.db" "select count(*), count(distinct writer * 1000 + n) from t") == "200|200" ]]' $mode
done

say "tar, rsync and cp there and back"
make_tree h1 "$cluster_directory/tree"
describe h1 "$cluster_directory/tree" >"$cluster_directory/wanted"
there_and_back() {
    local name=$1 there=$2 back=$3
    on h1 bash -euo pipefail -c "$there" "$name" "$cluster_directory/tree" "$v/$name"
    describe h1 "$v/$name" | diff "$cluster_directory/wanted" - >&2 || fail "$name: the volume has another tree"
    on h1 bash -euo pipefail -c "$back" "$name" "$v/$name" "$cluster_directory/$name"
    describe h1 "$cluster_directory/$name" | diff "$cluster_directory/wanted" - >&2 || fail "$name: another tree came back"
}
tar='mkdir "$2" && tar -C "$1" --acls --xattrs --xattrs-include="*" -S --format=pax -c . |
    tar -C "$2" --acls --xattrs --xattrs-include="*" --same-owner -p -x'
there_and_back tar "$tar" "$tar"
# Without the window rsync takes two times of one second for the same, and leaves a link that it made just now as it is.
rsync='rsync -aHAX --modify-window=-1 "$1/" "$2/"'
there_and_back rsync "$rsync" "$rsync"
there_and_back cp 'cp -a --reflink=auto "$1" "$2"' 'cp -a --reflink=auto "$1" "$2"'

if compgen -G "$cache/wheels/numpy-*.whl" >/dev/null; then
    say "a Python environment with numpy"
    in_volume 'python3 -m venv env && env/bin/pip install -q --no-index --find-links "$1" --disable-pip-version-check numpy &&
        env/bin/python -c "import numpy; assert numpy.__file__.startswith(\"/mnt/ow/v/env/\");
a = numpy.arange(1e6).reshape(1000, 1000); assert numpy.isclose((a @ a.T).trace(), (a * a).sum())
m = numpy.memmap(\"map\", dtype=\"f8\", mode=\"w+\", shape=(1000, 1000)); m[:] = a; m.flush(); del m
assert (numpy.fromfile(\"map\").reshape(1000, 1000) == a).all()"' "$cache/wheels"
else
    say "no wheel of numpy: left out"
fi

say "fio --verify"
verify() {
    in_volume 'fio --output-format=terse --name=verify --filename=fio-"$1" --size=32M --rw=randwrite --ioengine="$@" \
        --verify=xxhash --verify_fatal=1 --do_verify=1 --fsync=200 >/dev/null' "$@"
}
verify psync --bsrange=512-64k --bs_unaligned
verify mmap --bsrange=4k-64k

say "stress-ng"
stressors=(access chdir chmod chown copy-file dentry dir dirdeep fallocate fcntl filename flock fpunch fstat getdent hdd
    link lockf lockofd mknod mmap open rename revio seek sendfile symlink sync-file touch utime xattr)
in_volume 'mkdir stress && stress-ng --temp-path stress --timeout 5 --verify --quiet --hdd-bytes 32M --fallocate-bytes 32M \
    --copy-file-bytes 128M --revio-bytes 16M --seek-size 16M --sync-file-bytes 16M --mmap-file --mmap-bytes 16M \
    --dentries 500 --dirdeep-inodes 500 "${@/%/=1}"' "${stressors[@]/#/--}"
no_errors_in_logs
