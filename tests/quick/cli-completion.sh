#!/bin/bash
# Completion in a real bash: the script is loaded, COMP_WORDS are set as readline sets them, and what it offers is compared.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
PATH=$BUILD_DIR:$PATH
n_failed=0
cd "$dir" || exit 1
touch base.qcow2
mkdir folder
source <(vm-run completion bash)

complete_words() # WORD...: the last one is completed
{
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _vm_run 2>"$dir/err"
}

expect() # "OFFERED..." WORD...
{
    local wanted=$1
    shift
    complete_words "$@"
    local got="${COMPREPLY[*]}"
    if [[ $got != "$wanted" || -s $dir/err ]]; then
        echo "FAILED: '$*' offers '$got', not '$wanted' $(cat "$dir/err")"
        n_failed=$((n_failed + 1))
    fi
}

expect 'run' vm-run ru
expect 'start stop stats' vm-run st
expect 'probe inspect overlay' vm-run image ''
expect 'probe' vm-run image pr
expect '--memory' vm-run run --mem
expect '--memory' vm-run --quiet run --rm --mem
expect 'ssh' vm-run run --wait ss
expect 'ssh' vm-run run --wait = ss
expect 'started boot ssh cloud-init ready' vm-run run --wait =
expect 'kvm' vm-run run --accel k
expect 'bash' vm-run completion ''
expect 'restart' vm-run help re
expect 'ls show add update rm check' vm-run network ''
expect '--cidr --cidr6' vm-run network add --cid
expect 'nat' vm-run network add --mode n
expect 'up' vm-run update web --link u
expect 'auto user none' vm-run --state-dir "$dir/empty" run --network ''
expect 'base.qcow2' vm-run run ba
expect 'base.qcow2' vm-run run -f ba
expect 'folder' vm-run --state-dir fo
expect 'folder' vm-run run --state-dir fo
expect '' vm-run run --memory ''
expect '' vm-run run x -- l
expect '' vm-run unknown ''
expect '--dry-run' vm-run gc --dr

# Names of machines are those of the state directory that was given.
mkdir -p state/machines/web-1 state/machines/web-2 state/machines/db
expect 'web-1 web-2' vm-run --state-dir "$dir/state" show we
expect 'web-1 web-2' vm-run show --state-dir "$dir/state" we
expect 'web-1 web-2' vm-run show --state-dir = "$dir/state" we
expect 'db web-1 web-2' vm-run --state-dir "$dir/state" rm --force ''
expect 'db' vm-run --state-dir "$dir/state" rm web-1 d
mkdir -p state/networks/lab state/networks/bridge.br0
touch state/networks/lab/network.json state/networks/bridge.br0/network.json
expect 'lab' vm-run --state-dir "$dir/state" network show ''
expect 'auto user none lab' vm-run --state-dir "$dir/state" run --network ''

[[ $n_failed == 0 ]] && echo "all as expected"
exit $((n_failed > 0))
