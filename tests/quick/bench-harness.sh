#!/bin/bash
# The benchmarks' harness (tests/bench/run): its usage, and the form of its results. What it measures is nobody's test.
set -u
run=$SOURCE_DIR/tests/bench/run
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
n_failed=0

fail()
{
    echo "FAILED: $*"
    n_failed=$((n_failed + 1))
}

"$run" --help >out 2>err || fail "--help: status $?"
for name in overlay overlay-command seed plan cli start start-embed cli-start end rss; do
    grep -Eq "^  $name  *[a-z]" out || fail "--help does not name $name"
done
[[ ! -s err ]] || fail "--help: $(cat err)"

"$run" plann >out 2>err
[[ $? == 2 && ! -s out ]] || fail "an unknown name is no usage error"
grep -q "no benchmark 'plann'" err || fail "an unknown name: $(cat err)"
BUILD_DIR=$dir/none "$run" plan >out 2>err
[[ $? == 1 && ! -s out ]] || fail "no build tree: not status 1"
grep -q 'is missing' err || fail "no build tree: $(cat err)"

"$run" --json -n 2 plan cli >out 2>err || fail "plan cli: status $?: $(cat err)"
[[ ! -s err ]] || fail "--json says something on standard error: $(cat err)"
python3 - <<'P' || fail "plan cli: $(cat out)"
import json
lines = [json.loads(line) for line in open("out")]
assert [line["name"] for line in lines] == ["plan", "cli-version", "cli-help", "cli-image-probe"], lines
for line in lines:
    for key in ("ours_ms", "peer_ms", "ratio"):
        assert isinstance(line[key], (int, float)) and line[key] > 0, (key, line)
    assert line["n"] == 2 and line["peer"] and line["goal"] and isinstance(line["is_met"], bool), line
    assert abs(line["ratio"] - line["peer_ms"] / line["ours_ms"]) <= 0.001 * line["ratio"] + 0.001, line
P
[[ $(ls -A) == $'err\nout' ]] || fail "files were left: $(ls -A)"

"$run" -n 1 plan >out 2>err || fail "plan: status $?"
[[ $(wc -l <out) == 1 && $(wc -l <err) == 1 ]] || fail "without --json: $(cat out err)"
grep -Eq '^plan +[0-9.]+ ms, .*goal <= 1 ms: (met|MISSED)' err || fail "without --json: $(cat err)"
exit $((n_failed > 0))
