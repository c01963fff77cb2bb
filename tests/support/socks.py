"""Sockets that the program owns, for `sock_*`."""

import contextlib
import socket


@contextlib.contextmanager
def connected(kind=socket.SOCK_STREAM):
    """Two connected sockets, non-blocking."""
    ours, theirs = socket.socketpair(type=kind)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@contextlib.contextmanager
def listening(**options):
    with socket.create_server(("127.0.0.1", 0), **options) as server:
        server.setblocking(False)
        yield server


@contextlib.contextmanager
def bound_udp():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock


@contextlib.contextmanager
def client():
    with socket.socket() as sock:
        sock.setblocking(False)
        yield sock


def fill(sock):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += sock.send(bytes(1 << 16))
    return count
