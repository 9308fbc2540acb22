#!/bin/bash
# TIMEOUT 180
# A machine on a bridge of libvirt's: its address is reserved there before it boots, kept while it is stopped, given back with it.
# A libvirtd of this test, in a network namespace of its own; no guest boots.
set -euo pipefail
if [[ $(id -u) != 0 ]]; then
    echo "skipped: a libvirtd needs root"
    exit 77
fi

fail() {
    echo "FAIL: $*"
    exit 1
}

hosts() {
    virsh net-dumpxml vmtest | sed -n "s/.*<host mac='\(.*\)' name='\(.*\)' ip='\(.*\)'.*/\2 \3/p" | sort
}

begin() {
    "$BUILD_DIR/vm-run" run "$work/empty.raw" -n "$1" --memory 64MiB -d --wait started --json "${@:2}" 2>"$work/err"
}

# field JSON EXPRESSION
field() {
    python3 -c 'import json, sys; view = json.loads(sys.argv[1]); print(eval(sys.argv[2], {"v": view}))' "$1" "$2"
}

inside() {
    local view ip other
    work=$(mktemp -d)
    chmod 0711 "$work"
    trap 'rm -rf "$work"' EXIT
    export VM_RUN_STATE_DIR=$work/state
    unset VM_RUN_NETWORK VM_RUN_URI LIBVIRT_DEFAULT_URI
    truncate -s 16M "$work/empty.raw"
    export VIRSH_DEFAULT_CONNECT_URI=qemu:///system
    virsh -q net-define <(echo "<network><name>vmtest</name><forward mode='nat'/><bridge name='virbr9'/>
        <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.100' end='192.168.122.200'/></dhcp></ip>
        </network>") >/dev/null
    virsh -q net-start vmtest >/dev/null

    view=$(begin one --network bridge=virbr9 -p 8080:80)
    ip=$(field "$view" 'v["nics"][0]["ip4"]')
    [[ $ip == 192.168.122.* && $(field "$view" 'v["ssh"]["addr"]') == "$ip" ]] || fail "known before it boots: $view"
    [[ $(hosts) == "one $ip" ]] || fail "reserved: $(hosts)"
    "$BUILD_DIR/vm-run" network check bridge.virbr9 >/dev/null || fail "ports are not as they should be"
    "$BUILD_DIR/vm-run" stop --force one 2>/dev/null
    [[ $(hosts) == "one $ip" ]] || fail "kept while it is stopped: $(hosts)"
    "$BUILD_DIR/vm-run" start one --wait started 2>/dev/null
    [[ $(field "$("$BUILD_DIR/vm-run" show one --json)" 'v["nics"][0]["ip4"]') == "$ip" ]] || fail "another address"

    begin two --network bridge=virbr9,ip=192.168.122.50 >/dev/null
    [[ $(hosts) == *"two 192.168.122.50"* ]] || fail "a fixed address: $(hosts)"
    begin three --network bridge=virbr9,ip=192.168.122.50 >/dev/null && fail "an address that is another's"
    grep -q "192.168.122.50 is reserved for two" "$work/err" || fail "$(cat "$work/err")"
    begin four --network bridge=virbr9,ip=10.0.0.1 >/dev/null && fail "an address outside"
    [[ $(hosts | wc -l) == 2 ]] || fail "what was refused has nothing reserved: $(hosts)"

    # an embedded driver has no networks: the libvirtd beside it is asked
    other=$(begin five --network bridge=virbr9 --connect "qemu:///embed?root=$work/state/libvirt")
    [[ $(hosts) == *"five $(field "$other" 'v["nics"][0]["ip4"]')"* ]] || fail "reserved by an embedded driver: $(hosts)"

    for name in one two five; do
        "$BUILD_DIR/vm-run" rm --force "$name" 2>/dev/null
    done
    [[ -z $(hosts) ]] || fail "given back: $(hosts)"
    [[ -z $(ip -o link | grep vmt || true) ]] || fail "links are left"
    [[ -z $(ls "$work/state/networks") ]] || fail "networks are left"
    virsh -q net-destroy vmtest >/dev/null
    echo ok
}

if [[ ${1:-} == --inside ]]; then
    inside
    exit
fi
exec "$SOURCE_DIR/tests/lib/private-libvirtd" timeout 170 bash "$0" --inside
