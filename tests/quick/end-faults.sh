#!/bin/bash
# TIMEOUT 180
# The end command of a machine's watcher comes late: while the next boot, or a new machine of that name, is being started. It waits
# for the lock, and must then leave alone what runs. No guest boots.
set -euo pipefail
work=$(mktemp -d)
chmod 0711 "$work"
export VM_RUN_STATE_DIR=$work/state VM_RUN_NETWORK=user VM_RUN_URI="qemu:///embed?root=$work/state/libvirt"
readonly vm_run=$FAULT_BUILD_DIR/vm-run
clean_up() {
    "$vm_run" rm --force m >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean_up EXIT

# late COMMAND...: runs it, slowly, with the end command beside it, which must do nothing.
late() {
    local starter i status
    VM_FAILPOINTS=define.after=sleep:1500 "$vm_run" "$@" >"$work/out" 2>&1 &
    starter=$!
    for ((i = 0; i < 200; i++)); do # it has said what boot this is, and QEMU isn't there yet
        grep -q '"qemu_pid": *0' "$work/state/machines/m/boot.json" 2>/dev/null && break
        sleep 0.05
    done
    "$vm_run" internal-end m >"$work/end" 2>&1 &
    wait "$starter" || {
        echo "FAIL: $*: $(cat "$work/out")"
        exit 1
    }
    wait $!
    status=$("$vm_run" show m --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["status"])')
    [[ $status == running ]] || {
        echo "FAIL: $*: it is $status after a late end command"
        exit 1
    }
}

truncate -s 16M "$work/empty.raw"
late run "$work/empty.raw" -n m --memory 64MiB -d --wait started
"$vm_run" stop --force m 2>/dev/null
late start m --wait started
"$vm_run" rm --force m 2>/dev/null
late run "$work/empty.raw" -n m --memory 64MiB -d --wait started
echo ok
