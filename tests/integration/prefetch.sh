#!/bin/bash
# A sequence that was seen once: while its first step runs, the host of the next attaches the run's volume and draws what
# is published there. Nothing of the messages' credentials is kept anywhere.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# activations: how many each host has seen.
activations() {
    on_all whiskfs_openwhisk_activations_total
}

# run_step ACTION CAUSE: what the controller says when it starts a step; prints the invoker.
run_step() {
    local invoker
    invoker=$("$whisk" home "$1" 3)
    "$whisk" activation "$1" "$2" '{"__ow_volume": {"name": "pages", "scope": "sequence"}}' | publish "invoker$invoker"
    echo "$invoker"
}

cluster_up 3 --no-daemons
ping_all # topics are there before the daemons look
for i in 0 1 2; do
    "$whisk" activation guest/other "$(printf '%032d' 7)" '{}' | publish "invoker$i"
done
start_hosts
wait_hears h1 h2 h3

first=0123456789abcdef0123456789abcdef
second=fedcba9876543210fedcba9876543210
from=h$(($("$whisk" home guest/manual/split 3) + 1))
to=h$(($("$whisk" home guest/manual/infer 3) + 1))
[[ $from != "$to" ]] || fail "both steps are on $from"

say "first run: the transition is seen, on $from and then $to"
on "$from" whiskfs volume create "pages--guest--$first" >/dev/null
# Topics have no order among them: the next step begins when everybody has heard of the one before.
for step in split infer; do
    wanted=$(activations | awk '{ print $1 + 1, $2 + 1, $3 + 1, "" }')
    run_step guest/manual/$step $first >/dev/null
    wait_until "[[ \$(activations) == '$wanted' ]]" 10
done

ping_all
say "second run: $to draws what $from writes"
on "$from" whiskfs volume create "pages--guest--$second" >/dev/null
run_step guest/manual/split $second >/dev/null
on "$from" sh -c "head -c 20000000 /dev/urandom >/mnt/ow/pages--guest--$second/page"
received() {
    metric "$to" whiskfs_peer_received_bytes_total
}
wait_until '(($(received) >= 20000000))' 20
before=$(received)
wanted=$(sum_on "$from" "/mnt/ow/pages--guest--$second/page")
within 5 on "$to" whiskfs attach "pages--guest--$second" >/dev/null
is_same "$wanted" "$(sum_on "$to" "/mnt/ow/pages--guest--$second/page")"
(($(received) - before < 1000000)) || fail "the page came again"

awk "BEGIN { exit !(0 < $(metric "$from" whiskfs_hint_delay_p50_seconds)) }" || fail "the hint took no time"

say "the broker goes and comes: prefetch resumes"
"$cluster" broker stop
within 10 on "$to" cat "/mnt/ow/pages--guest--$second/page" >/dev/null
"$cluster" broker start
third=00112233445566778899aabbccddeeff
for host in h1 h2 h3; do
    wait_until "[[ \$(metric $host whiskfs_membership_connected) == 1 ]]" 40
done
wait_hears h1 h2 h3
on "$from" whiskfs volume create "pages--guest--$third" >/dev/null
on "$from" sh -c "head -c 20000000 /dev/urandom >/mnt/ow/pages--guest--$third/page"
before=$(received)
run_step guest/manual/split $third >/dev/null
wait_until '(($(received) - before >= 20000000))' 20

say "no credentials"
on "$from" whiskfs stats >"$cluster_directory/$from/stats"
"$cluster" stop h1
if grep -rlaE 'AAAAAAAAAAAAAAAA|23bc46b1-71f6-4ed5' "$cluster_directory"/h[123]; then
    fail "an API key was kept"
fi
