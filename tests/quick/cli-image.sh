#!/bin/bash
# The image commands and seed, with qemu-img and the ISO's reader as the judges.
set -u
vm_run=$BUILD_DIR/vm-run
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export VM_RUN_STATE_DIR=$dir/state
cd "$dir" || exit 1
n_failed=0

fail()
{
    echo "FAILED: $*"
    n_failed=$((n_failed + 1))
}

qemu-img create -q -f qcow2 base.qcow2 1G || exit 1
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 child.qcow2 || exit 1
before=$(stat -c '%Y %a %u' base.qcow2; sha256sum <base.qcow2)

# probe: what the header says, usable or not
"$vm_run" image probe base.qcow2 >out || fail "probe: status"
grep -Eq '^format +qcow2$' out && grep -Eq '^virtual size +1GiB \(1073741824 bytes\)$' out &&
    grep -Eq '^usable +yes$' out || fail "probe: $(cat out)"
"$vm_run" image probe --json child.qcow2 >out || fail "probe --json: status"
python3 - <<'P' || fail "probe --json: $(cat out)"
import json
image = json.load(open("out"))
assert image["format"] == "qcow2" and image["virtual_bytes"] == 1 << 30, image
assert image["qcow2"]["backing_file"] == "base.qcow2" and image["qcow2"]["cluster_bytes"] == 65536, image
assert image["is_usable"] is False and "backing" in image["refusal"], image
P
"$vm_run" image probe --format raw base.qcow2 >out 2>err
[[ $? == 13 && $(cat err) == 'vm-run: error[E_IMAGE]: '* ]] || fail "probe --format raw: $(cat err)"

# overlay: thin, of the size that was asked for, whole or absent
"$vm_run" image overlay base.qcow2 over.qcow2 --size 2G || fail "overlay: status"
qemu-img check -q over.qcow2 || fail "overlay: qemu-img check"
[[ $(qemu-img info --output json over.qcow2 | python3 -c '
import json, sys
info = json.load(sys.stdin)
print(info["virtual-size"], info["backing-filename"], info["backing-filename-format"])') == "2147483648 $dir/base.qcow2 qcow2" ]] ||
    fail "overlay: qemu-img info"
[[ $(stat -c %a over.qcow2) == 600 ]] || fail "overlay: mode"
"$vm_run" image overlay base.qcow2 over.qcow2 2>err
[[ $? == 6 && $(cat err) == 'vm-run: error[E_EXISTS]: '* ]] || fail "overlay over a file: $(cat err)"
"$vm_run" image overlay base.qcow2 small.qcow2 --size 1M 2>err
[[ $? == 3 && ! -e small.qcow2 ]] || fail "a smaller overlay: $(cat err)"
"$vm_run" image overlay child.qcow2 x.qcow2 2>err
[[ $? == 13 && ! -e x.qcow2 ]] || fail "an overlay on a refused image: $(cat err)"
"$vm_run" image overlay base.qcow2 no/such/x.qcow2 2>err
[[ $? == 5 ]] || fail "an overlay in no folder: $(cat err)"
[[ $("$vm_run" image overlay --json base.qcow2 sub.qcow2) == *'"virtual_bytes":1073741824'* ]] || fail "overlay --json"
[[ $(stat -c '%Y %a %u' base.qcow2; sha256sum <base.qcow2) == "$before" ]] || fail "the base was changed"

# seed: the same bytes each time, all the texts in it, never over a file
printf '#cloud-config\npackages: [curl]\n' >user-data
ssh-keygen -q -t ed25519 -N '' -f key
seed() { "$vm_run" seed --name web --hostname web.test --ssh-key key.pub --user-data user-data "$@"; }
seed -o a.iso || fail "seed: status"
seed -o b.iso && cmp a.iso b.iso || fail "seed: not the same bytes"
[[ $(stat -c %a a.iso) == 600 ]] || fail "seed: mode"
[[ $(blkid -o value -s LABEL a.iso) =~ ^(cidata|CIDATA)$ ]] || fail "seed: label"
seed -o a.iso 2>err
[[ $? == 6 ]] || fail "seed over a file: $(cat err)"
seed --force -o a.iso && cmp a.iso b.iso || fail "seed --force"
grep -aq '#cloud-config' a.iso && grep -aq 'iid-web' a.iso && grep -aq "$(cut -d' ' -f2 key.pub)" a.iso ||
    fail "seed: its texts"
seed --instance-id other -o c.iso && grep -aq 'other' c.iso || fail "seed --instance-id"
seed --ssh-key key -o d.iso 2>err
[[ $? == 14 && ! -e d.iso && $(cat err) == *'.pub'* ]] || fail "seed with a private key: $(cat err)"
printf 'version: 1\nname: t\nvms:\n  a: {image: x}\n  b: {image: x, timezone: Etc/UTC}\n' >spec.yaml
"$vm_run" seed -f spec.yaml -o e.iso 2>err
[[ $? == 2 && $(cat err) == *'pick one with --name: a, b'* ]] || fail "seed of several: $(cat err)"
"$vm_run" seed -f spec.yaml --name b -o e.iso && grep -aq 'Etc/UTC' e.iso || fail "seed of one of several"
[[ ! -e state ]] || fail "the state directory was made"

[[ $n_failed == 0 ]] && echo "all as expected"
exit $((n_failed > 0))
