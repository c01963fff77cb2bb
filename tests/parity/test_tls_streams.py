"""Streams over TLS: large messages, of which a coroutine that waits fetches as much as it wants by itself."""

import asyncio
import contextlib
import socket
import ssl

import pytest
from support.case import outcome
from support.peers import Recording, reset, turns
from support.streams import LARGE, PIECE, read_pieces
from support.tls import Peer, client_context, server_context, versions
from support.traces import package

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.every_door]


@contextlib.asynccontextmanager
async def stream(aio, version=ssl.TLSVersion.TLSv1_3):
    """A server's reader and writer, and the peer, which has sent so much that the next read() of a PIECE fetches it."""
    made = asyncio.Queue()
    server = await aio.start_server(
        lambda *pair: made.put_nowait(pair), "127.0.0.1", 0, ssl=server_context(version=version)
    )
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(LARGE))
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        peer = Peer(sock, client_context())
        await peer.handshake()
        reader, writer = await made.get()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * len(LARGE))
        try:
            # Not more than is received at once: what is small again ends it.
            await peer.write(LARGE[: 2 * PIECE])
            await read_pieces(reader, 2 * PIECE)
            yield reader, writer, peer
        finally:
            writer.transport.abort()
            server.close()
            await turns()


@versions
@pytest.mark.parametrize("size", [PIECE, 40_000, 100_001, 1 << 20])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_large_messages(parity, version, size, busy):
    async def flood():
        while True:
            await asyncio.sleep(0)

    async def body(case):
        flooding = asyncio.ensure_future(flood()) if busy else None
        async with stream(package(case), version) as (reader, _, peer):
            for _ in range(20):
                reading = asyncio.ensure_future(read_pieces(reader, len(LARGE), size))
                await turns(2)
                await peer.write(LARGE)
                case(await reading == LARGE)
        if flooding:
            flooding.cancel()

    parity(body)


def test_an_exact_number_of_bytes(parity):
    async def body(case):
        async with stream(package(case)) as (reader, _, peer):
            for size in (PIECE // 2, PIECE, 3 * PIECE, len(LARGE) - 3):
                for _ in range(3):
                    reading = asyncio.ensure_future(reader.readexactly(size))
                    await turns(2)
                    await peer.write(LARGE)
                    case(await reading == LARGE[:size])
                    case(await reader.readexactly(len(LARGE) - size) == LARGE[size:])

    parity(body)


def test_both_ways(parity):
    async def body(case):
        async with stream(package(case)) as (reader, writer, peer):

            async def echo():
                while data := await reader.read(PIECE):
                    writer.write(data)
                    await writer.drain()

            echoing = asyncio.ensure_future(echo())
            for _ in range(10):
                await peer.write(LARGE)
                case(await peer.read_exactly(len(LARGE)) == LARGE)
            peer.sock.shutdown(socket.SHUT_WR)
            await echoing

    parity(body)


# Where the end comes


@pytest.mark.parametrize("data", [b"", b"xyz", LARGE[:PIECE], LARGE[: PIECE + 1], LARGE], ids=len)
@pytest.mark.parametrize("how", ["close_notify", "end of file", "garbage"])
def test_the_end_of_a_large_message(parity, how, data):
    async def body(case):
        async with stream(package(case)) as (reader, _, peer):
            reading = asyncio.ensure_future(outcome(reader.read(PIECE)))
            await turns(2)
            if data:
                peer.ssl.write(data)
            if how == "close_notify":
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.ssl.unwrap()
            elif how == "garbage":
                peer.outgoing.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            await peer.flush()
            if how == "end of file":
                peer.sock.shutdown(socket.SHUT_WR)
            received = b""
            while isinstance(piece := await reading, bytes) and piece:
                received += piece
                reading = asyncio.ensure_future(outcome(reader.read(PIECE)))
            # What is right before garbage is lost with asyncio's loop.
            case(data.startswith(received), received == data or how == "garbage")
            case(await kind(reader.read(PIECE)), reader.at_eof())

    parity(body)


async def kind(awaitable):
    """What it raises, without the line of C that CPython puts into the text."""
    try:
        return await awaitable
    except Exception as error:
        return type(error).__name__, getattr(error, "reason", None)


@pytest.mark.parametrize("how", ["reset", "close", "abort"])
def test_the_end_in_the_place_of_a_large_message(parity, how):
    async def body(case):
        async with stream(package(case)) as (reader, writer, peer):
            reading = asyncio.ensure_future(kind(reader.read(PIECE)))
            await turns(2)
            if how == "reset":
                reset(peer.sock)
            elif how == "abort":
                writer.transport.abort()
            else:
                writer.close()
                await peer.close()
            case(await reading, await kind(reader.read(PIECE)), reader.at_eof())

    parity(body)


# What is left of a message


@pytest.mark.parametrize("rest", [1, 20_000, 40_000, PIECE])
@pytest.mark.parametrize("then", ["read", "exactly", "line", "turn", "wait", "nothing"])
def test_what_one_read_leaves_is_for_the_next(parity, rest, then):
    message = LARGE[: PIECE + rest - 1] + b"\n"

    async def body(case):
        async with stream(package(case)) as (reader, _, peer):
            reading = asyncio.ensure_future(reader.read(PIECE))
            await turns(2)
            await peer.write(message)
            data = await reading
            if then == "read":
                data += await read_pieces(reader, len(message) - len(data))
            elif then == "exactly":
                data += await reader.readexactly(len(message) - len(data))
            elif then == "line":
                while len(data) < len(message):
                    data += await reader.readline()
            elif then == "turn":
                await asyncio.sleep(0)
                data += await read_pieces(reader, len(message) - len(data))
            elif then == "wait":
                # The next message comes behind it.
                await peer.write(b"next")
                await turns()
                data += await reader.readexactly(len(message) - len(data))
                case(await reader.read(PIECE))
            else:
                # The reader has it though nobody has asked.
                while len(data) + len(reader._buffer) < len(message):
                    await asyncio.sleep(0)
                data += bytes(reader._buffer)
            case(data == message)

    parity(body)


@pytest.mark.parametrize("what", ["pause", "protocol", "feed"])
def test_what_one_read_leaves_and_the_transport_changes(parity, what):
    message = LARGE[: PIECE + 20_000]

    async def body(case):
        async with stream(package(case)) as (reader, writer, peer):
            transport = writer.transport
            own, other = transport.get_protocol(), Recording(lambda *event: None)

            async def read():
                data = await reader.read(PIECE)
                while len(data) < PIECE:
                    data += await reader.read(PIECE - len(data))
                if what == "pause":
                    transport.pause_reading()
                elif what == "protocol":
                    transport.set_protocol(other)
                else:
                    reader.feed_data(b"")
                # It was received before.
                return data + await asyncio.wait_for(reader.read(PIECE), 5)

            reading = asyncio.ensure_future(read())
            await turns(2)
            await peer.write(message)
            data = await reading
            case(data == message[: len(data)])
            if what == "pause":
                transport.resume_reading()
            elif what == "protocol":
                await turns()
                transport.set_protocol(own)
                data += bytes(other.data)
            data += await read_pieces(reader, len(message) - len(data)) if len(data) < len(message) else b""
            case(data == message)
            await peer.write(b"and on")
            case(await reader.read(PIECE))

    parity(body)


@pytest.mark.parametrize("what", ["abort", "close"])
def test_what_one_read_leaves_and_the_connection_is_closed(parity, what):
    async def body(case):
        async with stream(package(case)) as (reader, writer, peer):

            async def read():
                data = await reader.read(PIECE)
                getattr(writer.transport, what)()
                return data

            reading = asyncio.ensure_future(read())
            await turns(2)
            await peer.write(LARGE)
            data = await reading
            # Whether what has not come yet is an error depends on how much that is.
            while isinstance(piece := await kind(reader.read(PIECE)), bytes) and piece:
                data += piece
            case(data == LARGE[: len(data)])

    parity(body)


@pytest.mark.parametrize("wait", range(5))
def test_a_large_read_that_is_cancelled(parity, wait):
    """Whenever that is, nothing is lost."""

    async def body(case):
        async with stream(package(case)) as (reader, _, peer):
            reading = asyncio.ensure_future(reader.read(PIECE))
            await turns(2)
            peer.ssl.write(LARGE)
            peer.sock.sendall(peer.outgoing.read())
            await turns(wait)
            reading.cancel()
            await asyncio.wait([reading])
            data = b"" if reading.cancelled() else reading.result()
            case(data + await read_pieces(reader, len(LARGE) - len(data)) == LARGE)

    parity(body)


@pytest.mark.parametrize("what", ["pause", "protocol", "feed", "closed coroutine", "another"])
def test_what_comes_between_a_large_message_and_its_reader(parity, what):
    message = LARGE[: PIECE + PIECE // 2]

    async def body(case):
        async with stream(package(case)) as (reader, writer, peer):
            transport = writer.transport
            if what == "closed coroutine":
                coroutine = reader.read(PIECE)
                coroutine.send(None)
                coroutine.close()
            else:
                reading = asyncio.ensure_future(reader.read(PIECE))
                await turns(2)
            peer.ssl.write(message)
            peer.sock.sendall(peer.outgoing.read())
            if what == "pause":
                transport.pause_reading()
                await turns()
                case(reading.done())
                transport.resume_reading()
            elif what == "protocol":
                own, other = transport.get_protocol(), Recording(lambda *event: None)
                transport.set_protocol(other)
                while len(other.data) < len(message):
                    await asyncio.sleep(0)
                case(reading.done(), bytes(other.data) == message)
                transport.set_protocol(own)
                await peer.write(message)
            elif what == "feed":
                reader.feed_data(b"first")
                case(await reading)
            elif what == "another":
                reading.cancel()
                reading = asyncio.ensure_future(reader.read(PIECE))
            data = b"" if what in ("feed", "closed coroutine") else await reading
            case(data + await read_pieces(reader, len(message) - len(data)) == message)

    parity(body)


@pytest.mark.parametrize("what", ["close", "abort", "pause_reading"])
def test_a_large_message_that_came_before_the_end(parity, what):
    """In the same turn: the timer's callback comes after the transport's."""

    async def body(case):
        async with stream(package(case)) as (reader, writer, peer):
            for _ in range(3):
                reading = asyncio.ensure_future(read_pieces(reader, PIECE))
                await turns(2)
                await peer.write(LARGE[:PIECE])
                case(await reading == LARGE[:PIECE])
            reading = asyncio.ensure_future(reader.read(PIECE))
            await turns(2)
            await peer.write(LARGE[:PIECE])
            asyncio.get_running_loop().call_later(0, getattr(writer.transport, what))
            received = await asyncio.wait_for(reading, 10)
            case(LARGE.startswith(received), len(received) > 0)

    parity(body)
