"""Connections with one end in a loop and the other in the test's hand, and protocols that record what they are told."""

import asyncio
import contextlib
import socket
import struct


@contextlib.contextmanager
def tcp_pair():
    """Two ends of a TCP connection: one for a loop, which closes it, and a blocking one for the test."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def reset(sock):
    """Closes a connection so that the other end gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def shrink(*socks):
    """Makes the kernel's buffers small, so that MUCH does not fit. Not smaller: a tiny window makes TCP slow."""
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)


MUCH = 1_000_000


def receive_all(sock):
    """Everything up to the end of the stream."""
    chunks = []
    while chunk := sock.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def receive_exactly(sock, size):
    """As many bytes, however they are cut."""
    data = bytearray()
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        assert chunk, f"the stream ended after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


class Failure(Exception):
    """What a protocol raises that fails."""


def fail(*args):
    raise Failure("in a protocol")


def nothing(*event):
    """Records nothing."""


class Recorder:
    """The part of every protocol that records its calls, and lets a coroutine wait for one.

    What a method is to do besides is in `on`, by its name.
    """

    def __init__(self, record=nothing, **on):
        self.record = record
        self.on = on
        self.transport = None
        self.calls = asyncio.Queue()

    def _called(self, name, *arguments):
        self.record(name, *arguments)
        self.calls.put_nowait(name)
        return self.on[name](self) if name in self.on else None

    async def until(self, name):
        """Returns once the method has been called, again if it was waited for before."""
        while await self.calls.get() != name:
            pass

    def connection_made(self, transport):
        self.transport = transport
        self._called("connection_made")


class Recording(Recorder, asyncio.Protocol):
    """Records every call, and keeps what it received."""

    def __init__(self, record=nothing, **on):
        super().__init__(record, **on)
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.data += data
        self._called("data_received", type(data).__name__, bytes(data[:20]))

    def eof_received(self):
        return self._called("eof_received")

    def pause_writing(self):
        self._called("pause_writing")

    def resume_writing(self):
        self._called("resume_writing")

    def connection_lost(self, exc):
        self.lost.set_result(exc)
        self._called("connection_lost", type(exc).__name__, str(exc))


class Accepted(Recording):
    """A server's protocol: the test gets it from a queue."""

    def __init__(self, record, made, **on):
        super().__init__(record, **on)
        self.made = made

    def connection_made(self, transport):
        super().connection_made(transport)
        self.made.put_nowait(self)


async def connect(sock, record, **on):
    """A transport and its recording protocol on `sock`."""
    loop = asyncio.get_running_loop()
    return await loop.create_connection(lambda: Recording(record, **on), sock=sock)


async def turns(count=5):
    """As many turns of the loop, in which whatever is ready by itself has run."""
    for _ in range(count):
        await asyncio.sleep(0)
