"""Streams over connections: others in the place of the streams' protocol, reader or loop."""

import asyncio
import weakref

import pytest
from support.case import describe, outcome
from support.peers import MUCH, tcp_pair, turns
from support.streams import serve, stream
from support.traces import package

import ferrio

pytestmark = pytest.mark.every_door


def test_a_protocol_is_put_in_the_place_of_the_streams(parity):
    class Collecting(asyncio.Protocol):
        def __init__(self):
            self.data = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            self.data.set_result(data)

    async def body(case):
        async with stream(package(case)) as (reader, writer, theirs):
            theirs.sendall(b"for the reader")
            case(await reader.read(100))
            theirs.sendall(b"for the other")
            protocol, own = Collecting(), writer.transport.get_protocol()
            writer.transport.set_protocol(protocol)
            case(await protocol.data)
            writer.transport.set_protocol(own)
            theirs.sendall(b"for the reader again")
            case(await reader.read(100))

    parity(body)


@pytest.mark.parametrize("where", ["subclass", "object", "class"])
def test_another_data_received(parity, where, monkeypatch):
    """It is called with bytes, wherever it stands."""

    async def body(case):
        aio = package(case)

        def data_received(*args):
            case(type(args[-1]).__name__, args[-1])
            reader.feed_data(b"seen: " + args[-1])

        with tcp_pair() as (ours, theirs), monkeypatch.context() as patch:
            reader = aio.StreamReader()
            protocol = aio.StreamReaderProtocol(reader)
            if where == "subclass":
                protocol = type("P", (aio.StreamReaderProtocol,), {"data_received": data_received})(reader)
            elif where == "object":
                protocol.data_received = data_received
            else:
                patch.setattr(aio.StreamReaderProtocol, "data_received", data_received)
            transport, _ = await case.loop.create_connection(lambda: protocol, sock=ours)
            theirs.sendall(b"data")
            case(await reader.read(100))
            transport.close()
            await turns()

    parity(body)


def test_another_feed_data(parity):
    async def body(case):
        class Reader(package(case).StreamReader):
            def feed_data(self, data):
                case(type(data).__name__, data)
                super().feed_data(data.upper())

        with tcp_pair() as (ours, theirs):
            reader = Reader()
            protocol = package(case).StreamReaderProtocol(reader)
            transport, _ = await case.loop.create_connection(lambda: protocol, sock=ours)
            theirs.sendall(b"data")
            case(await reader.read(100))
            # The buffer is Python's too.
            buffer = reader._buffer
            theirs.sendall(b"more")
            case(await reader.readexactly(2), bytes(buffer))
            transport.close()
            await turns()

    parity(body)


def test_the_buffer_is_looked_at_while_data_comes(parity):
    async def body(case):
        async with stream(package(case)) as (reader, _, theirs):
            buffer = reader._buffer
            theirs.sendall(b"abc")
            case(await reader.readexactly(1), bytes(buffer))
            buffer.clear()
            theirs.sendall(b"def")
            case(await reader.read(100), bytes(buffer))

    parity(body)


def test_data_behind_what_has_woken_a_read(parity):
    """The read is driven by hand, and stays where it is."""

    async def body(case):
        for first in (b"ab", b"abcdefgh"):
            async with stream(package(case)) as (reader, _, theirs):
                reading = reader.read(6)
                reading.send(None)
                theirs.sendall(first)
                while f"{len(first)} bytes" not in repr(reader):
                    await turns()
                theirs.sendall(b"XYZ")
                while f"{len(first) + 3} bytes" not in repr(reader):
                    await turns()
                case(await outcome(reader.readexactly(len(first) + 3)))
                reading.close()

    parity(body)


def test_data_for_a_reader_that_has_ended(parity):
    """As for any exception of a protocol, the connection is closed."""

    async def body(case):
        async with stream(package(case)) as (reader, writer, theirs):
            reader.feed_eof()
            theirs.sendall(b"more")
            case(await outcome(writer.wait_closed()), describe(reader.exception()))

    _, errors = parity(body)
    assert errors == [
        ("Fatal error: protocol.data_received() call failed.", ("AssertionError", "feed_data after feed_eof"))
    ]


def test_data_for_a_reader_that_is_gone(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            reader = package(case).StreamReader()
            protocol = package(case).StreamReaderProtocol(reader)
            transport, _ = await case.loop.create_connection(lambda: protocol, sock=ours)
            theirs.sendall(b"for somebody")
            case(await reader.read(100))
            gone = weakref.ref(reader)
            del reader
            theirs.sendall(b"for nobody")
            await turns(10)
            case(transport.is_closing(), protocol._stream_reader, gone())
            transport.close()
            await turns()

    parity(body)


@pytest.mark.parametrize("ours", ["loop", "streams"])
def test_with_asyncios_other_half(ours):
    """ferrio's streams on asyncio's loop, and asyncio's streams on ferrio's."""

    async def body(aio):
        async def answer(reader, writer):
            async for line in reader:
                writer.write(line)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server, address = await serve(aio, answer, limit=MUCH)
        async with server:
            reader, writer = await aio.open_connection(*address)
            for size in (10, 100_000, 0):
                writer.write(b"x" * size + b"\n")
                await writer.drain()
                assert await reader.readexactly(size + 1) == b"x" * size + b"\n"
            assert isinstance(reader, asyncio.StreamReader)
            waiting = asyncio.ensure_future(reader.readline())
            await turns()
            waiting.cancel()
            await outcome(waiting)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    loop = ferrio.new_event_loop() if ours == "loop" else asyncio.new_event_loop()
    try:
        loop.run_until_complete(body(asyncio if ours == "loop" else ferrio))
    finally:
        loop.close()
