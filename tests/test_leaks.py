"""Nothing is left behind: what is done again and again needs no more memory than what is done twice.

The interpreter counts its blocks of memory, which are all of its objects but the largest. A body is run until pools and
caches have what they want; then it is run as often again, and may not change the count by one block a run.
"""

import contextlib
import functools
import gc
import os
import resource
import socket
import sys

import pytest
from support.tls import client_context, server_context

import ferrio

RUNS = 50

bodies = {}


def body(function):
    bodies[function.__name__] = function
    return function


async def nothing():
    pass


async def forever():
    await ferrio.get_running_loop().create_future()


async def fail():
    raise ValueError("a failure")


@body
async def futures():
    loop = ferrio.get_running_loop()
    future = loop.create_future()
    future.add_done_callback(lambda future: None)
    loop.call_soon(future.set_result, None)
    await future
    loop.create_future().cancel("message")
    failed = loop.create_future()
    failed.set_exception(ValueError())
    with contextlib.suppress(ValueError):
        await failed


@body
async def callbacks():
    loop = ferrio.get_running_loop()
    loop.call_soon(lambda *arguments: None, 1, 2, 3)
    loop.call_later(0, lambda: None)
    loop.call_later(3600, lambda: None).cancel()
    loop.call_soon_threadsafe(lambda: None)
    await ferrio.sleep(0.001)


@body
async def tasks():
    await ferrio.create_task(nothing(), name="named")
    await ferrio.create_task(nothing(), eager_start=True)
    task = ferrio.create_task(forever())
    await ferrio.sleep(0)
    task.cancel("message")
    with contextlib.suppress(ferrio.CancelledError):
        await task
    with contextlib.suppress(ValueError):
        await ferrio.create_task(fail())
    unfetched = ferrio.create_task(nothing())
    await ferrio.sleep(0)
    assert unfetched.done()


@body
async def gather_and_wait():
    await ferrio.gather(nothing(), fail(), return_exceptions=True)
    other = ferrio.create_task(forever())
    with contextlib.suppress(ValueError):
        await ferrio.gather(fail(), other)
    other.cancel()
    waiting = {ferrio.create_task(forever()), ferrio.create_task(nothing())}
    await ferrio.wait(waiting, return_when=ferrio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await ferrio.wait(waiting)
    for coroutine in ferrio.as_completed([nothing(), nothing()]):
        await coroutine
    async for task in ferrio.as_completed([ferrio.create_task(nothing())]):
        await task
    with contextlib.suppress(TimeoutError):
        await ferrio.wait_for(forever(), 0)
    inner = ferrio.create_task(nothing())
    await ferrio.shield(inner)


@body
async def scopes():
    with contextlib.suppress(TimeoutError):
        async with ferrio.timeout(0):
            await forever()
    try:
        async with ferrio.TaskGroup() as group:
            group.create_task(forever())
            group.create_task(fail())
    except* ValueError:
        pass
    async with ferrio.TaskGroup() as group:
        group.create_task(nothing())


@body
async def locks():
    lock, event, semaphore = ferrio.Lock(), ferrio.Event(), ferrio.BoundedSemaphore(1)
    condition, barrier = ferrio.Condition(), ferrio.Barrier(2)

    async def contend():
        async with lock, semaphore:
            await ferrio.sleep(0)
        async with condition:
            condition.notify_all()
        await barrier.wait()
        await event.wait()

    both = ferrio.gather(contend(), contend())
    event.set()
    await both
    async with lock:
        cancelled = ferrio.create_task(lock.acquire())
        await ferrio.sleep(0)
        cancelled.cancel()
        await ferrio.wait([cancelled])


@body
async def queues():
    for kind in (ferrio.Queue, ferrio.LifoQueue, ferrio.PriorityQueue):
        queue = kind(1)

        async def produce(queue=queue):
            for number in range(3):
                await queue.put(number)
            queue.shutdown()

        async def consume(queue=queue):
            with contextlib.suppress(ferrio.QueueShutDown):
                while True:
                    await queue.get()
                    queue.task_done()

        await ferrio.gather(produce(), consume())
        await queue.join()


@body
async def streams():
    ours, theirs = socket.socketpair()
    reader, writer = await ferrio.open_connection(sock=ours)
    peer_reader, peer_writer = await ferrio.open_connection(sock=theirs)
    writer.writelines([b"a line\n", b"x" * 100_000])
    writer.write_eof()
    await peer_reader.readline()
    await peer_reader.read()
    with contextlib.suppress(ferrio.IncompleteReadError):
        await peer_reader.readexactly(1)
    for closing in (writer, peer_writer):
        closing.close()
        await closing.wait_closed()


@body
async def servers():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await ferrio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await ferrio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        assert await reader.read() == b"hello\n"
        writer.close()
        await writer.wait_closed()
    with contextlib.suppress(OSError):
        await ferrio.open_connection("127.0.0.1", 1)


@body
async def tls():
    server_side, client_side = contexts()

    async def echo(reader, writer):
        if await reader.readline() == b"start\n":
            await writer.start_tls(server_side)
            writer.write(await reader.readline())
        writer.close()

    for ssl_context in (None, server_side):
        server = await ferrio.start_server(echo, "127.0.0.1", 0, ssl=ssl_context)
        address = server.sockets[0].getsockname()
        name = "localhost" if ssl_context else None
        reader, writer = await ferrio.open_connection(
            *address, ssl=client_side if ssl_context else None, server_hostname=name
        )
        writer.write(b"stop\n" if ssl_context else b"start\n")
        if not ssl_context:
            await writer.start_tls(client_side, server_hostname="localhost")
            writer.write(b"hello\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        if ssl_context:
            with contextlib.suppress(OSError):
                await ferrio.open_connection(*address, ssl=client_side, server_hostname="another.example")
        server.close()


@functools.cache
def contexts():
    return server_context(), client_context()


@body
async def datagrams():
    loop = ferrio.get_running_loop()

    class Protocol(ferrio.DatagramProtocol):
        def datagram_received(self, data, address):
            received.set_result(data)

    received = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    transport.sendto(b"to myself", transport.get_extra_info("sockname"))
    await received
    transport.abort()
    await ferrio.sleep(0)


@body
async def sockets():
    loop = ferrio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        receiving = ferrio.create_task(loop.sock_recv(ours, 100))
        await ferrio.sleep(0)
        await loop.sock_sendall(theirs, b"x")
        await receiving
        cancelled = ferrio.create_task(loop.sock_recv(ours, 100))
        await ferrio.sleep(0)
        cancelled.cancel()
        await ferrio.wait([cancelled])


@body
async def pipes():
    loop = ferrio.get_running_loop()
    source, sink = os.pipe()
    lost = loop.create_future()

    class Protocol(ferrio.Protocol):
        def connection_lost(self, exc):
            lost.set_result(exc)

    await loop.connect_read_pipe(Protocol, os.fdopen(source, "rb"))
    transport, _ = await loop.connect_write_pipe(ferrio.BaseProtocol, os.fdopen(sink, "wb"))
    transport.write(b"through the pipe")
    transport.close()
    await lost


@body
async def subprocesses():
    process = await ferrio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert await process.communicate(b"input") == (b"input", None)


@body
async def threads():
    await ferrio.to_thread(lambda: None)
    loop = ferrio.get_running_loop()
    await ferrio.to_thread(lambda: ferrio.run_coroutine_threadsafe(nothing(), loop).result())


def grows(repeat):
    """Whether each of several repetitions leaves a block a run. One may: the interpreter keeps things for later."""
    repeat()
    before = blocks()
    for _ in range(5):
        repeat()
        after = blocks()
        if after - before < RUNS:
            return False
        before = after
    return True


def blocks():
    for _ in range(3):
        gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("name", bodies)
def test_nothing_is_left(name):
    async def repeat():
        for _ in range(RUNS):
            await bodies[name]()

    with ferrio.Runner() as runner:
        assert not grows(lambda: runner.run(repeat()))


def test_nothing_is_left_of_loops():
    def repeat():
        for _ in range(RUNS):
            with ferrio.Runner() as runner:
                runner.run(nothing())

    assert not grows(repeat)


def test_a_million_tasks_leave_nothing():
    """Made and finished, a thousand at a time: the memory of the process is that of a thousand."""

    async def thousands(count):
        for _ in range(count):
            await ferrio.gather(*[nothing() for _ in range(1000)])

    with ferrio.Runner() as runner:
        runner.run(thousands(50))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        runner.run(thousands(1000))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In kilobytes. One byte a task would be one megabyte.
    assert after - before < 1000
