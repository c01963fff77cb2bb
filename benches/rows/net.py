"""The network, with a load generator in C on another core, and subprocesses.

The worker is the server; while it serves, a thread of it waits for the load generator to end. The thread costs nothing
meanwhile, and unlike a subprocess of the loop's own it works with every peer.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ssl import SSLContext
from types import ModuleType
from typing import Any

from load import Load, Server, c_server
from row import Group, Row, Sample, Target, first_line
from session import Session

GROUP = Group("net", "Network", floor="C", aiofastnet=True)

Serve = Callable[[ModuleType], AbstractAsyncContextManager[int]]
"""A server that runs as long as the block; gives its port."""

ANYWHERE = ("127.0.0.1", 0)

KIB = 1024
CHUNK = 64 * KIB


def port_of(server: Any) -> int:
    """Where a server listens. It binds by itself: rloop and veloxloop fail on a socket that is given to them."""
    port: int = server.sockets[0].getsockname()[1]
    return port


@asynccontextmanager
async def protocol_echo(aio: ModuleType, ssl: SSLContext | None = None) -> AsyncIterator[int]:
    """a Protocol writes to its transport what it receives"""

    class Echo(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    server = await aio.get_running_loop().create_server(Echo, *ANYWHERE, ssl=ssl)
    yield port_of(server)
    server.close()


@asynccontextmanager
async def streams_echo(aio: ModuleType, ssl: SSLContext | None = None) -> AsyncIterator[int]:
    """`start_server`: `read`, `write` and `drain` in turn"""

    async def serve(reader: Any, writer: Any) -> None:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await aio.start_server(serve, *ANYWHERE, ssl=ssl)
    yield port_of(server)
    server.close()


@asynccontextmanager
async def readline(aio: ModuleType) -> AsyncIterator[int]:
    """`readline` of 64-byte lines that come 1024 at a time; the last one is sent back; one line"""

    async def serve(reader: Any, writer: Any) -> None:
        while line := await reader.readline():
            if line.startswith(b"e"):
                writer.write(line)
        writer.close()

    server = await aio.start_server(serve, *ANYWHERE)
    yield port_of(server)
    server.close()


@asynccontextmanager
async def sock_echo(aio: ModuleType) -> AsyncIterator[int]:
    """`sock_accept`, then `sock_recv` and `sock_sendall` in turn"""
    loop = aio.get_running_loop()

    async def serve(connection: socket.socket) -> None:
        with connection:
            while data := await loop.sock_recv(connection, CHUNK):
                await loop.sock_sendall(connection, data)

    async def accept(sock: socket.socket) -> None:
        while True:
            connection, _ = await loop.sock_accept(sock)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tasks.append(aio.create_task(serve(connection)))

    with socket.create_server(ANYWHERE) as sock:
        sock.setblocking(False)
        tasks = []
        tasks.append(aio.create_task(accept(sock)))
        yield sock.getsockname()[1]
        for task in tasks:
            task.cancel()
        await aio.wait(tasks)


@asynccontextmanager
async def udp_echo(aio: ModuleType) -> AsyncIterator[int]:
    """a DatagramProtocol sends every datagram back"""

    class Echo(aio.DatagramProtocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data, address)

    loop = aio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=ANYWHERE)
    yield transport.get_extra_info("sockname")[1]
    transport.close()


DOCUMENT = json.dumps([{"id": number, "name": "a name", "price": 1.5} for number in range(10)])


@asynccontextmanager
async def answers(aio: ModuleType) -> AsyncIterator[int]:
    """each message gets a task, which works for some 20 us and answers in two writes; the clients sleep meanwhile"""

    class Answer(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            task = loop.create_task(self.answer(data))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def answer(self, data: bytes) -> None:
            json.dumps(json.loads(DOCUMENT))
            self.transport.write(data[:128])
            self.transport.write(data[128:])

    loop = aio.get_running_loop()
    tasks: set[Any] = set()
    server = await loop.create_server(Answer, *ANYWHERE)
    yield port_of(server)
    server.close()


@asynccontextmanager
async def connect_and_close(aio: ModuleType) -> AsyncIterator[int]:
    """a client connects, the server closes in `connection_made`, the client sees it; one connection"""

    class Close(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            transport.close()

    server = await aio.get_running_loop().create_server(Close, *ANYWHERE)
    yield port_of(server)
    server.close()


async def under_load(aio: ModuleType, serve: Serve, load: Load) -> Sample:
    """Serve until the load generator is done; its report."""
    async with serve(aio) as port:
        report: Sample = await aio.get_running_loop().run_in_executor(None, load.run, Server(port, os.getpid()))
    return report


def add(name: str, serve: Serve, load: Load, target: Target, limit: str | None = None) -> None:
    """Make a row of a server and the load on it; ``limit`` is how the server in C does the same."""

    def measure(session: Session) -> Sample:
        return session.run(under_load(session.aio, serve, load))

    def floor() -> Sample:
        with c_server(limit or "") as server:
            return load.run(server)

    GROUP.rows.append(Row(name, first_line(serve), measure, target, floor if limit else None))


def add_echo(kind: str, serve: Serve, one: Target, fifty: Target, share: float) -> None:
    """The six rows of an echo server; ``share`` of the messages that a Protocol can take in the time."""
    for size, single, many in ((1, 4_000, 8_000), (10, 3_000, 6_000), (100, 1_200, 1_500)):
        for connections, messages, target in ((1, single, one), (50, many, fifty)):
            load = Load("tcp", int(messages * share), connections, size * KIB)
            plural = "connection" if connections == 1 else "connections"
            add(f"{kind} echo {size} KiB with {connections} {plural}", serve, load, target, limit="tcp")


add_echo("protocol", protocol_echo, Target(1.15), Target(1.15, floor=0.95), share=1)
add_echo("streams", streams_echo, Target(1.6, alone=False), Target(2.0, floor=0.75, alone=False), share=0.5)

add("answers to 50 connections", answers, Load("tcp", 4_000, 50, sleeps=True), Target(1.3))

LINES = Load("tcp", messages=100, size=CHUNK, line=64)


def read_lines(session: Session) -> Sample:
    """Per line; a latency of 1024 lines together says nothing."""
    sample = session.run(under_load(session.aio, readline, LINES))
    return Sample(sample.value * LINES.line / LINES.size)


GROUP.rows.append(Row("readline over a busy stream", first_line(readline), read_lines, Target(5.0, alone=False)))
add("sock_recv/sock_sendall echo with 1 connection", sock_echo, Load("tcp", 3_000), Target(2.2), limit="tcp")
add("sock_recv/sock_sendall echo with 50 connections", sock_echo, Load("tcp", 4_000, 50), Target(2.2), limit="tcp")
add("UDP echo", udp_echo, Load("udp", 4_000), Target(1.8), limit="udp")
add("connect and close", connect_and_close, Load("connect", 1_200, connections=4), Target(1.3), limit="close")


@GROUP.timed("subprocess", 30, Target(3.5))
async def spawn(aio: ModuleType, ops: int) -> None:
    """`create_subprocess_exec` of a program that ends at once, and `wait`"""
    program = shutil.which("true")
    for _ in range(ops):
        process = await aio.create_subprocess_exec(program)
        await process.wait()
