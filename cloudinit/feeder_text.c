#include "cloudinit/feeder.h"

/*
 * How it works: the boothook leaves at once when the host gave no port. Else it writes two small
 * scripts to /run (noexec there, so they run by /bin/sh) and starts them in units of their own,
 * outside of cloud-init's.
 * - vm-run-feed reads a FIFO into which tail follows cloud-init's log, from where this boot began
 * in it (the log goes on over reboots). It alone opens the port.
 * - vm-run-ssh is ordered after ssh's units, so it runs when they are up, and puts one word into
 * the FIFO (opened for reading and writing, so that this can't block when the feeder has ended).
 * Without systemd the feeder runs in a session of its own and looks at the listening sockets at the
 * end.
 */
static const char text[] =
    "#cloud-boothook\n"
    "#!/bin/sh\n"
    "# Tells the host how this boot goes. Harmless without the host's port.\n"
    "[ -e /dev/virtio-ports/" SEED_STATUS_PORT " ] || exit 0\n"
    "cat >/run/vm-run-feed <<'VM_RUN_END'\n"
    "exec >/dev/virtio-ports/" SEED_STATUS_PORT " 2>/dev/null </dev/null\n"
    "log=/var/log/cloud-init.log\n"
    "result=/run/cloud-init/result.json\n"
    "has_ssh=\n"
    "up() { read -r u _ </proc/uptime; }\n"
    "ssh_is_up() {\n"
    "    [ -z \"$has_ssh\" ] || return 0\n"
    "    has_ssh=1\n"
    "    up\n"
    "    echo \"ssh $u\"\n"
    "}\n"
    "ssh_look() {\n"
    "    if [ -d /run/systemd/system ]; then\n"
    "        for unit in ssh.service sshd.service ssh.socket sshd.socket; do\n"
    "            systemctl is-active -q \"$unit\" && ssh_is_up\n"
    "        done\n"
    "    elif grep -q ':0016 [0-9A-F]*:0000 0A' /proc/net/tcp /proc/net/tcp6; then\n"
    "        ssh_is_up\n"
    "    fi\n"
    "}\n"
    "finish() {\n"
    "    ssh_look\n"
    "    status=unknown\n"
    "    if [ -r \"$result\" ]; then\n"
    "        json=$(tr -s '\\n\\t ' '   ' <\"$result\")\n"
    "        printf 'result %.4000s\\n' \"$json\"\n"
    "        case $json in\n"
    "        *'\"errors\": []'*) status=done ;;\n"
    "        *) status=error ;;\n"
    "        esac\n"
    "        case $status$json in\n"
    "        done*'\"recoverable_errors\": {}'*) ;;\n"
    "        done*'\"recoverable_errors\": '*) status=degraded ;;\n"
    "        esac\n"
    "    fi\n"
    "    up\n"
    "    echo \"done $u $status\"\n"
    "    rm -f /run/vm-run-feed.fifo\n"
    "    kill 0\n"
    "}\n"
    "up\n"
    "echo \"hello $u\"\n"
    "n=$(grep -n \"running 'init-local'\" \"$log\" | tail -n 1 | cut -d: -f1)\n"
    "exec 3<>/run/vm-run-feed.fifo\n"
    "tail -n +\"${n:-1}\" -F \"$log\" >&3 &\n"
    "while IFS= read -r line <&3; do\n"
    "    case $line in *@vm-run-ssh) ssh_look; continue ;; esac\n"
    "    case $line in\n"
    "    *' start: '* | *' finish: '* | *WARNING* | *ERROR* | *CRITICAL*)\n"
    "        up\n"
    "        printf '%.1000s\\n' \"$u $line\"\n"
    "        ;;\n"
    "    esac\n"
    "    case $line in *' finish: modules-final: '*) finish ;; esac\n"
    "done\n"
    "VM_RUN_END\n"
    "rm -f /run/vm-run-feed.fifo\n"
    "mkfifo -m 600 /run/vm-run-feed.fifo\n"
    "if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then\n"
    "    systemd-run -q --no-block --collect --unit=vm-run-feed -p DefaultDependencies=no \\\n"
    "        /bin/sh /run/vm-run-feed </dev/null >/dev/null 2>&1\n"
    "    systemd-run -q --no-block --collect --unit=vm-run-ssh -p DefaultDependencies=no \\\n"
    "        -p After='ssh.service sshd.service ssh.socket sshd.socket' \\\n"
    "        /bin/sh -c 'exec 3<>/run/vm-run-feed.fifo; echo @vm-run-ssh >&3' \\\n"
    "        </dev/null >/dev/null 2>&1\n"
    "else\n"
    "    setsid sh /run/vm-run-feed </dev/null >/dev/null 2>&1 &\n"
    "fi\n"
    "exit 0\n";

const char *seed_feeder_text(void)
{
    return text;
}
