#!/bin/bash
# All C code is as clang-format writes it (.clang-format; another version writes otherwise: 14 only).
set -euo pipefail
cd "$SOURCE_DIR"
if ! clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    echo "skipped: no clang-format 14 here (apt-get install clang-format)"
    exit 77
fi
mapfile -d '' -t files < <(find base schemas imaging cloudinit net driver cli tests -name '*.[ch]' -print0)
unformatted=$(clang-format --dry-run --Werror "${files[@]}" 2>&1 | sed -n 's/^\([^ :]*\):[0-9:]* error.*/\1/p' | sort | uniq -c || true)
if [ -n "$unformatted" ]; then
    echo "$unformatted"
    echo "make format puts these right"
    exit 1
fi
