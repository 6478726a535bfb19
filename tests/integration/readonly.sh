#!/bin/bash
# A mount that is made read-only while its daemon lives: whatever would change something is EROFS there, reading goes on,
# also over a killed daemon, and other hosts write on. Whoever writes keeps it from being made so.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# mount(8) hands every FUSE type to a helper that cannot remount; the kernel can.
remount() {
    on h1 mount -i -o "remount,$1" /mnt/ow/v
}

changes=('touch new' 'mkdir new' 'mknod new p' 'ln -s f new' 'ln f new' 'rm f' 'mv f new' 'rmdir d' 'chmod 600 f' 'chown 1 f'
    'touch -d yesterday f' 'truncate -s 1 f' 'sh -c "echo x >>f"' 'setfattr -n user.a -v b f' 'setfacl -m u:1:r f')

all_are_refused() {
    local change said
    for change in "${changes[@]}"; do
        if said=$(on h1 sh -c "cd /mnt/ow/v && $change" 2>&1); then
            fail "'$change' was done on a read-only mount"
        fi
        [[ $said == *"Read-only file system"* ]] || fail "'$change': $said"
    done
    is_same "d f" "$(on h1 ls /mnt/ow/v | xargs)"
}

cluster_up 2 --no-kafka
on h1 whiskfs volume create v --size 1GiB >/dev/null
on h2 whiskfs attach v >/dev/null
on h1 sh -c 'echo one >/mnt/ow/v/f && mkdir /mnt/ow/v/d'

say "not while somebody writes"
hold h1 '>>/mnt/ow/v/f'
refused remount ro 2>/dev/null
on h1 touch /mnt/ow/v/d/writable
on h1 rm /mnt/ow/v/d/writable
let_go h1

say "read-only"
wait_until 'remount ro' 20 # what was just removed may still be on its way
all_are_refused
is_same one "$(on h1 cat /mnt/ow/v/f)"
on h2 sh -c 'echo two >/mnt/ow/v/f'
is_same two "$(on h1 cat /mnt/ow/v/f)"
"$cluster" kill h1
"$cluster" start h1
is_same two "$(within 20 on h1 cat /mnt/ow/v/f)"
all_are_refused

say "and back"
remount rw
on h1 sh -c 'echo three >/mnt/ow/v/f'
is_same three "$(on h2 cat /mnt/ow/v/f)"
no_errors_in_logs
