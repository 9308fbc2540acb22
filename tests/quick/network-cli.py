#!/usr/bin/env python3
"""vm-run network: made, looked at, checked, mended and removed, without a guest, in namespaces of the test's own.
# TIMEOUT 300
"""
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import netlab
import vmrun
from vmrun import Place, expect, wait_until

LAB = ["--cidr", "10.77.0.0/24", "--cidr6", "fd77::/64", "--domain", "lab.test"]
place = None


def network(*argv, status=0):
    return place.run("network", *argv, status=status)


def shown(name):
    return json.loads(network("show", name, "--json").stdout)


def links():
    return {link["ifname"] for link in netlab.ip_json("link")}


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ruleset():
    return netlab.command("nft", "list", "ruleset")


def removed(*names, status=0):
    network("rm", *names, status=status)


def made_and_seen():
    before = links()
    done = network("add", *LAB, "lab")
    expect(done.stdout == "lab\n" and "10.77.0.0/24" in done.stderr, f"add says {done}")
    lab = shown("lab")
    expect(lab["v"] == 1 and lab["cidr"] == "10.77.0.0/24" and lab["gateway"] == "10.77.0.1", lab)
    expect(lab["cidr6"] == "fd77::/64" and lab["domain"] == "lab.test" and lab["mode"] == "nat", lab)
    expect(lab["kept"] and lab["up"] and lab["ours"] and lab["dhcp"] and lab["dns"], lab)
    expect(links() - before == {lab["bridge"]}, f"links: {links() - before}")
    expect(lives(lab["supervisor_pid"]) and lives(lab["dnsmasq_pid"]), lab)
    expect(network("ls", "-q").stdout == "lab\n", "ls -q")
    listed = json.loads(network("ls", "--json").stdout)
    expect(listed == {"v": 1, "networks": [lab]}, listed)
    rows = network("ls").stdout.splitlines()
    expect(rows[0].split() == ["NAME", "MODE", "STATUS", "BRIDGE", "CIDR", "CIDR6", "RUNNING"], rows)
    expect(rows[1].split() == ["lab", "nat", "up", lab["bridge"], "10.77.0.0/24", "fd77::/64", "0", "of", "0"], rows)
    text = network("show", "lab").stdout
    expect("10.77.0.0/24, gateway 10.77.0.1" in text and "up, kept" in text, text)
    removed("lab")
    expect(links() == before, f"left: {links() - before}")
    wait_until(lambda: not lives(lab["supervisor_pid"]), 30, "the supervisor goes with its network")
    wait_until(lambda: not lives(lab["dnsmasq_pid"]), 30, "dnsmasq goes with its network")


def three_times_the_same():
    network("add", *LAB, "lab")
    first, rules = shown("lab"), ruleset()
    for _ in range(2):
        expect(network("add", *LAB, "lab").stdout == "lab\n", "again is success")
        expect(shown("lab") == first and ruleset() == rules, "nothing changes")
    removed("lab")
    expect(network("rm", "lab", status=5).stderr.count("\n") == 1, "an absent one is not found, in one line")


def refused_with_nothing_changed():
    network("add", *LAB, "lab")
    seen, rules = links(), ruleset()
    differs = network("add", "--cidr", "10.78.0.0/24", "--cidr6", "fd77::/64", "--domain", "lab.test", "lab", status=6).stderr
    expect("10.77.0.0/24" in differs and "10.78.0.0/24" in differs, differs)
    overlaps = network("add", "--cidr", "10.77.0.0/16", "other", status=3).stderr
    expect(overlaps.startswith("--cidr: error[E_NET]: ") and "'lab'" in overlaps, overlaps)
    routed = network("add", "--cidr", "198.51.100.128/25", "other", status=3).stderr
    expect("E_NET" in routed and "198.51.100.0/24" in routed, routed)
    absent = network("add", "--mode", "bridge", "--bridge", "nobridge0", "other", status=5).stderr
    expect("nobridge0" in absent, absent)
    expect("did you mean 'lab'" in network("show", "labb", status=5).stderr, "the nearest name")
    expect(links() == seen and ruleset() == rules and network("ls", "-q").stdout == "lab\n", "nothing has changed")
    removed("lab")


def a_free_prefix_is_chosen():
    network("add", "a")
    network("add", "b")
    a, b = shown("a"), shown("b")
    for lab in (a, b):
        expect(lab["cidr"].endswith("/24") and lab["cidr6"].startswith("fd") and lab["cidr6"].endswith("/64"), lab)
    expect(a["cidr"] != b["cidr"] and a["cidr6"] != b["cidr6"] and a["bridge"] != b["bridge"], f"{a} {b}")
    removed("a", "b")


def checked_and_mended():
    network("add", *LAB, "lab")
    bridge, supervisor = shown("lab")["bridge"], shown("lab")["supervisor_pid"]
    good = json.loads(network("check", "--json").stdout)
    expect(good == {"v": 1, "ok": True, "networks": [{"name": "lab", "differences": [], "fixed": []}]}, good)
    os.kill(supervisor, signal.SIGSTOP)  # it would be faster than the check
    netlab.ip("addr", "del", "10.77.0.1/24", "dev", bridge)
    lines = network("check", status=4).stdout
    expect(lines.startswith("lab: ") and "10.77.0.1" in lines, lines)
    bad = json.loads(network("check", "lab", "--json", status=4).stdout)
    expect(not bad["ok"] and bad["networks"][0]["differences"], bad)
    fixed = network("check", "--fix", "lab").stdout
    expect("(mended)" in fixed, fixed)
    os.kill(supervisor, signal.SIGCONT)
    expect(network("check", "--fix", "lab").stdout == "", "nothing to mend the second time")
    network("check")
    removed("lab")


def a_flush_is_mended_by_the_supervisor():
    network("add", *LAB, "lab")
    netlab.command("nft", "flush", "ruleset")
    wait_until(lambda: network("check", status=None).returncode == 0, 30, "the rules are back")
    removed("lab")


def what_is_foreign_stays():
    network("add", *LAB, "lab")
    bridge = shown("lab")["bridge"]
    netlab.ip("link", "add", "foreign0", "type", "veth", "peer", "name", "foreign1")
    netlab.ip("link", "set", "foreign0", "master", bridge)
    netlab.ip("addr", "add", "10.77.0.250/24", "dev", bridge)
    said = network("check", "--fix", status=4).stdout
    expect("'foreign0', which is not ours" in said and "10.77.0.250/24, added by somebody else" in said, said)
    netlab.ip("addr", "del", "10.77.0.250/24", "dev", bridge)
    expect("foreign0" in links(), "a foreign port is never removed")
    netlab.ip("link", "set", "foreign0", "nomaster")
    removed("lab")
    netlab.ip("link", "del", "foreign0")
    netlab.ip("link", "add", "br0", "type", "bridge")
    network("add", "--mode", "bridge", "--bridge", "br0", "--cidr", "192.0.2.0/24", "--gateway", "192.0.2.1", "office")
    office = shown("office")
    expect(office["bridge"] == "br0" and not office["ours"] and not office["dhcp"] and office["gateway"] == "192.0.2.1", office)
    removed("office")
    expect("br0" in links(), "a bridge of somebody else stays")
    netlab.ip("link", "del", "br0")


def drops_of_others_are_named():
    network("add", *LAB, "lab")
    netlab.command("nft", "add", "table", "ip", "foreign")
    netlab.command("nft", "add", "chain", "ip", "foreign", "gate", "{ type filter hook forward priority 0; policy drop; }")
    for lines in (network("check", status=4).stdout, network("check", "--fix", status=4).stdout, place.run("doctor").stdout):
        expect("table ip foreign, chain gate" in lines and shown("lab")["bridge"] in lines, lines)
    expect("chain gate" in netlab.command("nft", "list", "table", "ip", "foreign"), "it is never touched")
    netlab.command("nft", "delete", "table", "ip", "foreign")
    network("check")
    expect("no rule of another program drops" in place.run("doctor").stdout, "doctor sees it gone")
    removed("lab")


def from_a_file():
    path = os.path.join(place.root, "lab.yaml")
    with open(path, "w") as file:
        file.write("version: 1\nname: t\nnetworks:\n  lab: {cidr: 10.77.0.0/24, mode: isolated}\nvms: {w: {image: ./x}}\n")
    network("add", "-f", path, "lab")
    expect(shown("lab")["mode"] == "isolated" and shown("lab")["kept"], shown("lab"))
    expect("'other'" in network("add", "-f", path, "other", status=5).stderr, "no such network in the file")
    removed("lab")


def scenes():
    vmrun.main([made_and_seen, three_times_the_same, refused_with_nothing_changed, a_free_prefix_is_chosen, checked_and_mended,
                a_flush_is_mended_by_the_supervisor, what_is_foreign_stays, drops_of_others_are_named,
                from_a_file])


def main():
    global place
    if os.geteuid() != 0:
        print("skipped: networks need root")
        sys.exit(77)
    with netlab.Lab(), Place() as place:
        try:
            scenes()
        finally:
            removed(*network("ls", "-q", status=None).stdout.split() or ["-"], status=None)


if __name__ == "__main__":
    main()
