#!/bin/bash
# The scripts that make the guests and install packages are clean for shellcheck, and tiny's
# reader of YAML and JSON tells the shell what was in them.
set -euo pipefail
cd "$SOURCE_DIR"

mapfile -d '' -t scripts < <(grep -rlZ --exclude='*.test.*' '^#!/bin/\(ba\)\?sh' tests/guest packaging)
((${#scripts[@]} >= 15))
shellcheck -x "${scripts[@]}" tests/guest/tiny/files/etc/tiny/seed

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -std=gnu17 -Wall -Wextra -Werror -o "$work/flatten" tests/guest/tiny/flatten.c -lyaml

# expect INPUT OUTPUT: both with printf's escapes
expect() {
    diff <(printf '%b' "$1" | "$work/flatten") <(printf '%b' "$2")
}
expect '{"a": {"b": [1, "x\\\\ny"]}, "c/d": null}\n' 'a/b/0\t1\na/b/1\tx\\\\ny\nc_d\tnull\n'
expect 'a: |\n  one\n  two\\\\\nb:\n- c: d\n  e: f\n- g\n' \
    'a\tone\\ntwo\\\\\\\\\\n\nb/0/c\td\nb/0/e\tf\nb/1\tg\n'
expect '' ''
for bad in '{"a": ' 'a: b: c' '[1, *x]' "$(printf '[%.0s' {1..40})"; do
    if printf '%s\n' "$bad" | "$work/flatten" >/dev/null 2>&1; then
        echo "accepted: $bad"
        exit 1
    fi
done
