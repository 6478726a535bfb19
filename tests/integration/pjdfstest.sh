#!/bin/bash
# pjdfstest over a mounted volume: every case passes, but for those in pjdfstest.d/exceptions, which libfuse's
# passthrough_hp must fail in the same run.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

suite=$suites/pjdfstest@0.2.2/bin/pjdfstest
passthrough=$cache/fuse/bin/passthrough_hp
data=$(cd "$(dirname "$0")" && pwd)/pjdfstest.d
requires "$suite"

# run_suite DIRECTORY CONFIG [CASE…]: one line for each case, "NAME ok|FAILED|skipped".
run_suite() {
    local directory=$1 config=$2
    shift 2
    on h1 env PATH="$cluster_directory/bin:$PATH" "$suite" -c "$config" -p "$directory" -s /dev/shm "$@" 2>&1 |
        awk '{ gsub(/\033\[[0-9;]*m/, "") } $NF ~ /^(ok|FAILED|skipped)$/ && $1 ~ /::/ { print $1, $NF }'
}

names_with() {
    awk -v result="$1" '$2 == result { print $1 }' "$2" | sort
}

# failing_below_passthrough CASE…: those that passthrough_hp fails as well.
failing_below_passthrough() {
    requires "$passthrough"
    mkdir "$cluster_directory/source" "$cluster_directory/hp"
    on h1 "$passthrough" -o allow_other "$cluster_directory/source" "$cluster_directory/hp"
    run_suite "$cluster_directory/hp" "$data/config.toml" -e "$@" >"$cluster_directory/results.hp"
    on h1 umount "$cluster_directory/hp"
    names_with FAILED "$cluster_directory/results.hp"
}

cluster_up 1 --no-kafka
on h1 whiskfs volume create v >/dev/null
on h1 mkdir -m 755 /mnt/ow/v/suite
# mount(8) hands every FUSE type to a helper that cannot remount; the kernel can.
mkdir "$cluster_directory/bin"
printf '#!/bin/sh\nexec %s -i "$@"\n' "$(command -v mount)" >"$cluster_directory/bin/mount"
chmod 755 "$cluster_directory/bin/mount"
results=$cluster_directory/results
within 240 run_suite /mnt/ow/v/suite "$data/config.toml" >"$results" || true
# What needs a remount runs by itself: Linux refuses one while the last close of an unlinked file is on its way to us.
sed 's/allow_remount = false/allow_remount = true/' "$data/config.toml" >"$cluster_directory/remount.toml"
within 60 run_suite /mnt/ow/v/suite "$cluster_directory/remount.toml" erofs >"$cluster_directory/results.erofs" || true
is_same 13 "$(names_with ok "$cluster_directory/results.erofs" | wc -l)"
passed=$(names_with ok "$results" | wc -l)
((passed > 370)) || fail "only $passed cases passed"
failed=$(names_with FAILED "$results")
excepted=$(sed 's/#.*//; s/ .*//; /^$/d' "$data/exceptions" | sort)
unexcused=$(comm -23 <(echo "$failed") <(echo "$excepted"))
[[ -z $unexcused ]] || fail "cases failed: $unexcused"
needless=$(comm -13 <(echo "$failed") <(echo "$excepted"))
[[ -z $needless ]] || fail "exceptions that do not fail: $needless"
if [[ -n $excepted ]]; then
    mapfile -t names <<<"$excepted"
    is_same "$excepted" "$(failing_below_passthrough "${names[@]}")"
fi
say "$passed cases passed, $(names_with skipped "$results" | wc -l) do not apply here"
no_errors_in_logs
