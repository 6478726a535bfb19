#!/bin/bash
# The newer scheduler says no host: the one that is to start a step's container makes its volume ready, and once the
# containers are known, the host of the next step draws while the current one runs.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

# heard METRIC COMMAND…: the command publishes one message; returns when every host has heard it.
heard() {
    local wanted
    wanted=$(on_all "$1" | awk '{ print $1 + 1, $2 + 1, $3 + 1, "" }')
    "${@:2}"
    wait_until "[[ \$(on_all '$1') == '$wanted' ]]" 10
}

start_step() {
    "$whisk" activation "$1" "$2" '{"__ow_volume": {"name": "pages", "scope": "sequence"}}' >"$cluster_directory/step"
    publish scheduler0 <"$cluster_directory/step"
}

start_container() {
    "$whisk" creation "$1" | publish "invoker$2"
}

end_step() {
    "$whisk" completion "$1" <"$cluster_directory/step" | publish completed0
}

cluster_up 3 --no-daemons
# Topics are there before the daemons look.
for topic in scheduler0 invoker0 invoker1 invoker2 completed0; do
    "$whisk" ping 0 | publish $topic
done
start_hosts
for host in h1 h2 h3; do
    before=$(metric $host whiskfs_openwhisk_messages_total)
    for topic in scheduler0 invoker0 invoker1 invoker2 completed0; do
        wait_until "\"$whisk\" ping 0 | publish $topic; (($before < \$(metric $host whiskfs_openwhisk_messages_total)))" 40
        before=$(metric $host whiskfs_openwhisk_messages_total)
    done
done

first=0123456789abcdef0123456789abcdef
second=fedcba9876543210fedcba9876543210

say "first run: split has its container on h2, infer on h3, who make the volume ready as it starts"
heard whiskfs_openwhisk_activations_total start_step guest/manual/split $first
heard whiskfs_openwhisk_containers_total start_container guest/manual/split 1
wait_until 'on h2 test -d "/mnt/ow/pages--guest--$first"' 10
end_step 1
heard whiskfs_openwhisk_activations_total start_step guest/manual/infer $first
heard whiskfs_openwhisk_containers_total start_container guest/manual/infer 2
wait_until 'on h3 test -d "/mnt/ow/pages--guest--$first"' 10
end_step 2

say "second run: h3 draws what h2 writes, told by nobody"
heard whiskfs_openwhisk_activations_total start_step guest/manual/split $second
wait_until 'on h2 test -d "/mnt/ow/pages--guest--$second"' 10
on h2 sh -c "head -c 20000000 /dev/urandom >/mnt/ow/pages--guest--$second/page"
wait_until '(($(metric h3 whiskfs_peer_received_bytes_total) >= 20000000))' 20
is_same 1 "$(metric h3 whiskfs_openwhisk_expected_total)"
is_same 0 "$(metric h1 whiskfs_openwhisk_expected_total)"
(($(metric h1 whiskfs_peer_received_bytes_total) < 100000)) || fail "h1 drew what it will not need"
is_same "$(sum_on h2 "/mnt/ow/pages--guest--$second/page")" "$(sum_on h3 "/mnt/ow/pages--guest--$second/page")"
no_errors_in_logs
