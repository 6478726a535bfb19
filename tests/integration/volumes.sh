#!/bin/bash
# A volume on two hosts without Kafka: what one host does, the other sees when the call has returned.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka
on h1 whiskfs volume create v --size 1GiB >/dev/null
refused on h2 whiskfs volume create v
refused on h2 whiskfs attach nosuchvolume
on h1 sh -c 'echo before >/mnt/ow/v/before'
on h2 whiskfs attach v >/dev/null
on h2 whiskfs attach v >/dev/null # again is fine
is_same before "$(on h2 cat /mnt/ow/v/before)"

say "names, both ways"
for pair in h1:h2 h2:h1; do
    here=${pair%:*} there=${pair#*:}
    within 10 on "$here" sh -c "cd /mnt/ow/v && mkdir -p $here/d && echo one >$here/d/f && ln -s d/f $here/link && ln $here/d/f $here/hard"
    is_same one "$(on "$there" cat "/mnt/ow/v/$here/link")"
    is_same 2 "$(on "$there" stat -c %h "/mnt/ow/v/$here/d/f")"
    is_same "$(on "$here" stat -c '%i %s %a %u %g %Y' "/mnt/ow/v/$here/d/f")" \
        "$(on "$there" stat -c '%i %s %a %u %g %Y' "/mnt/ow/v/$here/d/f")"
    on "$here" mv "/mnt/ow/v/$here/d" "/mnt/ow/v/$here/e"
    refused on "$there" test -e "/mnt/ow/v/$here/d"
    is_same one "$(on "$there" cat "/mnt/ow/v/$here/e/f")"
    on "$there" setfattr -n user.from -v "$there" "/mnt/ow/v/$here/e"
    is_same "$there" "$(on "$here" getfattr --only-values -n user.from "/mnt/ow/v/$here/e")"
    on "$there" chmod 0751 "/mnt/ow/v/$here/e"
    is_same 751 "$(on "$here" stat -c %a "/mnt/ow/v/$here/e")"
    on "$there" rm -r "/mnt/ow/v/$here"
    refused on "$here" test -e "/mnt/ow/v/$here"
done

say "content that is written again on the other host"
on h1 sh -c 'echo first >/mnt/ow/v/note'
is_same first "$(on h2 cat /mnt/ow/v/note)"
on h2 sh -c 'echo second >/mnt/ow/v/note'
is_same second "$(on h1 cat /mnt/ow/v/note)"
on h1 sh -c 'echo third >>/mnt/ow/v/note'
is_same 'second third' "$(on h2 cat /mnt/ow/v/note | tr '\n' ' ' | sed 's/ $//')"
on h2 truncate -s 3 /mnt/ow/v/note
is_same sec "$(on h1 cat /mnt/ow/v/note)"

say "the size limit"
is_same "$((1 << 30))" "$(on h1 stat -f -c '%b * %S' /mnt/ow/v | { read -r sum; echo $((sum)); })"
is_same "$((1 << 30))" "$(on h2 stat -f -c '%b * %S' /mnt/ow/v | { read -r sum; echo $((sum)); })"
refused on h1 dd if=/dev/zero of=/mnt/ow/v/big bs=1M count=1100 status=none 2>/dev/null
refused on h2 dd if=/dev/zero of=/mnt/ow/v/big2 bs=1M count=1100 status=none 2>/dev/null
on h1 rm -f /mnt/ow/v/big /mnt/ow/v/big2

say "leaving"
on h2 whiskfs detach v >/dev/null
refused is_mounted h2 v
on h2 whiskfs attach v >/dev/null
is_same sec "$(on h2 cat /mnt/ow/v/note)"
"$cluster" stop h2
refused on h2 mountpoint -q /mnt/ow/v
"$cluster" start h2
wait_until 'on h2 mountpoint -q /mnt/ow/v' 10
is_same sec "$(on h2 cat /mnt/ow/v/note)"
on h2 whiskfs detach v >/dev/null # it keeps what it wrote, and goes on serving that
on h1 whiskfs volume remove v --force >/dev/null
refused on h1 mountpoint -q /mnt/ow/v
wait_until '! on h2 whiskfs attach v >/dev/null' 20 # h2 hears of it when it next asks
no_errors_in_logs
