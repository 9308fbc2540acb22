#!/usr/bin/env python3
"""A guest that knows no cloud-init, on link LINK of this network namespace: asks for what dnsmasq gives.

    net_client.py LINK dhcp4|ra|dhcp6 [TIMEOUT]

Prints one line "key=value ..." of the answer, or "none" when there is none in time.
"""
import fcntl
import os
import socket
import struct
import sys
import time

ETH_ALL, ETH_IP = 3, 0x0800


def mac_of(link):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:  # /sys shows another namespace
        request = fcntl.ioctl(sock, 0x8927, struct.pack("16s24x", link.encode()))  # SIOCGIFHWADDR
    return request[18:24]


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# --- DHCPv4 ----------------------------------------------------------------------------------------

def dhcp4_frame(mac, xid, options):
    bootp = struct.pack(">BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, xid, 0, 0x8000, bytes(4), bytes(4),
                        bytes(4), bytes(4), mac, b"", b"") + b"\x63\x82\x53\x63" + options + b"\xff"
    udp = struct.pack(">HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return b"\xff" * 6 + mac + struct.pack(">H", ETH_IP) + head + udp


def dhcp4_options(bootp):
    found, at = {}, 240
    while at < len(bootp) and bootp[at] != 255:
        if bootp[at] == 0:
            at += 1
            continue
        found[bootp[at]] = bootp[at + 2:at + 2 + bootp[at + 1]]
        at += 2 + bootp[at + 1]
    return found


def dhcp4_wait(sock, xid, kind, end):
    while time.monotonic() < end:
        sock.settimeout(max(end - time.monotonic(), 0.01))
        try:
            frame = sock.recv(4096)
        except TimeoutError:
            return None, None
        if frame[12:14] != b"\x08\x00" or frame[23] != 17:
            continue
        udp = frame[14 + (frame[14] & 15) * 4:]
        if struct.unpack(">HH", udp[:4]) != (67, 68):
            continue
        bootp = udp[8:]
        options = dhcp4_options(bootp)
        if struct.unpack(">I", bootp[4:8])[0] == xid and options.get(53) == bytes([kind]):
            return bootp, options
    return None, None


def dhcp4(link, timeout):
    mac, xid = mac_of(link), int.from_bytes(os.urandom(4), "big")
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
    sock.bind((link, 0))
    wanted = bytes([55, 6, 1, 3, 6, 12, 15, 26])
    end = time.monotonic() + timeout
    offer = None
    while offer is None and time.monotonic() < end:
        sock.send(dhcp4_frame(mac, xid, bytes([53, 1, 1]) + wanted))
        offer, options = dhcp4_wait(sock, xid, 2, min(end, time.monotonic() + 1))
    if offer is None:
        return "none"
    request = bytes([53, 1, 3]) + bytes([50, 4]) + offer[16:20] + bytes([54, 4]) + options[54] + wanted
    sock.send(dhcp4_frame(mac, xid, request))
    ack, options = dhcp4_wait(sock, xid, 5, end)
    if ack is None:
        return "none"
    address = lambda code: socket.inet_ntoa(options[code][:4]) if len(options.get(code, b"")) >= 4 else ""
    text = lambda code: options.get(code, b"").rstrip(b"\0").decode()
    mtu = int.from_bytes(options.get(26, b""), "big")
    return (f"ip={socket.inet_ntoa(ack[16:20])} mask={address(1)} router={address(3)} dns={address(6)} "
            f"host={text(12)} domain={text(15)} mtu={mtu}")


# --- router advertisements -------------------------------------------------------------------------

def ra(link, timeout):
    index = socket.if_nametoindex(link)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    end = time.monotonic() + timeout
    asked = 0
    while time.monotonic() < end:
        if time.monotonic() - asked > 1:
            asked = time.monotonic()
            try:
                sock.sendto(struct.pack(">BBHI", 133, 0, 0, 0), ("ff02::2", 0, 0, index))
            except OSError:  # no link-local address yet
                asked = 0
                time.sleep(0.05)
                continue
        sock.settimeout(0.3)
        try:
            data = sock.recv(2048)
        except TimeoutError:
            continue
        if data[0] != 134:
            continue
        lifetime, at, prefix, flags, mtu = struct.unpack(">H", data[6:8])[0], 16, "", 0, 0
        while at + 8 <= len(data):
            kind, n = data[at], data[at + 1] * 8
            if kind == 3:
                prefix = f"{socket.inet_ntop(socket.AF_INET6, data[at + 16:at + 32])}/{data[at + 2]}"
                flags = data[at + 3]
            if kind == 5:
                mtu = struct.unpack(">I", data[at + 4:at + 8])[0]
            at += n
        return (f"managed={data[5] >> 7} router={int(lifetime > 0)} prefix={prefix} "
                f"auto={flags >> 6 & 1} mtu={mtu}")
    return "none"


# --- DHCPv6 ----------------------------------------------------------------------------------------

def option6(code, data):
    return struct.pack(">HH", code, len(data)) + data


def options6(data):
    found, at = {}, 0
    while at + 4 <= len(data):
        code, n = struct.unpack(">HH", data[at:at + 4])
        found[code] = data[at + 4:at + 4 + n]
        at += 4 + n
    return found


def dhcp6(link, timeout):
    index = socket.if_nametoindex(link)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode() + b"\0")
    end = time.monotonic() + timeout
    while True:
        try:
            sock.bind(("::", 546, 0, index))
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    duid = struct.pack(">HH", 4, 1) + os.urandom(16)  # each time another client, as a machine made anew is
    ia = option6(3, struct.pack(">III", 1, 0, 0))
    common = option6(1, duid) + option6(8, b"\0\0") + option6(6, struct.pack(">HH", 23, 24))

    def ask(kind, more, answer):
        xid = os.urandom(3)
        sent = 0
        while time.monotonic() < end:
            if time.monotonic() - sent > 1:
                sent = time.monotonic()
                try:
                    sock.sendto(bytes([kind]) + xid + common + more, ("ff02::1:2", 547, 0, index))
                except OSError:  # no link-local address yet
                    sent = 0
                    time.sleep(0.05)
                    continue
            sock.settimeout(0.3)
            try:
                data = sock.recv(2048)
            except TimeoutError:
                continue
            if data[1:4] == xid and data[0] == answer:
                return options6(data[4:])
        return None

    advert = ask(1, ia, 2)
    if advert is None or 3 not in advert:
        return "none"
    reply = ask(3, option6(2, advert[2]) + option6(3, advert[3]), 7)
    if reply is None or 3 not in reply or 5 not in options6(reply[3][12:]):
        return "none"
    address = socket.inet_ntop(socket.AF_INET6, options6(reply[3][12:])[5][:16])
    dns = socket.inet_ntop(socket.AF_INET6, reply[23][:16]) if 23 in reply else ""
    return f"ip={address} dns={dns}"


if __name__ == "__main__":
    limit = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    print({"dhcp4": dhcp4, "ra": ra, "dhcp6": dhcp6}[sys.argv[2]](sys.argv[1], limit))
