#!/usr/bin/env python3
"""What a machine's NICs become: the network nobody asked for, bridges of ours and of others, macvtaps,
several at once; what its record, domain, seed and the kernel say. No guest boots: its disk is empty.
"""
# TIMEOUT 600
import json
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
import netlab
from netlab import NetPlace, command, expect, ip, ip_json


class Bench(NetPlace):
    def __init__(self):
        super().__init__()
        netlab.set_sysctl("net.bridge.bridge-nf-call-ip6tables", "0")  # else ::1 gets no answer, which check says
        self.disk = os.path.join(self.root, "empty.raw")
        with open(self.disk, "wb") as file:
            file.truncate(16 << 20)

    def begin(self, name, *argv, status=0, env=None):
        done = self.run("run", self.disk, "--name", name, "--memory", "64MiB", "-d", "--wait", "started", "--json", *argv,
                        status=status, env=env)
        return json.loads(done.stdout) if status == 0 else done

    def check(self, *networks):
        for network in networks:
            done = self.run("network", "check", network)
            expect(done.returncode == 0, f"network check {network}: {done.stdout}{done.stderr}")

    def seed(self, name):
        """network-config of the seed, as the guest gets it."""
        path = os.path.join(self.state, "machines", name, "seed.iso")
        text = subprocess.run(["isoinfo", "-R", "-i", path, "-x", "/network-config"], capture_output=True, text=True).stdout
        return json.loads(text)["ethernets"]


def link(name):
    return ip_json("-d", "link", "show", name)[0]


def nobody_asked(lab):
    """Root's machines are on `default`, unless the environment names another."""
    del lab
    with Bench() as bench:
        refused = bench.begin("outside", "--network", "default,ip=203.0.113.7", status=None)
        expect(refused.returncode != 0 and "203.0.113.7" in refused.stderr, f"an address outside: {refused.stderr}")
        expect(os.listdir(os.path.join(bench.state, "networks")) == [], "what was refused made no network")
        view = bench.begin("web")
        nic = view["nics"][0]
        expect(nic["network"] == "default" and nic["kind"] == "managed", f"default: {nic}")
        expect(view["ssh"]["addr"] == nic["ip4"] and view["ssh"]["port"] == 22, f"known before it boots: {view['ssh']}")
        expect(link(nic["tap"])["master"] == nic["bridge"], "its tap is on the bridge")
        second = bench.begin("db")["nics"][0]
        expect(second["bridge"] == nic["bridge"] and second["ip4"] != nic["ip4"], "the second is its neighbour")
        expect(bench.begin("user", env={"VM_RUN_NETWORK": "user"})["nics"][0]["kind"] == "user", "VM_RUN_NETWORK=user")
        expect(bench.begin("none", env={"VM_RUN_NETWORK": "none"})["nics"] == [], "VM_RUN_NETWORK=none")
        refused = bench.begin("lab", env={"VM_RUN_NETWORK": "lab"}, status=None)
        expect(refused.returncode != 0 and "no network 'lab'" in refused.stderr, f"a name that is none: {refused.stderr}")
        bench.check("default")
        bench.run("stop", "--force", "web", status=0)
        bench.run("start", "web", "--wait", "started", status=0, env={"VM_RUN_NETWORK": "user"})
        again = bench.nic("web")
        expect((again["network"], again["ip4"], again["ip6"], again["mac"]) == ("default", nic["ip4"], nic["ip6"], nic["mac"]),
               f"a later start finds the same: {again}")


def bridges(lab):
    """`bridge=` is a managed network of that name, the network that has the bridge, or anybody's bridge."""
    del lab
    ip("link", "add", "br9", "type", "bridge")
    ip("link", "set", "br9", "up")
    ip("addr", "add", "192.0.2.1/24", "dev", "br9")
    with Bench() as bench:
        bench.run("network", "add", "lab", "--cidr", "10.77.0.0/24", "--cidr6", "none", status=0)
        ours = json.loads(bench.run("network", "show", "lab", "--json", status=0).stdout)["bridge"]
        for name, wish in (("by-name", "bridge=lab"), ("by-bridge", f"bridge={ours}")):
            nic = bench.begin(name, "--network", wish)["nics"][0]
            expect(nic["network"] == "lab" and nic["ip4"].startswith("10.77.0."), f"{wish}: {nic}")
        plain = bench.begin("plain", "--network", "bridge=br9")["nics"][0]
        expect(plain["network"] == "bridge.br9" and plain["ip4"] is None, f"another's bridge: {plain}")
        expect(link(plain["tap"])["master"] == "br9", "its tap is there")
        expect(netlab.get_sysctl("net.ipv4.conf.br9.route_localnet") == "0", "a bridge without ports is left alone")
        fixed = bench.begin("fixed", "--network", "bridge=br9,ip=192.0.2.50", "-p", "8085:80")
        expect(fixed["ssh"]["addr"] == "192.0.2.50" and fixed["forwards"][0]["host_port"] == 8085, f"with a fixed address: {fixed}")
        expect(netlab.get_sysctl("net.ipv4.conf.br9.route_localnet") == "1", "ports answer at loopback")
        taken = bench.begin("thief", "--network", "bridge=br9,ip=192.0.2.50", status=None)
        expect(taken.returncode != 0 and "fixed" in taken.stderr, f"an address that a neighbour has: {taken.stderr}")
        absent = bench.begin("lost", "--network", "bridge=br77", status=None)
        expect(absent.returncode != 0 and "br77" in absent.stderr, f"no such bridge: {absent.stderr}")
        expect("lost" not in bench.names() and "thief" not in bench.names(), "what was refused left no machine")
        bench.check("lab", "bridge.br9")
        for name in bench.names():
            bench.run("rm", "--force", name, status=0)
        expect(bench.run("network", "ls", "-q").stdout.split() == ["lab"], "a network that was added stays, another's bridge is forgotten")
        expect(link("br9")["linkinfo"]["info_kind"] == "bridge", "and still there")
        bench.run("network", "rm", "lab", status=0)
        expect(not [x for x in ip_json("link", "show") if x["ifname"].startswith("vm")], "no link of ours is left")


def several(lab):
    """Networks of a file, a macvtap and limits: each NIC in its place, the way out where it was said."""
    del lab
    ip("link", "add", "port9", "type", "veth", "peer", "name", "switch9")
    ip("link", "set", "port9", "up")
    ip("link", "set", "switch9", "up")
    with Bench() as bench:
        spec = os.path.join(bench.root, "spec.yaml")
        with open(spec, "w") as file:
            file.write(f"""
version: 1
name: several
networks:
  back: {{mode: isolated, cidr: 10.9.0.0/24, cidr6: none}}
  front: {{mode: nat, cidr: 10.8.0.0/24, cidr6: "fd00:8::/64", domain: lab.test, mtu: 1400}}
vms:
  web:
    image: {bench.disk}
    memory: 64MiB
    cpus: 2
    networks:
      - {{network: back, ip: 10.9.0.20}}
      - {{network: front, default_route: true, queues: 2}}
      - {{macvtap: port9, mac: "52:54:00:12:34:56"}}
      - {{network: front, rate_in: 10Mbit, link: down}}
    ports: ["8080:80"]
""".replace("ip: 10.9.0.20}", "ip: 10.9.0.20, default_route: false}"))
        view = json.loads(bench.run("run", "-f", spec, "-d", "--wait", "started", "--json", status=0).stdout)
        nics = view["nics"]
        expect([n["network"] for n in nics] == ["back", "front", "macvtap", "front"], f"in order: {nics}")
        expect(nics[0]["ip4"] == "10.9.0.20" and nics[1]["ip4"] != nics[3]["ip4"], f"addresses: {nics}")
        expect(view["ssh"]["addr"] == nics[1]["ip4"], "ssh goes where answers leave")
        expect(link(nics[1]["tap"])["mtu"] == 1400, "the tap has the network's MTU")
        expect(link(nics[2]["tap"])["linkinfo"]["info_kind"] == "macvtap", "a macvtap")
        expect("UP" not in link(nics[3]["tap"])["flags"], "its cable is out")
        xml = bench.run("show", "web").stdout
        expect("(link down)" in xml and "10.8.0." in xml, f"show tells: {xml}")
        seed = bench.seed("web")
        expect("routes" not in seed["nic0"] and seed["nic1"]["routes"][0]["via"] == "10.8.0.1", f"one way out: {seed}")
        expect(seed["nic1"]["nameservers"]["search"] == ["lab.test"] and seed["nic1"]["mtu"] == 1400, f"seed: {seed}")
        expect(seed["nic2"] == {"match": {"macaddress": "52:54:00:12:34:56"}, "dhcp4": True}, f"asks there: {seed}")
        bench.check("front", "back")
        bench.run("rm", "--force", "web", status=0)
        expect(not [x for x in ip_json("link", "show") if x["ifname"].startswith("vm")], "no link of ours is left")
        expect(bench.run("network", "ls", "-q").stdout == "", "the networks went with their last machine")


def many_at_once(lab):
    """Machines that come at once get addresses of their own; one port has one winner, the others are told who."""
    del lab
    with Bench() as bench:
        bench.begin("warm")
        bench.run("rm", "--force", "warm", status=0)
        results = {}

        def begin(name, *argv):
            results[name] = bench.run("run", bench.disk, "--name", name, "--memory", "64MiB", "-d", "--wait", "started", *argv)
        threads = [threading.Thread(target=begin, args=(f"m{i}", "-p", "auto:80")) for i in range(6)]
        threads += [threading.Thread(target=begin, args=(f"p{i}", "-p", "8080:80")) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expect(all(results[f"m{i}"].returncode == 0 for i in range(6)), f"all start: {[r.stderr for r in results.values()]}")
        won = [n for n in results if n[0] == "p" and results[n].returncode == 0]
        expect(len(won) == 1, f"one has the port: {won}")
        lost = [results[n].stderr for n in results if n[0] == "p" and n not in won]
        expect(all(f"by machine '{won[0]}'" in text for text in lost), f"the others are told who: {lost}")
        views = [bench.show(n) for n in results if results[n].returncode == 0]
        expect(len({v["nics"][0]["ip4"] for v in views}) == 7, "addresses of their own")
        expect(len({v["forwards"][0]["host_port"] for v in views}) == 7, "ports of their own")
        expect(bench.run("gc", status=0).stdout == "", "nothing is left over")
        bench.check("default")


netlab.inside([nobody_asked, bridges, several, many_at_once])
