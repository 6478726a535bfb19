# A tree with what archives forget, and a description that shows each of these. For scripts that have sourced lib.sh.
# shellcheck shell=bash

# make_tree HOST DIRECTORY: makes the directory.
make_tree() {
    on "$1" bash -euo pipefail -c 'mkdir "$1" && cd "$1" && mkdir -m 2750 setgid && mkdir -m 1777 sticky && mkdir empty
        echo text >plain && ln plain setgid/hard && ln -s ../plain setgid/soft && ln -s nowhere dangling
        truncate -s 8M sparse && printf middle | dd of=sparse bs=1 seek=4000000 conv=notrunc status=none
        mkfifo fifo && mknod device c 1 3 && head -c 300000 /dev/urandom >random
        : >$'"'"'a name\nof two lines'"'"' && : >"-rf" && : >"$(printf "n%.0s" $(seq 255))" && printf x >"ü€"
        setfacl -m u:games:rw,g:daemon:r plain && setfacl -d -m u:games:rwx,m:rwx setgid
        setfattr -n user.note -v "a value" plain && setfattr -n user.note -v another sticky
        touch -d "1969-12-31 23:59:58.123456789 UTC" plain && touch -d "2106-02-08 06:28:17.5 UTC" random
        touch -h -d "2001-02-03 04:05:06.789 UTC" dangling && chown 1:2 random && chmod 4755 random' make_tree "$2"
}

# describe HOST DIRECTORY: sizes and times of directories are the filesystem's own and left out.
describe() {
    on "$1" bash -euo pipefail -c 'cd "$1" && find . -mindepth 1 -printf "%p %y %m %n %U %G %s %T@ %l\n" |
            grep -av "^\./[^ ]* d" | sort
        find . -type d -printf "%p %m %U %G\n" | sort
        find . -type f -print0 | sort -z | xargs -0 sha256sum
        find . ! -type l -print0 | sort -z | xargs -0 getfacl -np --
        find . -print0 | sort -z | xargs -0 getfattr -hdm - --' describe "$2"
}
