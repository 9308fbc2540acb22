"""What is there on this host that a machine could have left behind: taken before and after, compared.

Counted: files below the given folders (mode, owner, size), processes that name them, network links with their altnames,
nftables rules, mounts, cgroups, sockets' folders, advisory locks on files below the folders.
"""
import base64
import hashlib
import json
import os
import subprocess

LINK_PREFIXES = ("vmb", "vmi", "vmm", "vmt")  # bridges, ifbs, macvtaps, taps of ours


def _store_id(state_dir):
    """As driver/ident.c: 8 base32 characters of SHA-256(state dir)."""
    digest = hashlib.sha256(os.path.realpath(state_dir).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:8]


def _files(root, skip):
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if os.path.join(folder, d) not in skip]
        for name in folders + names:
            path = os.path.join(folder, name)
            if path in skip:
                continue
            try:
                st = os.lstat(path)
            except FileNotFoundError:
                continue
            size = 0 if os.path.isdir(path) else st.st_size
            found[path] = "%o %d:%d %d" % (st.st_mode, st.st_uid, st.st_gid, size)
    return found


def _processes(marks):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                text = file.read().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if any(mark in text for mark in marks) and "/tests/" not in text.split(" ")[0]:
            found.append(text.strip())
    return sorted(found)


def _command(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout
    except FileNotFoundError:
        return ""


def _links():
    try:
        links = json.loads(_command("ip", "-j", "link", "show") or "[]")
    except json.JSONDecodeError:
        return []
    ours = [link for link in links if link["ifname"].startswith(LINK_PREFIXES) or "vm-run:" in " ".join(link.get("altnames", []))]
    return sorted((link["ifname"], link.get("master", ""), tuple(link.get("altnames", []))) for link in ours)


def _locks(roots):
    inodes = {}
    for root in roots:
        for path in _files(root, set()):
            inodes[str(os.lstat(path).st_ino)] = path
    found = []
    with open("/proc/locks") as file:
        for line in file:
            inode = line.split()[5].split(":")[2] if line.split()[1] == "FLOCK" else None
            if inode in inodes:
                found.append(inodes[inode])
    return sorted(found)


def _cgroups(machines):
    found = []
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(folder, d) for d in folders if any(m in d for m in machines)]
    return sorted(found)


def take(roots, machines, skip=()):
    """roots: folders of ours; machines: their names; skip: paths below roots that may change (caches).

    Other tests may run beside this one: what can't be told to be ours by folder, name or mark is not counted.
    """
    skip = set(skip)
    stores = [_store_id(os.path.join(root, "state")) for root in roots] + [_store_id(root) for root in roots]
    census = {"processes": _processes(roots + [f"/run/vm-run/{store}." for store in stores]), "links": _links(),
              "nft": _command("nft", "list", "ruleset"), "mounts": sorted(line.split()[1] for line in open("/proc/mounts")),
              "cgroups": _cgroups(machines), "locks": _locks(roots), "files": {}}
    for root in roots:
        census["files"].update(_files(root, skip))
    for path, what in _files("/run/vm-run", set()).items():
        if any(f"/{store}." in path for store in stores):
            census["files"][path] = what
    return census


def difference(before, after):
    """Lines, empty when nothing differs."""
    lines = []
    for key in before:
        if before[key] == after[key]:
            continue
        if isinstance(before[key], dict):
            for path in sorted(set(before[key]) | set(after[key])):
                if before[key].get(path) != after[key].get(path):
                    lines.append(f"{key}: {path}: {before[key].get(path)} -> {after[key].get(path)}")
        else:
            lines.append(f"{key}: {before[key]} -> {after[key]}")
    return lines
