#!/usr/bin/env python3
"""A tiny guest on the bridge of a NAT network that libvirt has made: its address is reserved there, known before it boots, and given
back. Runs itself again beside a libvirtd of its own, in a network namespace of its own."""
# TIMEOUT 600
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "lib"))
from netlab import GUEST_PORT, NetPlace, ask, command
from vmrun import SOURCE, expect, main, wait_until

NETWORK = """<network><name>lv</name><forward mode='nat'/><bridge name='lvbr0'/><domain name='lv.test' localOnly='yes'/>
<ip address='192.168.144.1' netmask='255.255.255.0'><dhcp><range start='192.168.144.100' end='192.168.144.200'/></dhcp></ip></network>"""


def virsh(*argv):
    return command("virsh", "-q", "-c", "qemu:///system", *argv)


def a_guest_on_libvirts_network_inside():
    with NetPlace(connect="qemu:///system") as p:
        path = os.path.join(p.root, "network.xml")
        with open(path, "w") as file:
            file.write(NETWORK)
        virsh("net-define", path)
        virsh("net-start", "lv")
        before = virsh("net-dumpxml", "lv"), virsh("net-dumpxml", "--inactive", "lv")
        config = os.path.join(p.root, "dhcp.json")
        with open(config, "w") as file:
            file.write('{"version": 2, "ethernets": {"eth0": {"dhcp4": true}}}')
        p.start("web", "--network", "bridge=lvbr0", "--network-config", config, "-p", "8080:7")
        nic = p.nic("web")
        for state in ([], ["--inactive"]):
            xml = virsh("net-dumpxml", *state, "lv")
            expect(nic["ip4"] and f"ip='{nic['ip4']}'" in xml and nic["mac"] in xml, f"reserved {nic}: {xml}")
        p.wait_ready("web")
        wait_until(lambda: ask("tcp", nic["ip4"], GUEST_PORT), 20, "the guest has the address that was reserved")
        expect(ask("tcp", "192.168.144.1", 8080), "a port beside libvirt's own chains")
        p.run("ssh", "web", "--", "nslookup", "web.lv.test", "192.168.144.1", status=0)
        p.run("stop", "web", "--timeout", "0s", status=0)
        expect(nic["mac"] in virsh("net-dumpxml", "lv"), "a stopped machine keeps its address")
        p.run("rm", "web", status=0)
        after = virsh("net-dumpxml", "lv"), virsh("net-dumpxml", "--inactive", "lv")
        expect(after == before, f"the network is not as it was: {after}")
        virsh("net-destroy", "lv")
        virsh("net-undefine", "lv")


def a_guest_on_libvirts_network():
    done = subprocess.run([os.path.join(SOURCE, "tests", "lib", "private-libvirtd"), sys.executable, os.path.abspath(__file__),
                           "a_guest_on_libvirts_network_inside"], capture_output=True, text=True, timeout=500)
    if done.returncode == 77:
        print(done.stdout)
        sys.exit(77)
    expect(done.returncode == 0, done.stdout + done.stderr)


if sys.argv[1:] == ["a_guest_on_libvirts_network_inside"]:
    main([a_guest_on_libvirts_network_inside])
if os.geteuid() != 0:
    print("skipped: a libvirtd needs root")
    sys.exit(77)
main([a_guest_on_libvirts_network])
