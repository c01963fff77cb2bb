"""Streams over connections: much at a time, which is received into what a read returns."""

import asyncio
import contextlib
import socket

import pytest
from support.case import outcome
from support.peers import Recording, reset, turns
from support.streams import stream
from support.traces import package

pytestmark = pytest.mark.every_door

LARGE = bytes(range(256)) * 1024

PIECE = 1 << 16


@contextlib.asynccontextmanager
async def large(aio, **keywords):
    """A stream that has received so much at a time that the next read() of a PIECE will receive by itself."""
    async with stream(aio, **keywords) as (reader, writer, theirs):
        for sock in (writer.get_extra_info("socket"), theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(LARGE))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * len(LARGE))
        theirs.sendall(LARGE)
        await read_pieces(reader, len(LARGE))
        yield reader, writer, theirs
        writer.transport.abort()


async def read_pieces(reader, count):
    data = bytearray()
    while len(data) < count:
        piece = await reader.read(PIECE)
        assert 0 < len(piece) <= PIECE
        data += piece
    return bytes(data)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_large_messages(parity, busy):
    async def flood():
        while True:
            await asyncio.sleep(0)

    async def body(case):
        flooding = asyncio.ensure_future(flood()) if busy else None
        async with large(package(case)) as (reader, _, theirs):
            for _ in range(20):
                reading = asyncio.ensure_future(read_pieces(reader, len(LARGE)))
                await turns(2)
                theirs.sendall(LARGE)
                case(await reading == LARGE)
        if flooding:
            flooding.cancel()

    parity(body)


@pytest.mark.parametrize("limit", [1024, PIECE])
@pytest.mark.parametrize("size", [5000, 20_000, PIECE, PIECE + 1, PIECE + 40_000, 2 * PIECE, 2 * PIECE + 1, len(LARGE)])
def test_what_comes_with_a_large_message(parity, size, limit):
    """It is received together with it, and read next. The transport pauses meanwhile, if it is too much."""

    async def body(case):
        async with large(package(case), limit=limit) as (reader, writer, theirs):
            for _ in range(3):
                reading = asyncio.ensure_future(reader.read(PIECE))
                await turns(2)
                theirs.sendall(LARGE[:size])
                data = await reading
                # How much has come by now is the kernel's business.
                case(len(reader._buffer) <= 2 * limit or not writer.transport.is_reading())
                data += await reader.read(PIECE) if size > PIECE else b""
                case(len(data), data + await read_pieces(reader, size - len(data)) == LARGE[:size])
            reading = asyncio.ensure_future(reader.read(PIECE))
            await turns(2)
            theirs.sendall(LARGE[:size])
            theirs.shutdown(socket.SHUT_WR)
            case(await reading + await reader.read() == LARGE[:size], reader.at_eof())

    parity(body)


@pytest.mark.parametrize("how", ["end of file", "reset", "data and end of file", "close"])
def test_the_end_in_the_place_of_a_large_message(parity, how):
    async def body(case):
        async with large(package(case)) as (reader, writer, theirs):
            reading = asyncio.ensure_future(reader.read(PIECE))
            await turns(2)
            if how == "reset":
                reset(theirs)
            elif how == "close":
                writer.close()
            else:
                theirs.sendall(b"xyz" if how.startswith("data") else b"")
                theirs.shutdown(socket.SHUT_WR)
            case(await outcome(reading), await outcome(reader.read(PIECE)), reader.at_eof())

    parity(body)


@pytest.mark.parametrize("wait", range(4))
def test_a_large_read_that_is_cancelled(parity, wait):
    """Whenever that is, nothing is lost."""

    async def body(case):
        async with large(package(case)) as (reader, _, theirs):
            reading = asyncio.ensure_future(reader.read(PIECE))
            await turns(2)
            theirs.sendall(LARGE[:PIECE])
            await turns(wait)
            reading.cancel()
            await asyncio.wait([reading])
            data = b"" if reading.cancelled() else reading.result()
            case(data + await read_pieces(reader, PIECE - len(data)) == LARGE[:PIECE])

    parity(body)


@pytest.mark.parametrize("what", ["pause", "protocol", "feed", "closed coroutine"])
def test_what_comes_between_a_large_message_and_its_reader(parity, what):
    async def body(case):
        async with large(package(case)) as (reader, writer, theirs):
            transport = writer.transport
            if what == "closed coroutine":
                coroutine = reader.read(PIECE)
                coroutine.send(None)
                coroutine.close()
            else:
                reading = asyncio.ensure_future(reader.read(PIECE))
                await turns(2)
            theirs.sendall(LARGE[:PIECE])
            if what == "pause":
                transport.pause_reading()
                await turns()
                case(reading.done())
                transport.resume_reading()
            elif what == "protocol":
                own, other = transport.get_protocol(), Recording(lambda *event: None)
                transport.set_protocol(other)
                while len(other.data) < PIECE:
                    await asyncio.sleep(0)
                case(reading.done(), bytes(other.data) == LARGE[:PIECE])
                transport.set_protocol(own)
                theirs.sendall(LARGE[:PIECE])
            elif what == "feed":
                reader.feed_data(b"first")
                case(await reading)
            data = b"" if what in ("feed", "closed coroutine") else await reading
            case(data + await read_pieces(reader, PIECE - len(data)) == LARGE[:PIECE])

    parity(body)
