"""Reads the texts of each record as cloud-init does and compares keys and values (test_hostile.c)."""
import base64
import email
import json
import sys

import yaml

FEEDER = None
# What cloud-init reads with is the loader in Python; the one in C is checked too, it is quicker.
LOADERS = [getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader]


def load(text, number):
    first = yaml.load(text, Loader=LOADERS[0])
    if number % 50 == 0:
        same(yaml.load(text, Loader=LOADERS[1]), first)
    return first


def same(got, expected):
    if got != expected or type(got) is not type(expected):
        raise AssertionError(f"got {got!r}\nexpected {expected!r}")


def script_config(payload):
    """The JSON between the lines of the here-document, and nothing else between them."""
    lines = payload.split(b"\n")
    start = lines.index(b"cat >\"$config\" <<'VM_RUN_END'")
    same(lines[start + 2], b"VM_RUN_END")
    same(lines.count(b"VM_RUN_END"), 1)
    return lines[start + 1]


def check(record, number):
    global FEEDER
    raw = [base64.b64decode(s) for s in record["strings"]]
    s = [b.decode("utf-8") if i != 12 else b for i, b in enumerate(raw)]

    meta = load(base64.b64decode(record["meta"]).decode("utf-8"), number)
    same(meta, {"instance-id": s[14], "local-hostname": s[0], "public-keys": [s[4]]})

    network = load(base64.b64decode(record["network"]).decode("utf-8"), number)
    same(network, {"version": 2, "ethernets": {"nic0": {
        "match": {"macaddress": s[16]}, "dhcp4": False, "addresses": [s[17]],
        "routes": [{"to": "0.0.0.0/0", "via": s[18]}], "nameservers": {"addresses": [s[19]]}}}})

    vendor = email.message_from_string(base64.b64decode(record["vendor"]).decode("utf-8"))
    parts = [p for p in vendor.walk() if p.get_content_maintype() != "multipart"]
    names = [p.get_filename() for p in parts]
    scripts = ["vm-20-files", "vm-30-packages", "vm-40-run-0000"]
    has_feeder = number % 20 == 1
    same(names, ["vm-config"] + ["vm-feeder"] * has_feeder + scripts)
    payloads = {p.get_filename(): p.get_payload(decode=True) for p in parts}

    config = load(payloads["vm-config"].decode("utf-8"), number)
    expected = {"user": {"name": s[1], "sudo": "ALL=(ALL) NOPASSWD:ALL"}, "timezone": s[2],
                "locale": s[3], "manage_etc_hosts": "localhost", "ca_certs": {"trusted": [s[13]]},
                "ssh_keys": {"ed25519_private": s[5], "ed25519_public": s[6]}}
    same(config, expected)

    if has_feeder:
        FEEDER = FEEDER or payloads["vm-feeder"]
        same(payloads["vm-feeder"], FEEDER)
    files = load(script_config(payloads["vm-20-files"]).decode("utf-8"), number)
    same(files, {"write_files": [{"path": s[8], "content": s[9], "owner": s[10],
                                  "permissions": s[11]}]})
    packages = load(script_config(payloads["vm-30-packages"]).decode("utf-8"), number)
    same(packages, {"packages": [s[7]], "package_update": True, "package_upgrade": False,
                    "package_reboot_if_required": False})
    same(payloads["vm-40-run-0000"].rstrip(b"\n"), (b"#!/bin/sh\n" + s[12]).rstrip(b"\n"))


def main():
    n = 0
    with open(sys.argv[1], encoding="ascii") as records:
        for n, line in enumerate(records, 1):
            try:
                check(json.loads(line), n)
            except Exception as why:
                print(f"machine {n}: {type(why).__name__}: {why}", file=sys.stderr)
                return 1
    print(n, "machines")
    return 0


sys.exit(main())
