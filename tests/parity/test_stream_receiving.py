"""Streams over connections: much at a time, which is received into what a read returns."""

import asyncio
import contextlib
import socket

import pytest
from support.case import outcome
from support.peers import Recording, reset, turns
from support.streams import LARGE, PIECE, read_pieces, stream
from support.traces import package

pytestmark = pytest.mark.every_door


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


@pytest.mark.parametrize("limit", [1024, PIECE])
@pytest.mark.parametrize("behind", [0, 3, PIECE])
def test_an_exact_number_of_bytes(parity, behind, limit):
    """It is received where it is to stay, and what comes behind it is read next."""

    async def body(case):
        async with large(package(case), limit=limit) as (reader, _, theirs):
            for size in (PIECE // 2, PIECE, PIECE + 1, 3 * PIECE, len(LARGE)):
                for cut in (0, 1, 4, PIECE - 1, PIECE):
                    reading = asyncio.ensure_future(reader.readexactly(size))
                    await turns(2)
                    theirs.sendall(LARGE[:cut])
                    await turns(3)
                    theirs.sendall(LARGE[cut:size] + LARGE[:behind])
                    data = await reading
                    case(size, cut, data == LARGE[: max(size, cut)][:size])
                    extra = max(cut - size, 0) + behind
                    expected = LARGE[size:cut] + LARGE[:behind]
                    case(await read_pieces(reader, extra) == expected)

    parity(body)


@pytest.mark.parametrize("sent", [0, 5, PIECE + 5])
@pytest.mark.parametrize("what", ["cancel", "look", "feed", "eof", "reset", "exception", "pause", "closed", "another"])
def test_what_comes_between_the_pieces_of_an_exact_number(parity, what, sent):
    async def body(case):
        async with large(package(case)) as (reader, writer, theirs):
            size = 3 * PIECE
            coroutine = reader.readexactly(size)
            reading = asyncio.ensure_future(coroutine) if what != "closed" else None
            if what == "closed":
                coroutine.send(None)
            await turns(2)
            theirs.sendall(LARGE[:sent])
            await turns(4)
            if what in ("cancel", "another"):
                reading.cancel()
                case(await outcome(reading))
                if what == "another":
                    reading = asyncio.ensure_future(reader.readexactly(2 * PIECE))
                    await turns(2)
                    theirs.sendall(LARGE[sent : 2 * PIECE])
                    case(await reading == LARGE[: 2 * PIECE])
                    return
            elif what == "closed":
                coroutine.close()
            elif what == "look":
                case(LARGE.startswith(bytes(reader._buffer)))
            elif what == "feed":
                while len(reader._buffer) < sent:
                    await asyncio.sleep(0)
                reader.feed_data(LARGE[sent:size] + b"behind")
                case(await reading == LARGE[:size], await reader.readexactly(6))
                return
            elif what == "eof":
                theirs.shutdown(socket.SHUT_WR)
                with pytest.raises(asyncio.IncompleteReadError) as raised:
                    await reading
                case(raised.value.partial == LARGE[:sent], raised.value.expected, reader.at_eof())
                return
            elif what == "reset":
                reset(theirs)
                case(await outcome(reading), repr(reader.exception()))
                return
            elif what == "exception":
                reader.set_exception(ValueError("broken"))
                case(await outcome(reading), await outcome(reader.read(1)))
                return
            elif what == "pause":
                writer.transport.pause_reading()
                await turns(2)
                writer.transport.resume_reading()
            theirs.sendall(LARGE[sent:size])
            if what in ("cancel", "closed"):
                case(await reader.readexactly(7) == LARGE[:7], await reader.readexactly(size - 7) == LARGE[7:size])
            else:
                case(await reading == LARGE[:size])

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


@pytest.mark.parametrize("exact", [False, True], ids=["read", "readexactly"])
@pytest.mark.parametrize("what", ["close", "abort", "pause_reading"])
def test_a_large_message_that_came_before_the_end(parity, what, exact):
    """In the same turn: the timer's callback comes after the transport's."""

    async def body(case):
        async with large(package(case)) as (reader, writer, theirs):
            for _ in range(3):
                reading = asyncio.ensure_future(reader.readexactly(PIECE) if exact else reader.read(PIECE))
                await turns(2)
                theirs.sendall(LARGE[:PIECE])
                case(await reading == LARGE[:PIECE])
            reading = asyncio.ensure_future(reader.readexactly(PIECE) if exact else reader.read(PIECE))
            await turns(2)
            theirs.sendall(LARGE[:PIECE])
            asyncio.get_running_loop().call_later(0, getattr(writer.transport, what))
            case(await asyncio.wait_for(reading, 10) == LARGE[:PIECE])

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
