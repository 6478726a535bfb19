#!/bin/bash
# A peer whose certificate is of another CA, of another host, expired or missing is refused, by both sides, with the reason.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

cluster_up 2 --no-kafka --extra noise --extra nobody
on h1 whiskfs volume create v >/dev/null
on h2 whiskfs attach v >/dev/null
on h2 whiskfs detach v >/dev/null
pki=$cluster_directory/pki

# use_certificate DIRECTORY NAME: h2 comes with that one.
use_certificate() {
    "$cluster" stop h2 2>/dev/null || true # it has ended by itself when it refused its own certificate
    cp "$1/$2.pem" "$cluster_directory/h2/host.pem"
    cp "$1/$2.key" "$cluster_directory/h2/host.key"
    cp "$1/ca.pem" "$cluster_directory/h2/ca.pem"
    : >"$cluster_directory/h1/log"
    : >"$cluster_directory/h2/log"
}

# refused_with REGEX: h2 cannot attach, and one of the hosts says why.
refused_with() {
    refused within 15 on h2 whiskfs attach v 2>/dev/null
    wait_until "grep -qiE '$1' $cluster_directory/h1/log $cluster_directory/h2/log" 5
    say "refused: $(grep -ihE "$1" "$cluster_directory"/h[12]/log | head -n 1)"
}

foreign=$cluster_directory/foreign
on h1 whiskfs pki init "$foreign" >/dev/null
on h1 whiskfs pki host "$foreign" h2 >/dev/null
use_certificate "$foreign" h2
"$cluster" start h2
refused_with "signed by a foreign CA"
grep -q 'connection from 10.77.0.2 failed' "$cluster_directory/h1/log" || fail 'the host that was called says nothing'

# A certificate of this cluster, but another host's name: not even its own daemon takes it.
on h1 whiskfs pki host "$pki" stranger >/dev/null
use_certificate "$pki" stranger
refused "$cluster" start h2 2>/dev/null
grep -qE 'stranger|name' "$cluster_directory/h2/log" || fail "no word of the wrong name: $(cat "$cluster_directory/h2/log")"

use_certificate "$pki" h2
"$cluster" start h2
within 15 on h2 whiskfs attach v >/dev/null

say "strangers that speak no TLS, or have no certificate, are refused and do no harm"
on noise timeout 2 bash -c 'head -c 100000 /dev/urandom >/dev/tcp/h1/7433' 2>/dev/null || true
on nobody sh -c 'echo | timeout 2 openssl s_client -connect h1:7433 -quiet' >/dev/null 2>&1 || true
for host in noise nobody; do
    address=$(sed -n "s/ $host\$//p" "$cluster_directory/hosts")
    wait_until "grep -F 'connection from $address failed' $cluster_directory/h1/log >/dev/null" 10
done
grep -F "connection from $address failed" "$cluster_directory/h1/log" | grep -qi certificate ||
    fail "no word of the missing certificate"
is_same "" "$(within 10 on h2 ls /mnt/ow/v)"
