#!/bin/bash
# TIMEOUT 120
# Where QEMU's user may not open /dev/kvm, the embedded driver must not ask QEMU for its capabilities at every call: the
# whole life of a domain stays within the time of an ordinary host. The node is replaced in a mount namespace of this test.
set -euo pipefail
if [[ $(id -u) != 0 ]] || ! unshare -m true 2>/dev/null; then
    echo "skipped: needs root and a mount namespace of its own (not in a plain chroot)"
    exit 77
fi
if [[ ! -e /dev/kvm ]]; then
    echo "skipped: this host has no /dev/kvm"
    exit 77
fi
exec unshare -m --propagation private bash -euo pipefail -c '
    mount -t tmpfs -o mode=0755 tmpfs /mnt
    mknod -m 0600 /mnt/kvm c 10 232
    mount --bind /mnt/kvm /dev/kvm
    exec timeout 110 "$BUILD_DIR/tests/test-driver-virt_embed"'
