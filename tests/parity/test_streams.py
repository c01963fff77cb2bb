"""Streams over connections: what arrives, how they end, and who may put what in whose place."""

import asyncio
import contextlib
import gc
import socket
import weakref

import pytest
from support.case import describe
from support.loops import since
from support.peers import MUCH, Recording, receive_all, receive_exactly, reset, shrink, tcp_pair, turns
from support.traces import package

import ferrio

pytestmark = pytest.mark.every_door


async def outcome(awaitable):
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return describe(error)


@contextlib.asynccontextmanager
async def stream(aio, **keywords):
    """A reader and a writer on one end of a connection, and the other end in the test's hand."""
    with tcp_pair() as (ours, theirs):
        reader, writer = await aio.open_connection(sock=ours, **keywords)
        try:
            yield reader, writer, theirs
        finally:
            writer.close()
            await outcome(writer.wait_closed())


async def serve(aio, callback, **keywords):
    server = await aio.start_server(callback, "127.0.0.1", 0, **keywords)
    return server, server.sockets[0].getsockname()


# From begin to end


def test_a_connection(parity):
    async def body(case):
        async with stream(package(case)) as (reader, writer, theirs):
            case(writer.get_extra_info("peername") == theirs.getsockname(), writer.get_extra_info("sslcontext", 1))
            case(writer.can_write_eof(), writer.is_closing(), reader._transport is writer.transport)
            writer.write(b"hello ")
            writer.writelines([b"wor", b"ld"])
            await writer.drain()
            case(receive_exactly(theirs, 11))
            theirs.sendall(b"line\nrest")
            case(await reader.readline(), await reader.readexactly(4))
            theirs.shutdown(socket.SHUT_WR)
            case(await reader.read(), reader.at_eof(), writer.is_closing())
            writer.write(b"still open")
            writer.write_eof()
            case(receive_all(theirs))
            writer.close()
            case(writer.is_closing(), await writer.wait_closed(), repr(reader).count("eof"))

    parity(body)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_server(parity, kind):
    async def body(case):
        aio = package(case)

        async def client(address):
            reader, writer = await aio.open_connection(*address, limit=100)
            writer.write(b"question\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer, reader._limit

        async def answer(reader, writer):
            writer.write(await reader.readline() * 2)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            case(reader._limit)

        def start(reader, writer):
            served.append(asyncio.ensure_future(answer(reader, writer)))

        served = []
        server, address = await serve(aio, start if kind == "function" else answer, limit=50)
        async with server:
            case(*await asyncio.gather(*(client(address) for _ in range(3))))
            await asyncio.gather(*served)
            await turns()

    parity(body)


def test_unix(parity, tmp_path):
    async def body(case):
        aio = package(case)

        async def answer(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        path = str(tmp_path / case.name)
        async with await aio.start_unix_server(answer, path, limit=50):
            reader, writer = await aio.open_unix_connection(path, limit=40)
            writer.write(b"line\n")
            case(await reader.read(), reader._limit)
            writer.close()
            await writer.wait_closed()

    parity(body)


def test_arguments(parity):
    """They are taken apart when the function is called, and looked at when its coroutine is driven."""

    async def body(case):
        aio = package(case)
        for call in (
            lambda: aio.start_server(),
            lambda: aio.open_connection("localhost", 1, 2),
            lambda: aio.open_connection("localhost", host="localhost"),
            lambda: aio.start_unix_server(),
        ):
            case.raised(call)
        for coroutine in (
            aio.open_connection(limit=0),
            aio.open_connection("127.0.0.1", 1, unknown=3),
            aio.open_connection(),
            aio.open_unix_connection(limit=-1),
            aio.start_server(None, port="no port"),
        ):
            case((await outcome(coroutine))[0])

    parity(body)


async def call_of(aio, callback):
    """What a client of the server sees."""
    server, address = await serve(aio, callback)
    async with server:
        reader, writer = await aio.open_connection(*address)
        writer.write(b"line\n")
        received = await outcome(reader.read())
        writer.close()
        await outcome(writer.wait_closed())
        return received


def test_a_coroutine_that_fails_closes_its_connection(parity):
    async def body(case):
        async def fail(reader, writer):
            await reader.readline()
            raise ValueError("failed")

        case(await call_of(package(case), fail))

    _, errors = parity(body)
    assert errors == [("Unhandled exception in client_connected_cb", ("ValueError", "failed"))]


@pytest.mark.asyncio_since("3.13", "that")
def test_a_coroutine_that_is_cancelled_closes_its_connection(parity):
    async def body(case):
        async def cancel(reader, writer):
            await reader.readline()
            raise asyncio.CancelledError

        case(await call_of(package(case), cancel))

    _, errors = parity(body)
    assert errors == []


@pytest.mark.asyncio_since("3.14", "that")
def test_a_function_that_fails_closes_its_connection(parity):
    async def body(case):
        def fail(reader, writer):
            raise ValueError("failed")

        case(await call_of(package(case), fail))

    _, errors = parity(body)
    assert errors == [("Unhandled exception in client_connected_cb", ("ValueError", "failed"))]


def test_many_drain(parity):
    """A cancelled one, and a reset, end only what they concern."""

    async def body(case):
        async with stream(package(case)) as (_, writer, theirs):
            shrink(theirs, writer.get_extra_info("socket"))

            async def send(number):
                writer.write(bytes(20_000))
                await writer.drain()
                case(number)

            tasks = [asyncio.ensure_future(send(number)) for number in range(50)]
            await turns(2)
            tasks[45].cancel()
            await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, 50 * 20_000)
            case([await outcome(task) for task in tasks])
            tasks = [asyncio.ensure_future(send(number)) for number in range(50)]
            await turns()
            reset(theirs)
            case({await outcome(task) for task in tasks} - {None})

    parity(body)


# Ends that are not clean


@pytest.mark.parametrize("method", ["read", "readline", "readexactly", "drain", "wait_closed"])
def test_reset(parity, method):
    async def body(case):
        async with stream(package(case)) as (reader, writer, theirs):
            shrink(theirs, writer.get_extra_info("socket"))
            if method in ("drain", "wait_closed"):
                writer.write(b"x" * MUCH)
            waiting = {
                "read": lambda: reader.read(10),
                "readline": reader.readline,
                "readexactly": lambda: reader.readexactly(1),
                "drain": writer.drain,
                "wait_closed": writer.wait_closed,
            }[method]()
            task = asyncio.ensure_future(outcome(waiting))
            await turns()
            case(task.done())
            reset(theirs)
            case((await task)[0], type(reader.exception()).__name__)
            case((await outcome(reader.read(1)))[0], (await outcome(writer.drain()))[0])

    parity(body)


def test_end_of_file_in_the_middle(parity):
    async def body(case):
        for coroutine in ("readline()", "readuntil(b'xx')", "readexactly(9)", "read()", "read(9)"):
            async with stream(package(case)) as (reader, writer, theirs):
                waiting = asyncio.ensure_future(outcome(eval(f"reader.{coroutine}")))
                await turns()
                theirs.sendall(b"half")
                theirs.shutdown(socket.SHUT_WR)
                case(await waiting, await outcome(reader.read()), reader.at_eof())

    parity(body)


def test_much_is_read_slowly(parity):
    """The transport pauses, and nothing is lost."""

    async def body(case):
        async def produce(writer):
            for number in range(1000):
                writer.write(b"%06d" % number * 500 + b"\n")
                await writer.drain()
            writer.close()

        def accepted(reader, writer):
            produced.append(asyncio.ensure_future(produce(writer)))

        produced = []
        server, address = await serve(package(case), accepted)
        async with server:
            reader, writer = await package(case).open_connection(*address)
            while not reader._paused:
                await turns()
            case(not writer.transport.is_reading())
            count = 0
            async for line in reader:
                assert line == b"%06d" % count * 500 + b"\n"
                count += 1
            case(count, reader.at_eof())
            await asyncio.gather(*produced)
            writer.close()
            await writer.wait_closed()

    parity(body)


def test_drain_waits_for_the_peer(parity):
    async def body(case):
        async with stream(package(case)) as (_, writer, theirs):
            shrink(theirs, writer.get_extra_info("socket"))
            for _ in range(10):
                writer.write(b"x" * MUCH)
            draining = [asyncio.ensure_future(writer.drain()) for _ in range(2)]
            await turns()
            case([task.done() for task in draining], writer._protocol._paused)
            draining[0].cancel()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, 10 * MUCH)
            case(len(received), await outcome(draining[0]), await draining[1], writer._protocol._paused)

    parity(body)


# Much at a time


LARGE = bytes(range(256)) * 1024
PIECE = 1 << 16


@contextlib.asynccontextmanager
async def large(aio):
    """A stream that has received so much at a time that the next read() of a PIECE will receive by itself."""
    async with stream(aio) as (reader, writer, theirs):
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


# Others in their places


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


# Memory


@pytest.mark.parametrize("end", ["close", "reset", "cancel"])
def test_nothing_stays(loop, end):
    """Neither streams nor transports; without the collector, if nothing was raised."""

    async def handle(reader, writer):
        things.extend(map(weakref.ref, (reader, writer, writer.transport, writer._protocol, asyncio.current_task())))
        try:
            async for line in reader:
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def body():
        server, address = await serve(ferrio, handle)
        async with server:
            for _ in range(3):
                with socket.create_connection(address) as client:
                    client.settimeout(5)
                    client.sendall(b"line\n")
                    assert await asyncio.to_thread(receive_exactly, client, 5) == b"line\n"
                    reader, writer = await ferrio.open_connection(*address)
                    writer.write(b"line\n")
                    await reader.readexactly(5)
                    things.extend(map(weakref.ref, (reader, writer, writer.transport, writer._protocol)))
                    if end == "cancel":
                        waiting = asyncio.ensure_future(reader.readline())
                        await turns()
                        waiting.cancel()
                        await outcome(waiting)
                        del waiting
                    writer.close()
                    await writer.wait_closed()
                    del reader, writer
                    if end == "reset":
                        reset(client)
            await turns(20)
        await turns(20)

    if not isinstance(loop, ferrio.EventLoop) and not since(3, 12):
        pytest.skip("asyncio's transports stay")
    things = []
    gc.collect()
    gc.disable()
    try:
        loop.run_until_complete(body())
        loop.run_until_complete(loop.shutdown_default_executor())
        if end == "reset":
            # The exception that the handler has caught is the reader's, and knows where it was raised.
            gc.collect()
        assert len(things) >= 24
        assert [thing() for thing in things] == [None] * len(things)
    finally:
        gc.enable()
