#!/bin/bash
# The documents that are made from the command table: those that are committed are up to date, and the man page and
# the completion are well-formed.
set -u
docs=$BUILD_DIR/vm-run-docs
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
n_failed=0

fail()
{
    echo "FAILED: $*"
    n_failed=$((n_failed + 1))
}

for document in cli.md exit-statuses.md; do
    "$docs" "$document" >"$dir/$document"
    diff -u "$SOURCE_DIR/docs/reference/$document" "$dir/$document" ||
        fail "docs/reference/$document is out of date: ninja -C build docs"
done

"$docs" man >"$dir/vm-run.1"
groff -man -ww -z "$dir/vm-run.1" 2>"$dir/man.err" || fail "groff"
[[ ! -s $dir/man.err ]] || fail "the man page: $(cat "$dir/man.err")"
grep -q '^\.SS "vm\\-run run ' "$dir/vm-run.1" || fail "the man page lacks run"

"$docs" completion.bash >"$dir/completion"
"$BUILD_DIR/vm-run" completion bash | diff - "$dir/completion" || fail "completion differs"
bash -n "$dir/completion" || fail "the completion's syntax"

[[ $n_failed == 0 ]] && echo "all as expected"
exit $((n_failed > 0))
