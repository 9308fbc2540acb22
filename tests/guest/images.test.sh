#!/bin/bash
# The guest images themselves, by QEMU alone: made once for two callers, and tiny boots by
# BIOS and UEFI and applies its seed (static network, host name, a script) and the button.
set -euo pipefail

guest=$SOURCE_DIR/tests/guest
work=$(mktemp -d)
qemu=
finish() {
    [[ -z $qemu ]] || kill "$qemu" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

fail() {
    echo "FAIL: $*"
    tail -n 30 "$work/console" 2>/dev/null
    exit 1
}

# until_true SECONDS COMMAND...
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

is_gone() {
    ! kill -0 "$qemu" 2>/dev/null
}

make_seed() {
    mkdir "$work/seed"
    printf 'instance-id: i-1\nlocal-hostname: web1\n' >"$work/seed/meta-data"
    cat >"$work/seed/network-config" <<'EOF'
version: 2
ethernets:
  any: {match: {macaddress: "52:54:00:00:00:01"}, set-name: lan0, mtu: 1400,
        addresses: [192.0.2.5/24], routes: [{to: default, via: 192.0.2.1}],
        nameservers: {addresses: [192.0.2.53]}}
EOF
    cat >"$work/seed/user-data" <<'EOF'
#!/bin/sh
exec >/dev/console
echo "test: host $(hostname)"
echo "test: link $(cat /sys/class/net/lan0/mtu) $(ip addr show lan0 | grep -o '192.0.2.5/24')"
echo "test: route $(ip route | grep default)"
echo "test: dns $(cat /etc/resolv.conf)"
exit 3
EOF
    printf '#cloud-config\nuser: ops\n' >"$work/seed/vendor-data"
    genisoimage -quiet -V cidata -J -R -o "$work/seed.iso" "$work/seed"
}

# boot NAME [QEMU OPTION...]: boot, check what the script said, press the power button.
boot() {
    local name=$1 expected
    shift
    : >"$work/console"
    qemu-img create -q -f qcow2 -F qcow2 -b "$tiny" "$work/$name.qcow2"
    qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 256 \
        -nodefaults -display none -serial "file:$work/console" \
        -drive "file=$work/$name.qcow2,if=virtio,format=qcow2" \
        -drive "file=$work/seed.iso,if=virtio,format=raw,readonly=on" \
        -netdev user,id=n0,restrict=on -device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01 \
        -qmp "unix:$work/qmp,server=on,wait=off" "$@" &
    qemu=$!
    until_true 240 grep -q 'tiny: ready after' "$work/console" || fail "$name: not ready"
    for expected in 'test: host web1' 'test: link 1400 192.0.2.5/24' \
        'test: route default via 192.0.2.1 dev lan0' 'test: dns nameserver 192.0.2.53' \
        'tiny: user-data script failed: exit status 3'; do
        grep -qF "$expected" "$work/console" || fail "$name: nothing says '$expected'"
    done
    printf '%s\n' '{"execute": "qmp_capabilities"}' '{"execute": "system_powerdown"}' |
        socat -t 2 - "unix-connect:$work/qmp" >/dev/null
    until_true 60 is_gone || fail "$name: the power button does nothing"
    qemu=
    echo "$name: $(grep -o 'tiny: ready.*' "$work/console" | tr -d '\r')"
}

"$guest/need" tiny >"$work/first" &
tiny=$("$guest/need" tiny)
wait $!
[[ $(<"$work/first") == "$tiny" ]] || fail "two callers, two images"
qemu-img check -q "$tiny"
[[ $(stat -c %s "$tiny") -lt 20971520 ]] || fail "tiny is larger than 20 MiB"
make_seed
boot bios
cp /usr/share/OVMF/OVMF_VARS_4M.fd "$work/vars.fd"
boot uefi -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
    -drive "if=pflash,unit=1,format=raw,file=$work/vars.fd"
