#!/bin/bash
# TIMEOUT 120
# Networks of libvirt (tests/unit/driver/test_virt_network.c) on qemu:///system: a libvirtd of this test, in a network namespace
# of its own, with a NAT network that serves addresses, one that has none to serve, and one without a bridge.
set -euo pipefail
if [[ $(id -u) != 0 ]]; then
    echo "skipped: a libvirtd needs root"
    exit 77
fi

# network NAME XML: define and start it.
network() {
    virsh -q net-define <(printf '<network><name>%s</name>%s</network>' "$1" "$2") >/dev/null
    virsh -q net-start "$1" >/dev/null
}

inside() {
    local before
    export LIBVIRT_DEFAULT_URI=qemu:///system
    ip link add hostdev0 type veth peer name hostdev1
    network vmtest "<forward mode='nat'/><bridge name='vmtest0'/><domain name='lab.test'/>
        <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.100' end='192.168.122.200'/></dhcp></ip>
        <ip family='ipv6' address='fd00:122::1' prefix='64'/>"
    network vmtest-nodhcp "<bridge name='vmtest1'/><ip address='192.168.123.1' netmask='255.255.255.0'/>"
    network vmtest-nobridge "<forward mode='bridge'><interface dev='hostdev0'/></forward>"
    before=$(virsh net-dumpxml vmtest; virsh net-dumpxml --inactive vmtest)
    TEST_CONNECT=qemu:///system TEST_NETWORK=vmtest TEST_BRIDGE=vmtest0 "$BUILD_DIR/tests/test-driver-virt_network"
    [[ $(virsh net-dumpxml vmtest; virsh net-dumpxml --inactive vmtest) == "$before" ]] || {
        echo "FAIL: the network is not as it was"
        exit 1
    }
    # an embedded driver has no networks: the libvirtd beside it is asked
    VM_RUN_STATE_DIR=$(mktemp -d)
    trap 'rm -rf "$VM_RUN_STATE_DIR"' EXIT
    TEST_CONNECT="qemu:///embed?root=$VM_RUN_STATE_DIR/libvirt" TEST_NETWORK=vmtest TEST_BRIDGE=vmtest0 \
        "$BUILD_DIR/tests/test-driver-virt_network"
    for name in vmtest vmtest-nodhcp vmtest-nobridge; do
        virsh -q net-destroy "$name" >/dev/null
    done
}

if [[ ${1:-} == --inside ]]; then
    inside
    exit
fi
exec "$SOURCE_DIR/tests/lib/private-libvirtd" timeout 110 bash "$0" --inside
