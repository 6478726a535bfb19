#!/bin/bash
# An upgrade restarts both processes, also while the other one is away: files that are open go on. What systemd does for
# whiskfs-mountd (its descriptor store) descriptor_store.py does here.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)

cluster_up 1 --no-kafka --no-mountd --no-daemons --config host.mountd=/run/whiskfs/mountd.sock
{ on h1 sh -c 'echo $$ >/run/store.pid; exec python3 "$@"' sh "$here/descriptor_store.py" /run/notify.sock \
    "$WHISKFS_BUILD/daemon/mountd/whiskfs-mountd" 2>>"$cluster_directory/h1/mountd.log" || true; } &
wait_until 'on h1 test -e /run/whiskfs/mountd.sock' 10
"$cluster" start h1
on h1 whiskfs volume create v >/dev/null

# A process that writes a line and reads it back, every 20 ms, until it is told to stop.
{ on h1 python3 -c '
import os, time
fd = os.open("/mnt/ow/v/open", os.O_RDWR | os.O_CREAT)
for i in range(100000):
    line = b"%08d\n" % i
    os.pwrite(fd, line, 9 * i)
    assert os.pread(fd, 9, 9 * i) == line
    if os.path.exists("/run/stop"):
        break
    time.sleep(0.02)
print("done", i, flush=True)' >"$cluster_directory/writer" 2>&1 || true; } &
writer=$!
wait_until 'on h1 test -s /mnt/ow/v/open' 10

restart_mountd() {
    local n
    n=$(grep -c 'listens on' "$cluster_directory/h1/mountd.log")
    on h1 sh -c 'kill -HUP $(cat /run/store.pid)'
    wait_until '(($(grep -c "listens on" "$cluster_directory/h1/mountd.log") > '"$n"'))' 10
}

for _ in 1 2 3; do
    restart_mountd
    grep -q "goes on with the mount of 'v'" "$cluster_directory/h1/mountd.log" || fail "it did not take what was kept"
    wait_until 'on h1 whiskfs status | grep -q "survives the daemon"' 10
    "$cluster" stop h1
    restart_mountd
    "$cluster" start h1
    "$cluster" kill h1
    restart_mountd
    "$cluster" start h1
done
on h1 touch /run/stop
wait "$writer"
grep -q '^done' "$cluster_directory/writer" || fail "$(cat "$cluster_directory/writer")"
is_same "$(($(cut -d ' ' -f 2 <"$cluster_directory/writer") * 9 + 9))" "$(on h1 stat -c %s /mnt/ow/v/open)"

say "stopped, it unmounts, whoever keeps the descriptors"
"$cluster" stop h1
on h1 sh -c 'kill -TERM $(cat /run/store.pid)'
wait_until 'on h1 sh -c "! mountpoint -q /mnt/ow/v"' 10
