#!/bin/bash
# 10,000 starts and stops on libvirt's test driver: flat memory, descriptors and threads.
set -euo pipefail
VM_SOAK_CYCLES=10000 exec "$BUILD_DIR/tests/test-driver-soak"
