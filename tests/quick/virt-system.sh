#!/bin/bash
# TIMEOUT 120
# The life of the reference domain (tests/unit/driver/test_virt_embed.c) on qemu:///system: a libvirtd of this test.
set -euo pipefail
if [[ $(id -u) != 0 ]]; then
    echo "skipped: a libvirtd needs root"
    exit 77
fi
TEST_CONNECT=qemu:///system exec "$SOURCE_DIR/tests/lib/private-libvirtd" \
    timeout 110 "$BUILD_DIR/tests/test-driver-virt_embed"
