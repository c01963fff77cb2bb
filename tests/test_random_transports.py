"""Random scripts on a connection, on asyncio and on ferrio: what the protocol is told, in order, and the bytes."""

import asyncio
import contextlib
import os
import socket
import time

import pytest
from hypothesis import given, settings, strategies as st
from support.case import describe
from support.peers import reset, shrink, tcp_pair
from support.traces import property_test

SMALL = 300
#: More than the kernel takes on both sides together, so that it is certain to wait in the transport.
LARGE = 600_000


@contextlib.contextmanager
def unix_pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


PAIRS = {"tcp": tcp_pair, "unix": unix_pair}


class Told(asyncio.Protocol):
    """Records what it is told. How data is cut is the loop's business: pieces that follow each other are one event."""

    def __init__(self, case, keeps_open):
        self.case = case
        self.keeps_open = keeps_open
        self.lost = False
        self.ended = False
        self.count = 0

    def connection_made(self, transport):
        self.case("connection_made")

    def data_received(self, data):
        self.count += len(data)
        events = self.case.events
        if events[-1][0] == "data":
            data = events.pop()[1] + data
        self.case("data", data)

    def eof_received(self):
        self.ended = True
        self.case("eof_received")
        return self.keeps_open

    def pause_writing(self):
        self.case("pause_writing")

    def resume_writing(self):
        self.case("resume_writing")

    def connection_lost(self, exc):
        self.lost = True
        self.case("connection_lost", type(exc).__name__)


class Script:
    """One run of a script: the transport on one side, a socket in the test's hand on the other."""

    def __init__(self, case, transport, protocol, theirs):
        self.case = case
        self.protocol = protocol
        self.sent = 0
        self.transport = transport
        self.theirs = theirs
        self.written = 0
        self.received = bytearray()
        self.is_torn = False
        """Whether bytes may have been lost on their way, as they are in a reset."""

    def bytes(self, size):
        """The next bytes that are written: no two places in the stream look alike."""
        begin, self.written = self.written, self.written + size
        return b"".join(b"%07d," % number for number in range(begin // 8, (begin + size) // 8 + 1))[begin % 8 :][:size]

    def is_lost(self):
        """Whether what is written now goes nowhere: closed, and nothing waits to be sent before."""
        return self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def attempt(self, function, *arguments):
        written = self.written
        try:
            function(*arguments)
        except Exception as error:
            self.written = written
            self.case("raised", describe(error))

    def write(self, sizes):
        before, is_lost = self.written, self.is_lost()
        for size in sizes:
            self.attempt(lambda size=size: self.transport.write(self.bytes(size)))
        if is_lost:
            self.written = before

    def writelines(self, sizes):
        before, is_lost = self.written, self.is_lost()
        self.attempt(lambda: self.transport.writelines([self.bytes(size) for size in sizes]))
        if is_lost:
            self.written = before

    def changed(self):
        """A mutable buffer that is changed once it was written."""
        before, is_lost = self.written, self.is_lost()

        def write_and_change():
            data = bytearray(self.bytes(SMALL))
            self.transport.write(data)
            # asyncio sends what it has become.
            if self.case.name == "ferrio":
                data[:] = bytes(len(data))

        self.attempt(write_and_change)
        if is_lost:
            self.written = before

    def write_eof(self):
        self.attempt(self.transport.write_eof)

    def close(self):
        self.transport.close()

    def abort(self):
        self.is_torn = True
        self.transport.abort()

    def pause(self):
        self.transport.pause_reading()

    def resume(self):
        # asyncio tells of the end again.
        if not self.protocol.ended:
            self.transport.resume_reading()

    def limits(self, high, low):
        self.attempt(lambda: self.transport.set_write_buffer_limits(high, low))
        self.case("limits", self.transport.get_write_buffer_limits())

    async def peer_sends(self, size):
        with contextlib.suppress(OSError):
            self.sent += self.theirs.send(b"x" * size)
        await self.noticed(lambda: self.protocol.count == self.sent)

    async def noticed(self, condition):
        """What the peer did has arrived, if we look for it: networks take their time."""
        deadline = time.monotonic() + 5
        while self.transport.is_reading() and not condition() and time.monotonic() < deadline:
            await asyncio.sleep(0)

    def peer_receives(self, size):
        with contextlib.suppress(OSError):
            self.received += self.theirs.recv(size)

    async def peer_ends(self):
        with contextlib.suppress(OSError):
            self.theirs.shutdown(socket.SHUT_WR)
            await self.noticed(lambda: self.protocol.ended)

    async def peer_resets(self):
        self.is_torn = True
        with contextlib.suppress(OSError):
            reset(self.theirs)
            # Who has seen the end does not look any more.
            await self.noticed(lambda: self.protocol.ended)

    async def step(self, name, *arguments):
        if name == "turns":
            await turns(*arguments)
        elif (going_on := getattr(self, name)(*arguments)) is not None:
            await going_on

    async def drain(self):
        """The peer receives until nothing waits on our side."""
        deadline = time.monotonic() + 10
        while self.transport.get_write_buffer_size() and time.monotonic() < deadline:
            self.peer_receives(1 << 16)
            await asyncio.sleep(0)

    def look(self):
        return self.transport.is_closing(), self.transport.is_reading(), self.transport.get_write_buffer_size() > 0


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def run(case, kind, keeps_open, script):
    loop = asyncio.get_running_loop()
    with PAIRS[kind]() as (ours, theirs):
        shrink(ours, theirs)
        transport, protocol = await loop.create_connection(lambda: Told(case, keeps_open), sock=ours)
        theirs.setblocking(False)
        run = Script(case, transport, protocol, theirs)
        for step in script:
            case("step", *step)
            await run.step(*step)
            # Whatever follows has followed before the next step.
            await turns(4)
            case("look", run.look())
        transport.close()
        while not protocol.lost:
            run.peer_receives(1 << 16)
            await asyncio.sleep(0)
        await turns(3)
        # To close a socket that has something to read is to reset the connection.
        run.is_torn |= protocol.count < run.sent
        with contextlib.suppress(OSError):
            theirs.settimeout(5)
            while chunk := theirs.recv(1 << 16):
                run.received += chunk
        run.written, total = 0, run.written
        expected = run.bytes(total)
        # What is lost in a reset is the network's business, but never something in the middle.
        assert expected.startswith(bytes(run.received)), "bytes are missing, twice there, or in the wrong order"
        case("received", None if run.is_torn else len(run.received), None if run.is_torn else total)


SIZES = st.sampled_from([0, 1, SMALL, SMALL, LARGE])

#: High and low marks. A producer goes on only when next to nothing waits: how much the kernel takes, it alone knows.
LIMITS = [(0, None), (1000, None), (1000, 500), (10 * LARGE, 0), (500, 1000), (None, 0)]

STEPS = st.one_of(
    st.tuples(st.just("write"), st.lists(SIZES, min_size=1, max_size=3)),
    st.tuples(st.just("writelines"), st.lists(SIZES, max_size=4)),
    st.tuples(st.just("changed")),
    st.sampled_from([("limits", *pair) for pair in LIMITS]),
    st.tuples(st.sampled_from(["pause", "resume", "pause", "resume", "drain", "drain"])),
    st.tuples(st.sampled_from(["write_eof", "close", "abort", "peer_ends", "peer_resets"])),
    st.tuples(st.just("peer_sends"), st.sampled_from([1, SMALL, 20_000])),
    st.tuples(st.just("peer_sends"), st.sampled_from([1, SMALL, 20_000])),
    st.tuples(st.just("peer_receives"), st.sampled_from([1, SMALL, 1 << 16])),
    st.tuples(st.just("turns"), st.sampled_from([1, 3])),
)


@pytest.mark.patience(300)
@pytest.mark.asyncio_since("3.14", "writelines that looks, and one end of a connection")
@settings(property_test, max_examples=int(os.environ.get("FERRIO_TRANSPORT_SCRIPTS", 150)))
@given(
    kind=st.sampled_from(sorted(PAIRS)),
    keeps_open=st.booleans(),
    script=st.lists(STEPS, min_size=1, max_size=14),
)
def test_scripts(parity, kind, keeps_open, script):
    async def body(case):
        await run(case, kind, keeps_open, script)

    parity(body)
