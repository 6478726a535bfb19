#!/bin/bash
# Two hosts, eight threads each, create and remove names in one directory: every call succeeds, none takes over a second.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
on h1 mkdir /mnt/ow/v/d

churn=$repository/tests/integration/churn.py
within 120 on h1 python3 "$churn" /mnt/ow/v/d h1 8 100 >"$cluster_directory/h1.churn" &
first=$!
within 120 on h2 python3 "$churn" /mnt/ow/v/d h2 8 100 >"$cluster_directory/h2.churn" &
second=$!
wait $first
wait $second
for host in h1 h2; do
    read -r seconds what <"$cluster_directory/$host.churn"
    say "$host: slowest call $seconds s ($what)"
    [[ $seconds == 0.* ]] || fail "$what took $seconds s on $host"
done
is_same "" "$(on h1 ls -A /mnt/ow/v/d)"
is_same "" "$(on h2 ls -A /mnt/ow/v/d)"
is_same 2 "$(on h1 stat -c %h /mnt/ow/v/d)"
no_errors_in_logs
