"""Benchmarks of a machine's network: bridge, tap, addresses, filter and four port maps, in a network namespace of their own
(run puts us there). Ours is a cold process (bench-net), the peers are scripts of the commands that people use."""
import os
import subprocess
import time

from harness import BUILD, CannotRun, Run, folder, need_program, pairs, result, run_program, time_command

BRIDGE, TAP, MAC, IP4, IP6 = "vmbpeer", "vmtpeer", "52:54:00:00:00:02", "10.98.0.2", "fd00:98::2"
PORTS = [(30000 + i, 80 + i) for i in range(4)]
SETTLE_S = 0.05  # the kernel takes links away in the background

LINKS = f"""
ip link add {BRIDGE} address 52:54:00:00:00:01 type bridge mcast_snooping 0
ip link property add dev {BRIDGE} altname peer-bridge
ip address add 10.98.0.1/20 dev {BRIDGE}
ip address add fd00:98::1/64 dev {BRIDGE} nodad
ip link set {BRIDGE} up
ip -6 route add local ::1 dev {BRIDGE} table local metric 77
echo 1 > /proc/sys/net/ipv4/conf/{BRIDGE}/forwarding
echo 1 > /proc/sys/net/ipv4/conf/{BRIDGE}/route_localnet
ip tuntap add {TAP} mode tap user 0
ip link property add dev {TAP} altname peer-tap
ip link set {TAP} master {BRIDGE}
bridge link set dev {TAP} hairpin on guard on
"""
UP = f"ip link set {TAP} up\n"

# The same maps and sets that ours has, prepared beforehand as ours are; one command a table.
NFT_BASE = """
table inet peer {
 map pm4any { type inet_proto . inet_service : ipv4_addr . inet_service; }
 set bridges { type ifname; }
 set nat4 { type ipv4_addr; flags interval; }
 chain pre { type nat hook prerouting priority dstnat; fib daddr type local dnat ip to meta l4proto . th dport map @pm4any; }
 chain post { type nat hook postrouting priority srcnat; oifname != @bridges ip saddr @nat4 masquerade; }
}
table bridge peer {
 set taps { type ifname; }
 set m { type ifname . ether_addr; }
 set a4 { type ifname . ether_addr . ipv4_addr; }
 set a6 { type ifname . ether_addr . ipv6_addr; }
 chain pre { type filter hook prerouting priority -300; iifname @taps iifname . ether saddr != @m drop; iifname "vmt*" drop; }
}
"""
NFT = (f"nft 'add element inet peer bridges {{ {BRIDGE} }}; add element inet peer nat4 {{ 10.98.0.0/20 }}; "
       f"add element bridge peer m {{ {TAP} . {MAC} }}; add element bridge peer a4 {{ {TAP} . {MAC} . {IP4} }}; "
       f"add element bridge peer a6 {{ {TAP} . {MAC} . {IP6} }}; add element bridge peer taps {{ {TAP} }}'\n"
       + "".join(f"nft 'add element inet peer pm4any {{ tcp . {host} : {IP4} . {guest} }}'\n" for host, guest in PORTS))
NFT_UNDO = "nft 'flush map inet peer pm4any; flush set inet peer bridges; flush set inet peer nat4; flush set bridge peer taps; " \
           "flush set bridge peer m; flush set bridge peer a4; flush set bridge peer a6'\n"


def _rule(table, chain, rest):
    """What idempotent scripts do: look, then add."""
    return f"iptables -t {table} -C {chain} {rest} 2>/dev/null || iptables -t {table} -A {chain} {rest}\n"


IPTABLES = _rule("nat", "POSTROUTING", f"-s 10.98.0.0/20 ! -o {BRIDGE} -j MASQUERADE") + "".join(
    _rule("filter", "FORWARD", f"-m physdev --physdev-in {TAP} {spoof} -j DROP") for spoof in (f"-m mac ! --mac-source {MAC}", f"! -s {IP4}")) + "".join(
    _rule("nat", "PREROUTING", f"-p tcp --dport {host} -m addrtype --dst-type LOCAL -j DNAT --to-destination {IP4}:{guest}")
    + _rule("nat", "OUTPUT", f"-p tcp --dport {host} -m addrtype --dst-type LOCAL -j DNAT --to-destination {IP4}:{guest}")
    + _rule("filter", "FORWARD", f"-d {IP4} -p tcp --dport {guest} -j ACCEPT") for host, guest in PORTS)
IPTABLES_UNDO = "iptables -t nat -F; iptables -t filter -F FORWARD\n"


def _script(place, name, text):
    path = os.path.join(place, name)
    with open(path, "w") as file:
        file.write("set -e\n" + text)
    return path


def _run(argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotRun(f"{argv[0]}: {done.stderr.strip()}")


def _begin():
    """The namespace as a host has it: loopback up, base rules there."""
    for program in ("ip", "bridge", "nft", "iptables"):
        need_program(program)
    _run(["ip", "link", "set", "lo", "up"])
    _run([os.path.join(BUILD, "bench-net"), "base"])


def _compare(name, n, quiet, peer_text, undo_text, shown, goal):
    _begin()
    ours = os.path.join(BUILD, "bench-net")
    with folder() as place:
        peer = _script(place, "peer.sh", LINKS + peer_text + UP)
        undo = _script(place, "undo.sh", f"ip link del {TAP}\nip link del {BRIDGE}\n" + undo_text)

        def time_ours():
            run = time_command([ours, "add", "1"])
            _run([ours, "remove", "1"])
            _run([ours, "base"])  # which went with the last machine; the peer's stays too
            time.sleep(SETTLE_S)
            return run

        def time_peer():
            run = time_command(["sh", peer])
            _run(["sh", undo])
            time.sleep(SETTLE_S)
            return run

        measured = pairs(n or 20, time_ours, time_peer, quiet)
    made = result(name, measured, "bench-net add 1: a cold process makes bridge, tap, addresses, filter and 4 port maps", shown, goal)
    if name == "net":
        made["goal"] += ", ours < 5 ms"
        made["is_met"] = made["is_met"] and made["ours_ms"] < 5
    yield made


def net(n, quiet):
    _run(["nft", NFT_BASE])
    yield from _compare("net", n, quiet, NFT, NFT_UNDO, "the same with ip, bridge and nft, one sh script", 10)


def net_iptables(n, quiet):
    yield from _compare("net-iptables", n, quiet, IPTABLES, IPTABLES_UNDO, "ip, bridge and iptables (-C || -A), one sh script", 20)


def net_growth(n, quiet):
    _begin()
    quiet.wait()
    line = run_program("bench-net", "grow", n or 1000)
    made = result("net-growth", [(Run(line["last_ms"]), Run(line["first_ms"]))],
                  f"machine {line['n']} on one bridge, in-process (bench-net grow; median of the last ten)",
                  "machine 1 of the same, which also makes the bridge", 1, early_ms=line["early_ms"])
    made["ratio"] = round(line["last_ms"] / line["first_ms"], 3)
    made["goal"] = "last / first <= 1.5"
    made["is_met"] = made["ratio"] <= 1.5
    made["n"] = line["n"]
    yield made
