#!/bin/bash
# make demo: a real Debian guest with real cloud-init comes up from a thin overlay, is logged into with its own key, proves
# hostname, timezone and user-data, and vanishes without a trace. Needs no network and leaves nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD_DIR:-build}
vm_run=$build/vm-run

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
show() {
    printf '$ vm-run %s\n' "$*" >&2
    "$vm_run" "$@"
}

say "1. A guest image: Debian 12 with cloud-init, made from Debian's packages (cached)"
image=$(tests/guest/need debian)
ls -lh "$image" >&2
before=$(sha256sum "$image")

work=$(mktemp -d /var/tmp/vm-run-demo.XXXXXX)
chmod 0711 "$work"
export VM_RUN_STATE_DIR=$work/state VM_RUN_NETWORK=user # needs no root, leaves the host's links alone
finish() {
    "$vm_run" rm --force demo >/dev/null 2>&1 || true
    "$vm_run" gc >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

cat >"$work/user-data.yaml" <<'YAML'
#cloud-config
write_files:
  - path: /etc/motd
    content: "This text came with user-data.\n"
runcmd:
  - [sh, -c, "echo first boot of $(hostname) > /var/lib/demo"]
YAML

say "2. From image to logged-in shell: overlay, seed, define, boot, cloud-init"
show run "$image" --name demo --hostname demo-vm --timezone Europe/Vienna \
    --user-data "$work/user-data.yaml" --cpus 2 --memory 1GiB -d --wait cloud-init

say "3. What the guest says of itself (over ssh, with the machine's own key and a checked host key)"
fail=0
expect() { # WHAT EXPECTED COMMAND...
    local what=$1 expected=$2 got
    shift 2
    got=$("$vm_run" ssh demo -- "$@")
    if [[ $got == "$expected" ]]; then
        printf '  %-12s %s\n' "$what" "$got" >&2
    else
        printf '  %-12s WRONG: %s (expected %s)\n' "$what" "$got" "$expected" >&2
        fail=1
    fi
}
expect hostname demo-vm hostname
expect timezone /usr/share/zoneinfo/Europe/Vienna readlink -f /etc/localtime
expect user-data 'This text came with user-data.' cat /etc/motd
expect runcmd 'first boot of demo-vm' cat /var/lib/demo
expect cloud-init 'status: done' cloud-init status

say "4. The machine, as others see it"
show ps
show show demo

say "5. Gone without a trace"
show rm --force demo
show ps
left=$(find "$VM_RUN_STATE_DIR"/machines "$VM_RUN_STATE_DIR"/locks -mindepth 1 2>/dev/null)
[[ -z $left ]] || { echo "left behind: $left" >&2; fail=1; }
! pgrep -f "$VM_RUN_STATE_DIR" >&2 || { echo "a process was left behind" >&2; fail=1; }
[[ $(sha256sum "$image") == "$before" ]] || { echo "the image was changed" >&2; fail=1; }
[[ $fail == 0 ]] || { say "demo FAILED"; exit 1; }
say "demo: all of it true. Next: docs/tutorial-run.md"
