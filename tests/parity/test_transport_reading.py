"""TCP transports: what arrives, pauses, and protocols with buffers of their own."""

import array
import asyncio
import socket

import pytest
from support.peers import (
    Recording,
    connect,
    fail,
    tcp_pair,
    turns,
)

pytestmark = pytest.mark.every_door


def test_pausing_inside_data_received(parity):
    async def body(case):
        def record(*event):
            if event[0] != "data_received":  # how much comes at once is the kernel's choice
                case(*event)

        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, record, data_received=lambda p: p.transport.pause_reading())
            theirs.sendall(bytes(125_000))
            await protocol.until("data_received")
            first = len(protocol.data)
            theirs.sendall(b"more")
            await turns(10)
            case(len(protocol.data) == first, transport.is_reading())
            # No new event: what is left is in the kernel already.
            while len(protocol.data) < 125_004:
                transport.resume_reading()
                await protocol.until("data_received")
            case(bytes(protocol.data[-4:]))
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded == ["connection_made", (True, False), b"more", ("connection_lost", "NoneType", "None")]


def test_pausing_before_the_beginning(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"early")
            transport, protocol = await connect(ours, case, connection_made=lambda p: p.transport.pause_reading())
            await turns()
            case(transport.is_reading())
            transport.resume_reading()
            transport.resume_reading()
            await protocol.until("data_received")
            transport.pause_reading()
            transport.pause_reading()
            transport.close()
            transport.resume_reading()
            case(transport.is_reading())
            await protocol.lost

    parity(body)


def test_resuming_inside_connection_made(parity):
    async def body(case):
        def there_and_back(protocol):
            protocol.transport.pause_reading()
            protocol.transport.resume_reading()

        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"early")
            transport, protocol = await connect(ours, case, connection_made=there_and_back)
            await protocol.until("data_received")
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[:2] == ["connection_made", ("data_received", "bytes", b"early")]


def test_messages_of_all_sizes(loop, events):
    """Nothing is lost or doubled when the room for a read grows and shrinks."""
    sizes = [1, 70_000, 400_000, 3, 1_000_000, 20, 20, 20, 300_000, 1]

    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            send = asyncio.get_running_loop().run_in_executor
            sent = bytearray()
            for number, size in enumerate(sizes):
                message = bytes([number]) * size
                sent += message
                await send(None, theirs.sendall, message)
                while len(protocol.data) < len(sent):
                    await protocol.until("data_received")
            assert protocol.data == sent
            transport.close()
            await protocol.lost

    loop.run_until_complete(body())


class Buffered(asyncio.BufferedProtocol):
    """Gives a buffer of the size that it is told to."""

    def __init__(self, record, size=16, **on):
        self.record = record
        self.on = on
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.record("get_buffer", sizehint)
        if "get_buffer" in self.on:
            return self.on["get_buffer"](self)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.record("buffer_updated", nbytes)
        self.data += self.buffer[:nbytes]
        if "buffer_updated" in self.on:
            self.on["buffer_updated"](self)

    def eof_received(self):
        self.record("eof_received")

    def connection_lost(self, exc):
        self.record("connection_lost", type(exc).__name__)
        self.lost.set_result(exc)


def test_buffered_protocol(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(bytes(range(40)))
            theirs.shutdown(socket.SHUT_WR)
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_connection(lambda: Buffered(case), sock=ours)
            await protocol.lost
            case(bytes(protocol.data))

    recorded, _ = parity(body)
    assert recorded[-1] == bytes(range(40))
    assert recorded[:2] == [("get_buffer", -1), ("buffer_updated", 16)]


@pytest.mark.parametrize(
    "on",
    [
        pytest.param({"get_buffer": fail}, id="get_buffer"),
        pytest.param({"buffer_updated": fail}, id="buffer_updated"),
        pytest.param({"get_buffer": lambda p: bytearray()}, id="empty"),
    ],
)
def test_buffered_protocol_that_fails(parity, on):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello")
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_connection(lambda: Buffered(case, **on), sock=ours)
            case(type(await protocol.lost))

    parity(body)


def released():
    view = memoryview(bytearray(16))
    view.release()
    return view


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(lambda: b"constant", id="bytes"),
        pytest.param(lambda: "text", id="str"),
        pytest.param(lambda: None, id="None"),
        pytest.param(released, id="released"),
        pytest.param(lambda: memoryview(bytearray(16)).toreadonly(), id="read-only"),
        pytest.param(lambda: memoryview(bytearray(16))[::2], id="strided"),
        pytest.param(lambda: memoryview(bytearray(12)).cast("B", [3, 4]), id="two dimensions"),
        pytest.param(lambda: array.array("i", [0, 0]), id="array"),
        pytest.param(lambda: bytearray(1), id="one byte"),
    ],
)
def test_buffers_of_all_kinds(parity, buffer):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello, world")
            theirs.shutdown(socket.SHUT_WR)
            make = lambda: Buffered(case, get_buffer=lambda p: buffer())  # noqa: E731
            _, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
            case(type(await protocol.lost).__name__)

    parity(body)


@pytest.mark.ferrio_only("asyncio goes on with it")
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_connection_that_get_buffer_ends(loop, events, how):
    """Nothing is received any more."""

    def get_buffer(protocol):
        getattr(protocol.transport, how)()
        return bytearray(16)

    async def body():
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello")
            make = lambda: Buffered(lambda *event: events.append(event[0]), get_buffer=get_buffer)  # noqa: E731
            _, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
            await protocol.lost

    loop.run_until_complete(body())
    assert events == ["get_buffer", "connection_lost"]


@pytest.mark.ferrio_only("asyncio tells another protocol of the bytes")
def test_a_protocol_whose_get_buffer_puts_another_in_its_place(loop, events):
    """Who gave the buffer is told what is in it; what comes then is the other one's."""

    def get_buffer(protocol):
        protocol.transport.set_protocol(other)
        return bytearray(5)

    async def body():
        nonlocal other
        with tcp_pair() as (ours, theirs):
            other = Recording(lambda *event: events.append(event[0]))
            theirs.sendall(b"hello, world")
            theirs.shutdown(socket.SHUT_WR)
            make = lambda: Buffered(lambda *event: events.append(event[0]), get_buffer=get_buffer)  # noqa: E731
            await asyncio.get_running_loop().create_connection(make, sock=ours)
            await other.lost
            assert bytes(other.data) == b", world"

    other = None
    loop.run_until_complete(body())
    assert events == ["get_buffer", "buffer_updated", "data_received", "eof_received", "connection_lost"]


def test_changing_protocols(parity):
    """Also from inside data_received, to one of the other kind and back."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            buffered = Buffered(case, buffer_updated=lambda p: p.transport.set_protocol(first))
            first = Recording(case, data_received=lambda p: p.transport.set_protocol(buffered))
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: first, sock=ours)
            buffered.transport = transport
            for message in (b"one", b"two", b"three"):
                before = len(first.data) + len(buffered.data)
                theirs.sendall(message)
                while len(first.data) + len(buffered.data) == before:
                    await asyncio.sleep(0)
            transport.set_protocol(first)
            transport.close()
            await first.lost
            case(bytes(first.data), bytes(buffered.data), transport.get_protocol())

    recorded, _ = parity(body)
    assert recorded[-1] == (b"onethree", b"two", None)
