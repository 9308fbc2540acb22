"""Who reaches whom, as tests/guest/tiny/peer.c: netpeer.py serve PORT | netpeer.py tcp|udp HOST PORT [TEXT].

Asking prints the first line of the answer; status 1: there is none within LIMIT_S.
"""
import select
import socket
import sys

LIMIT_S = 3


def _describe(peer):
    return f"{peer[0].removeprefix('::ffff:')} {peer[1]} outside"


def serve(port):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.bind(("::", port))
    while True:
        ready, _, _ = select.select([listener, datagrams], [], [])
        if listener in ready:
            connection, peer = listener.accept()
            with connection:
                connection.sendall(f"tcp {_describe(peer)}\n".encode())
        if datagrams in ready:
            data, peer = datagrams.recvfrom(1500)
            datagrams.sendto(f"udp {_describe(peer)} ".encode() + data, peer)


def ask(proto, host, port, text="hello"):
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    family, _, _, _, address = socket.getaddrinfo(host, int(port), type=kind)[0]
    with socket.socket(family, kind) as sock:
        sock.settimeout(LIMIT_S)
        sock.connect(address)
        if proto == "udp":
            sock.send(text.encode())
        line = sock.recv(1500).decode().split("\n")[0]
    if not line:
        raise OSError("closed without an answer")
    return line


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    try:
        print(ask(*sys.argv[1:]))
    except OSError as problem:
        sys.exit(f"netpeer: {problem}")
