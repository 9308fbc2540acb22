#!/bin/bash
# The command line's mistakes: exactly one line on standard error, the right class and exit status, nothing on
# standard output, nothing made.
set -u
vm_run=$BUILD_DIR/vm-run
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export VM_RUN_STATE_DIR=$dir/state XDG_RUNTIME_DIR=$dir/run
n_failed=0
: >base
truncate -s 1M base.raw

fail()
{
    echo "FAILED: $*"
    n_failed=$((n_failed + 1))
}

expect() # STATUS PATTERN ARGUMENT...: the one line matches the pattern
{
    local status=$1 pattern=$2
    shift 2
    "$vm_run" "$@" >out 2>err </dev/null
    local got=$?
    [[ $got == "$status" ]] || fail "vm-run $*: status $got, not $status"
    [[ $(wc -l <err) == 1 ]] || fail "vm-run $*: not one line: $(cat err)"
    [[ $(cat err) =~ $pattern ]] || fail "vm-run $*: '$(cat err)' is not like '$pattern'"
    [[ ! -s out ]] || fail "vm-run $*: something on standard output"
    [[ ! -e state ]] || fail "vm-run $*: made the state directory"
}

usage='^vm-run: error\[E_CLI\]: '
expect 2 "${usage}no command given - see 'vm-run --help'"
expect 2 "${usage}unknown command 'rnu' - did you mean 'run'\\?" rnu
expect 2 "${usage}unknown command '.*x1b' - see" $'\e'
expect 2 "${usage}image: no command given - one of probe, inspect, overlay" image
expect 2 "${usage}image: unknown command 'prbe' - did you mean 'probe'" image prbe
expect 2 "${usage}run: unknown flag '--memroy' - did you mean '--memory'\\? \\(see 'vm-run run --help'\\)" run --memroy 2G x
expect 2 "${usage}run: no image given" run
expect 2 "${usage}run: give IMAGE or -f FILE, not both" run -f x y
expect 2 "${usage}run: unexpected operand 'uname' - a command for the guest goes after '--'" run x uname
expect 2 "${usage}run: no command follows '--'" run x --
expect 2 "${usage}run: --json needs -d" run --json x
expect 125 "${usage}run: -d and a command" run -d x -- true
expect 2 "${usage}run: --timeout 'abc': not a duration" run --timeout abc x
expect 2 "${usage}run: --timeout '-1': not a duration" run --timeout -1 x
expect 2 "${usage}run: --timeout '1e99': not a duration" run --timeout 1e99 x
expect 2 "${usage}run: --connect: its value is empty" run --connect '' x
expect 2 "${usage}run: --connect: its value is empty" run --connect= x
expect 2 "${usage}run: --wait 'login': must be one of" run --wait login x
expect 2 "${usage}run: --set 'cpus': not of the form PATH=VALUE" run --set cpus x
expect 2 "${usage}run: flag '--rm' takes no value" run --rm=yes x
expect 2 "${usage}ps: unexpected operand" ps x
expect 2 "${usage}stop: an operand is missing" stop
expect 2 "${usage}stop: --timeout 'soon': not a duration" stop --timeout soon x
expect 2 "${usage}stop: unknown flag '--json'" stop --json x
expect 2 "${usage}rm: an operand is missing" rm --force
expect 2 "${usage}console: an operand is missing" console
expect 2 "${usage}seed: no output file given" seed
expect 2 "${usage}completion: no completion for 'fish'" completion fish
expect 2 "${usage}help: there is no command 'rnu'" help rnu
expect 6 "^vm-run: error\\[E_EXISTS\\]: 'base' exists" run --save-spec base base.raw
expect 2 "${usage}logs: --tail 'x': not a number" logs --tail x web

# What isn't there.
for command in show logs console ssh events stats start stop restart 'rm --force'; do
    expect 5 '^vm-run: error\[E_NOT_FOUND\]: .*web' $command web
done
expect 125 '^vm-run: error\[E_NOT_FOUND\]: ' ssh web -- true
expect 5 'error\[E_NOT_FOUND\]: .*none.qcow2' image probe none.qcow2
expect 5 'error\[E_NOT_FOUND\]: .*none.qcow2' run none.qcow2
expect 125 'error\[E_NOT_FOUND\]: .*none.qcow2' run --rm none.qcow2 -- true
expect 13 'error\[E_IMAGE\]: ' run --set image_format=qcow2 base.raw
expect 5 'error\[E_NOT_FOUND\]: .*none.yaml' check none.yaml

# Of several machines each is tried.
"$vm_run" rm a b >out 2>err
[[ $? == 5 && $(wc -l <err) == 2 ]] || fail "rm a b: $(cat err)"

# The three typical mistakes: a key, a value, a user-data that cloud-init would ignore.
printf 'version: 1\nname: t\nvms:\n  web:\n    image: x.qcow2\n    memroy: 2GiB\n' >spec.yaml
expect 3 "^spec.yaml:6:5: error\\[E_SCHEMA\\]: .*memroy.* - did you mean 'memory'" check spec.yaml
expect 3 "^spec.yaml:6:5: error\\[E_SCHEMA\\]: .*memroy.* - did you mean 'memory'" run -f spec.yaml
expect 125 "^spec.yaml:6:5: error\\[E_SCHEMA\\]: " run -f spec.yaml -- true
expect 3 '^--cpus: error\[E_(RANGE|SCHEMA)\]: ' run --cpus 0 x.qcow2
printf 'packages: [curl]\n' >user-data
expect 3 '^.*user-data:1:1: error\[E_CI\]: .*#cloud-config' run --user-data user-data x.qcow2

# Every mistake of a file in one pass, in the order of the file, with the status of the first.
printf 'version: 1\nname: t\nvms:\n  web:\n    image: x.qcow2\n    cpus: many\n    memroy: 1\n' >spec.yaml
"$vm_run" check spec.yaml >out 2>err
[[ $? == 3 && $(wc -l <err) == 2 && $(head -1 err) == spec.yaml:6:* && $(tail -1 err) == spec.yaml:7:* ]] ||
    fail "check of two mistakes: $(cat err)"
"$vm_run" check --json spec.yaml >out 2>err
[[ $? == 3 && ! -s err ]] || fail "check --json: status or standard error"
python3 - <<'P' || fail "check --json: $(cat out)"
import json
report = json.load(open("out"))
assert report["v"] == 1 and report["ok"] is False and report["machines"] == ["web"], report
assert [item["line"] for item in report["items"]] == [6, 7], report
assert all(item["class"] == "E_SCHEMA" and item["severity"] == "error" for item in report["items"]), report
P
printf 'version: 1\nname: t\nvms:\n  web:\n    image: x.qcow2\n' >spec.yaml
[[ $("$vm_run" check spec.yaml) == 'spec.yaml: 1 machine, no mistakes' ]] || fail "check of a good file"
[[ $("$vm_run" check - <spec.yaml) == '-: 1 machine, no mistakes' ]] || fail "check of standard input"

# Looking makes nothing.
[[ $("$vm_run" ps --quiet) == '' ]] || fail "ps --quiet of nothing"
[[ $("$vm_run" ps --json) == '{"v":1,"machines":[]}' ]] || fail "ps --json of nothing"
[[ $("$vm_run" ls) == NAME* ]] || fail "ls"
[[ ! -e state ]] || fail "looking made the state directory"

# Help and version go to standard output; common flags may stand before the command.
[[ $("$vm_run" --version) == 'vm-run '* && $("$vm_run" version) == 'vm-run '* ]] || fail "version"
[[ $("$vm_run" --json version) == '{"v":1,"version":"'*'"}' ]] || fail "version --json"
for help in 'help' 'help run' 'help image' 'help image probe' '--help' 'run --help' '-h' 'image --help' 'image probe -h' '--help ps'; do
    "$vm_run" $help >out 2>err
    [[ $? == 0 && $(head -1 out) == Usage:* && ! -s err ]] || fail "vm-run $help"
done
"$vm_run" schema | python3 -c 'import json, sys; json.load(sys.stdin)' || fail "schema is no JSON"

# A reader that goes away ends us quietly; a full disk is said.
(trap '' PIPE; "$vm_run" run --help; echo $? >status) 2>err | :
[[ $(cat status) =~ ^(0|141)$ && ! -s err ]] || fail "a closed pipe: $(cat status err)"
"$vm_run" version >/dev/full 2>err
[[ $? == 8 && $(cat err) == 'vm-run: error[E_NO_SPACE]: cannot write to standard output: '* ]] ||
    fail "a full disk: $(cat err)"
"$vm_run" version >&- 2>err
[[ $? == 0 ]] || fail "a closed standard output: $(cat err)"

[[ $n_failed == 0 ]] && echo "all as expected"
exit $((n_failed > 0))
