#!/usr/bin/env python3
"""The JSON Schema and the program agree.

The examples pass both. Every key of a machine and of a network is tried with values of every shape: what the program accepts the schema
accepts too, so that no editor complains about a good file (the reverse is not asked: some rules can't be said in a schema).
"""
import json
import os
import re
import subprocess
import sys
import tempfile

try:
    import jsonschema
    import yaml
except ImportError as error:
    print(f"skipped: {error}: install python3-jsonschema and python3-yaml")
    sys.exit(77)

SOURCE = os.environ["SOURCE_DIR"]
PROGRAM = os.path.join(os.environ["BUILD_DIR"], "vm-run")
EXAMPLES = os.path.join(SOURCE, "schemas", "examples")
VALUES = [
    True, 0, 7, 300, -1, 1.5, None, "", "a", "a b", "x\ny\n", "true", "64MiB", "20GiB", "512", "5m", "auto", "user", "8080:80",
    "Europe/Berlin", "0" * 64, [], ["a"], ["agent"], ["user"], ["bridge=br0"], ["8080:80"], ["auto:1-2/udp"], ["[::1]:1:1"],
    ["ssh", "boot"], ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], [7], [None], [[]], [{}], [{"size": "1GiB"}], [{"size": "1GiB", "name": "A"}], [{"source": "./x", "bus": "scsi"}],
    [{"path": "/x"}], [{"path": "/x", "content": "y", "encoding": "base64", "owner": "a:b", "permissions": "0600", "append": True}],
    [{"path": "x"}], [{"bridge": "br0", "mac": "52:54:00:00:00:01"}], [{"network": "user"}], [{"network": "lab"}],
    [{"xpath": "/x", "value": "y"}], {}, {"a": "b"}, {"a": 1}, {"a b": "c"}, {"a": []}, {"boot": "5m"}, {"boot": "5x"}, {"bot": "5m"},
    ["lab,ip=10.0.0.5", "macvtap=eth0,vepa", "bridge=br0,mac=52:54:00:00:00:01", "auto"], ["lab,x"], ["Lab"], ["bridge="],
    [{"network": "lab", "ip": "10.0.0.6", "ip6": "fd00::6", "default_route": True, "queues": 1, "rate_in": "20Mbit", "link": "down"}],
    [{"network": "lab", "rate_in": "20"}], [{"network": "lab", "queues": 257}], [{"macvtap": "eth0", "macvtap_mode": "passthrough"}],
    {"hermetic": True}, {"restricted": True, "default": "deny"}, {"default": "maybe"}, {"allow": "10.0.0.0/8"},
    {"default": "deny", "allow": ["10.0.0.0/8", "0.0.0.0/0:443/tcp", "[2001:db8::/32]:8000-8099/udp", "192.0.2.0/24/icmp"]},
    {"deny": ["2001:db8::/32", "10.0.0.1", "10.0.0.0/8:53"]}, {"deny": ["10.0.0.0/8/sctp"]}, {"deny": ["example.org"]},
    "20000-29999", "30000", "10.77.0.0/24", "10.78.0.1/24", "10.77.0.0/33", "fd77::/64", "none", "nat", "br0", "lab.test", "192.0.2.1",
    "10.0.0.10-10.0.0.20", ["192.0.2.53", "2001:db8::53"], 1500, 1280, 65536, 67,
    {"on_change": "ignore"}, {"schema": "off", "user_data": {"packages": ["a"]}}, {"user_data": []}, {"vars": {}},
]


def accepted_by_program(block, specs, scratch):
    """Networks are tried alone, since those of one file may not overlap."""
    if block == "vms" or len(specs) == 1:
        return accepted_in_one_file(block, specs, scratch)
    return [accepted_in_one_file(block, [spec], scratch)[0] for spec in specs]


def accepted_in_one_file(block, specs, scratch):
    """One file with a machine or network a line: those in whose line nothing is wrong."""
    path = os.path.join(scratch, "spec.yaml")
    with open(path, "w", encoding="utf-8") as file:
        lines = [f"  m{i}: {json.dumps(spec)}\n" for i, spec in enumerate(specs)]
        file.write(f"version: 1\nname: t\n{block}:\n" + "".join(lines))
        if block != "vms":
            file.write("vms: {web: {image: ./x}}\n")
    done = subprocess.run([PROGRAM, "check", path], capture_output=True, text=True, check=False)
    refused = set()
    for line in done.stderr.splitlines():
        if " error[" in line:
            place = re.match(r"[^ ]*spec\.yaml:(\d+):\d+: error", line)
            assert place, f"no place: {line}"
            refused.add(int(place.group(1)) - 4)
    assert bool(refused) == (done.returncode in (3, 5, 14)), (done.returncode, done.stderr)
    return [i not in refused for i in range(len(specs))]


def is_text_for_the_program(schema, value):
    """A plain number or boolean is a text where a text is wanted; the schema is stricter there on purpose."""
    is_number_in_list = isinstance(value, list) and any(isinstance(item, int) for item in value)
    return is_number_in_list or schema.get("type") == "string" and isinstance(value, (bool, int, float))


def check_examples(validator):
    n = 0
    for name in sorted(os.listdir(EXAMPLES)):
        if not name.endswith(".yaml"):
            continue
        path = os.path.join(EXAMPLES, name)
        with open(path, encoding="utf-8") as file:
            mistakes = [error.message for error in validator.iter_errors(yaml.safe_load(file))]
        done = subprocess.run([PROGRAM, "check", path], capture_output=True, text=True, check=False)
        assert not mistakes, (name, mistakes)
        assert done.returncode == 0 and "error" not in done.stderr, (name, done.stderr)
        n += 1
    assert n >= 5
    print(f"{n} examples pass both")


# What another key must stand beside.
BESIDE = {"gateway": {"mode": "bridge", "bridge": "br0", "cidr": "192.0.2.0/24"}, "dhcp_range": {"cidr": "10.0.0.0/24"}}
# What needs a file, a hash or another key's consent is not among the values.
NO_VALUE = ("password", "password_hash", "libvirt_xml", "gateway6")


def check_agreement(validator, block, needed, definition):
    n_both = n_neither = 0
    with tempfile.TemporaryDirectory() as scratch:
        for key, schema in definition["properties"].items():
            values = [v for v in VALUES + schema.get("enum", []) if not is_text_for_the_program(schema, v)]
            specs = [{**needed, **BESIDE.get(key, {}), key: value} for value in values]
            verdicts = accepted_by_program(block, specs, scratch)
            for spec, is_accepted in zip(specs, verdicts):
                is_valid = validator.is_valid({"version": 1, "name": "t", "vms": {"web": {"image": "x"}}, block: {"web": spec}})
                assert is_valid or not is_accepted, f"{spec}: the program accepts what the schema refuses"
                n_both += is_accepted
                n_neither += not is_accepted and not is_valid
            assert any(verdicts) or key in NO_VALUE, f"{key}: no value was right"
    assert n_neither > 1000, n_neither
    print(f"{block}: {n_both} values accepted by both, {n_neither} refused by both")


def main():
    if not os.path.exists(PROGRAM):
        print(f"skipped: {PROGRAM} is not there")
        return 77
    with open(os.path.join(SOURCE, "schemas", "spec-v1.schema.json"), encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    check_examples(validator)
    check_agreement(validator, "vms", {"image": "./x"}, schema["definitions"]["machine"])
    check_agreement(validator, "networks", {}, schema["definitions"]["network"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
