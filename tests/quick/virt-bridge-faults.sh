#!/bin/bash
# TIMEOUT 300
# An address reserved at libvirt for a machine that never came to be: killed at each place, refused, libvirtd dead in between. One
# gc later libvirt's network is as it was. A libvirtd of this test, in a network namespace of its own; no guest boots.
set -euo pipefail
if [[ $(id -u) != 0 ]]; then
    echo "skipped: a libvirtd needs root"
    exit 77
fi
readonly vm_run=$FAULT_BUILD_DIR/vm-run

fail() {
    echo "FAIL: $*"
    exit 1
}

hosts() {
    virsh net-dumpxml vmtest | sed -n "s/.*<host mac='.*' name='\(.*\)' ip='\(.*\)'.*/\1 \2/p" | sort
}

# start FAULT OPTION...: "done" or "failed", in $outcome.
start() {
    outcome="done"
    VM_FAILPOINTS=$1 "$vm_run" run "$work/empty.raw" -n one --memory 64MiB -d --wait started "${@:2}" >"$work/out" 2>&1 ||
        outcome=failed
}

check_census() {
    [[ -z $(hosts) ]] || fail "$1: reserved: $(hosts)"
    [[ -z $(ls -A "$work/state/machines") ]] || fail "$1: $(ls -A "$work/state/machines")"
    [[ -z $(ls -A "$work/state/networks") ]] || fail "$1: $(ls -A "$work/state/networks")"
    [[ -z $(ip -o link | grep vmt || true) ]] || fail "$1: links are left"
}

kill_each() {
    local point n outcome reserved=0
    for point in reserve.after directory.before directory.mid directory.after lease.before lease.after network.mid; do
        start "$point=kill" --network bridge=virbr9
        [[ $outcome == failed ]] || fail "$point was not reached: $(cat "$work/out")"
        [[ -n $(hosts) ]] && reserved=$((reserved + 1))
        "$vm_run" gc >"$work/out" 2>&1 || fail "$point: gc: $(cat "$work/out")"
        check_census "$point"
    done
    ((reserved > 2)) || fail "only $reserved kills left a reservation"
    for ((n = 1; n < 40; n++)); do # the writing of every file
        start "file.write#$n=kill" --network bridge=virbr9
        [[ $outcome == "done" ]] && break
        "$vm_run" gc >"$work/out" 2>&1 || fail "file $n: gc: $(cat "$work/out")"
        check_census "file.write#$n"
    done
    ((n > 3 && n < 40)) || fail "$n files were written"
    [[ -n $(hosts) && -z $(ls -A "$work/state/machines" | grep '^[.]') ]] || fail "a note beside a machine"
    "$vm_run" rm --force one 2>/dev/null
    check_census "removed"
}

inside() {
    local outcome
    work=$(mktemp -d)
    chmod 0711 "$work"
    trap 'rm -rf "$work"' EXIT
    export VM_RUN_STATE_DIR=$work/state VIRSH_DEFAULT_CONNECT_URI=qemu:///system
    unset VM_RUN_NETWORK VM_RUN_URI LIBVIRT_DEFAULT_URI
    truncate -s 16M "$work/empty.raw"
    virsh -q net-define <(echo "<network><name>vmtest</name><forward mode='nat'/><bridge name='virbr9'/>
        <ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.100' end='192.168.122.200'/></dhcp></ip>
        </network>") >/dev/null
    virsh -q net-start vmtest >/dev/null
    kill_each

    # refused for another reason after the address was reserved
    start "directory.before=errno:28" --network bridge=virbr9
    [[ $outcome == failed ]] || fail "a full disk is no error"
    check_census "a full disk"

    # the next start of that name, elsewhere, settles it too
    start "reserve.after=kill" --network bridge=virbr9
    [[ -n $(hosts) ]] || fail "nothing was reserved"
    start "" --network none
    [[ $outcome == "done" && -z $(hosts) ]] || fail "the next start: $(hosts) $(cat "$work/out")"
    "$vm_run" rm --force one 2>/dev/null
    "$vm_run" gc >"$work/out" 2>&1 # the network's record
    check_census "the next start"

    # without libvirtd it can't be given back: said, and not forgotten
    start "reserve.after=kill" --network bridge=virbr9
    kill "$(cat /run/libvirtd.pid)"
    while [[ -e /proc/$(cat /run/libvirtd.pid 2>/dev/null || echo none) ]]; do sleep 0.1; done
    "$vm_run" gc >"$work/out" 2>&1 && fail "gc without libvirtd: $(cat "$work/out")"
    grep -q "reservation at libvirt" "$work/out" || fail "$(cat "$work/out")"
    [[ -e $work/state/machines/.reserve-one ]] || fail "forgotten"
    libvirtd -d
    until virsh -q list >/dev/null 2>&1; do sleep 0.1; done
    [[ -n $(hosts) ]] || fail "libvirt forgot it"
    "$vm_run" gc --dry-run >"$work/out" 2>&1 || true
    grep -q "would be released" "$work/out" || fail "$(cat "$work/out")"
    [[ -n $(hosts) ]] || fail "a dry run changed something"
    "$vm_run" gc >"$work/out" 2>&1 || fail "gc: $(cat "$work/out")"
    check_census "with libvirtd again"
    virsh -q net-destroy vmtest >/dev/null
    echo ok
}

if [[ ${1:-} == --inside ]]; then
    inside
    exit
fi
exec "$SOURCE_DIR/tests/lib/private-libvirtd" timeout 290 bash "$0" --inside
