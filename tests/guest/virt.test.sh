#!/bin/bash
# The reference domain with the tiny guest in it, embedded and on a libvirtd of this test: agent, reboot, shutdown while nobody listens.
set -euo pipefail
image=$("$SOURCE_DIR/tests/guest/need" tiny)
export TEST_GUEST_IMAGE=$image
"$BUILD_DIR/tests/test-driver-virt_embed"
if [[ $(id -u) == 0 ]]; then
    TEST_CONNECT=qemu:///system "$SOURCE_DIR/tests/lib/private-libvirtd" \
        "$BUILD_DIR/tests/test-driver-virt_embed"
fi
