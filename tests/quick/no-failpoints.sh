#!/bin/bash
# A build without -DFAILPOINTS=ON, every release among them, has neither the failpoints' code nor their
# names. What is looked for is first found where it is known to be, else this would prove nothing.
set -euo pipefail

if grep -q '^FAILPOINTS:BOOL=ON' "$BUILD_DIR/CMakeCache.txt"; then
    echo "skipped: this build has failpoints, which is what it is for"
    exit 77
fi

# names PROGRAM: the signs of failpoints in it
signs() {
    { nm "$1" 2>/dev/null | grep -oE '\bbase_failpoint\b' || true
      strings -a "$1" | grep -oE 'VM_FAILPOINTS' || true
      strings -a "$1" | grep -xF "$names" || true; } | sort -u
}

# the literal names in our code: base_failpoint("NAME")
mapfile -t folders < <(sed -n 's/^\([a-z]*\):.*/\1/p' "$SOURCE_DIR/cmake/layers.txt")
names=$(cd "$SOURCE_DIR" &&
    { grep -rshoE --include='*.c' 'base_failpoint\("[^"]+"\)' "${folders[@]}" || true; } |
    sed 's/.*"\(.*\)".*/\1/' | sort -u)
[ -n "$names" ] || { echo "no failpoint is named anywhere"; exit 1; }

control=$BUILD_DIR/tests/test-base-failpoint
[ "$(signs "$control" | grep -cE '^(base_failpoint|VM_FAILPOINTS)$')" = 2 ] || {
    echo "the signs are not found in $control, which has them"
    exit 1
}

n=0
for program in "$BUILD_DIR"/vm-run*; do
    [ -f "$program" ] && [ -r "$program" ] || continue
    n=$((n + 1))
    found=$(signs "$program")
    if [ -n "$found" ]; then
        echo "$program has failpoints: $found"
        exit 1
    fi
done
echo "$n programs and parts without failpoints"
[ "$n" -gt 0 ] || { echo "no program was looked at"; exit 1; }
