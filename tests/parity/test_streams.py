"""Streams over connections: what arrives, how they end, and what stays."""

import asyncio
import gc
import socket
import weakref

import pytest
from support.case import outcome
from support.guard import without_collector
from support.loops import since
from support.peers import MUCH, receive_all, receive_exactly, reset, shrink, turns
from support.streams import serve, stream
from support.traces import package

import ferrio

pytestmark = pytest.mark.every_door


# From begin to end


@pytest.mark.at_once("it waits for the bytes in the turn that writes them")
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

            async def send():
                writer.write(bytes(20_000))
                await writer.drain()

            async def send_and_tell(number):
                await send()
                case(number)

            tasks = [asyncio.ensure_future(send_and_tell(number)) for number in range(50)]
            await turns(2)
            tasks[45].cancel()
            await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, 50 * 20_000)
            case([await outcome(task) for task in tasks])
            # How many of these have room at once is the kernel's matter.
            tasks = [asyncio.ensure_future(send()) for _ in range(50)]
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
    with without_collector():
        loop.run_until_complete(body())
        loop.run_until_complete(loop.shutdown_default_executor())
        if end == "reset":
            # The exception that the handler has caught is the reader's, and knows where it was raised.
            gc.collect()
        assert len(things) >= 24
        assert [thing() for thing in things] == [None] * len(things)
