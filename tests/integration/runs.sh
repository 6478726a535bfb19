#!/bin/bash
# The volumes of a run go when the run is over and nobody uses them: on every host, whatever was lost on the way.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

seen=11111111111111111111111111111111    # all of its messages are heard
crashed=22222222222222222222222222222222 # its invoker never says that the step has ended
unheard=33333333333333333333333333333333 # its messages were for a daemon that was killed

volume_of() {
    echo "pages--guest--$1"
}

# start_step ACTION RUN: on the invoker that the balancer chooses.
start_step() {
    "$whisk" activation "$1" "$2" '{"__ow_volume": {"name": "pages", "scope": "sequence"}}' >"$cluster_directory/step"
    publish "invoker$("$whisk" home "$1" 3)" <"$cluster_directory/step"
}

# end_step ACTION: what the invoker of the latest step says when it has ended.
end_step() {
    "$whisk" completion "$("$whisk" home "$1" 3)" <"$cluster_directory/step" | publish completed0
}

host_of() {
    echo h$(($("$whisk" home "$1" 3) + 1))
}

is_gone() {
    local host
    for host in h1 h2 h3; do
        [[ ! -e $cluster_directory/$host/state/volumes/$1 ]] || return 1
        ! is_mounted $host "$1" || return 1
    done
}

# sum_of METRIC
sum_of() {
    on_all "$1" | awk '{ print $1 + $2 + $3 }'
}

cluster_up 3 --no-daemons --config openwhisk.activation_log=/run/whiskfs/activations \
    --config openwhisk.run_end=5 --config openwhisk.step_limit=12 --config openwhisk.run_limit=15
for topic in invoker0 invoker1 invoker2 completed0 health; do
    "$whisk" ping 0 | publish $topic
done
start_hosts
wait_hears h1 h2 h3
from=$(host_of guest/manual/split)
to=$(host_of guest/manual/infer)
[[ $from != "$to" ]] || fail "both steps are on $from"

# make RUN: its first step makes a volume on $from and writes there.
make() {
    local volume
    volume=$(volume_of "$1")
    start_step guest/manual/split "$1"
    wait_until "is_mounted $from $volume" 20
    on "$from" sh -c "head -c 3000000 /dev/urandom >/mnt/ow/$volume/page"
}

say "three runs make a volume each on $from; the daemon forgets one of them"
make $unheard
end_step guest/manual/split
"$cluster" kill "$from"
"$cluster" start "$from"
wait_hears "$from"
make $crashed
make $seen

say "the next step of one of them holds its volume on $to"
start_step guest/manual/infer $seen
volume=$(volume_of $seen)
wait_until "is_mounted $to $volume" 20
: >"$cluster_directory/hold"
on "$to" sh -c 'exec 3<"$1"; while [ -e "$2" ]; do sleep 0.05; done; exec cat <&3' - \
    "/mnt/ow/$volume/page" "$cluster_directory/hold" | sha256sum >"$cluster_directory/held" &
holder=$!
wanted=$(sum_on "$from" "/mnt/ow/$volume/page")
is_same "$wanted" "$(sum_on "$to" "/mnt/ow/$volume/page")"
end_step guest/manual/infer

say "what its data cost is told"
wait_until '[[ $(metric "$to" whiskfs_activations_ended_total) == 1 ]]' 20
# cost: of the step, as read from standard input: the action, whether its times add up, whether all bytes came
cost() {
    python3 -c 'import json, sys; cost = json.load(sys.stdin); cost = cost.get("activations", [cost])[-1]; bytes = cost["bytes"]
print(cost["action"], cost["run"], abs(cost["ran_s"] - cost["waited_s"] - cost["computing_s"]) < 1e-6 < cost["ran_s"], sum(bytes.values()) >= 3000000, cost["error"])'
}
is_same "guest/manual/infer $seen True True False" "$(on "$to" whiskfs --json runs | cost)"
wait_until 'on $to test -s /run/whiskfs/activations' 10
is_same "guest/manual/infer $seen True True False" "$(on "$to" cat /run/whiskfs/activations | cost)"
on "$to" whiskfs runs | grep -q "^$seen *guest/manual/infer " || fail "the table does not show the step"
for host in "$from" "$to"; do
    wait_until "((\$(metric $host whiskfs_run_volumes_over) >= 1))" 60
done
is_mounted "$to" "$volume" || fail "the volume went although a file was open"
rm "$cluster_directory/hold"
wait "$holder"
is_same "$wanted" "$(cut -d ' ' -f 1 <"$cluster_directory/held")"

say "all of them go, on all hosts"
for run in $seen $crashed $unheard; do
    wait_until "is_gone $(volume_of $run)" 60
done
is_same 3 "$(sum_of whiskfs_run_volumes_removed_total)"
(($(sum_of whiskfs_run_volumes_removed_bytes_total) >= 9000000)) || fail "not all of the bytes were counted"
is_same 3 "$(grep -hc "its run is over" "$cluster_directory"/h*/log | awk '{ n += $1 } END { print n }')"
refused on "$to" stat "/mnt/ow/$volume" 2>/dev/null
is_same 0 "$(sum_of whiskfs_run_volumes)"
no_errors_in_logs
