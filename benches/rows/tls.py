"""TLS: servers under load, with the interpreter's OpenSSL below every loop."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from load import Load, Server, c_server
from row import Group, Row, Sample, Target, first_line
from session import Session

from .memory import allow_descriptors, resident
from .net import ANYWHERE, CHUNK, KIB, Serve, port_of, under_load

GROUP = Group("tls", "TLS", floor="C", aiofastnet=True)

IDLE = 1_000


@functools.cache
def certificate() -> str:
    """A file with a new key and a certificate for it."""
    directory = tempfile.mkdtemp(prefix="ferrio-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = Path(directory, "server.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", "/CN=localhost", "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(Path(f"{path}.crt").read_text() + Path(f"{path}.key").read_text())
    return str(path)


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate())
    return context


@asynccontextmanager
async def protocol_echo(aio: ModuleType) -> AsyncIterator[int]:
    """a Protocol writes to its transport what it receives"""

    class Echo(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    server = await aio.get_running_loop().create_server(Echo, *ANYWHERE, ssl=server_context())
    yield port_of(server)
    server.close()


@asynccontextmanager
async def streams_echo(aio: ModuleType) -> AsyncIterator[int]:
    """`start_server`: `read`, `write` and `drain` in turn"""

    async def serve(reader: Any, writer: Any) -> None:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await aio.start_server(serve, *ANYWHERE, ssl=server_context())
    yield port_of(server)
    server.close()


@asynccontextmanager
async def handshakes(aio: ModuleType) -> AsyncIterator[int]:
    """a client connects and shakes hands, the server closes in `connection_made`, the client sees it; one connection"""

    class Close(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            transport.close()

    server = await aio.get_running_loop().create_server(Close, *ANYWHERE, ssl=server_context())
    yield port_of(server)
    server.close()


def add(name: str, serve: Serve, load: Load, target: Target, has_floor: bool = True) -> None:
    """Make a row of a server and the load on it."""

    def measure(session: Session) -> Sample:
        return session.run(under_load(session.aio, serve, load))

    def floor() -> Sample:
        with c_server(certificate()) as server:
            return load.run(server)

    GROUP.rows.append(Row(name, first_line(serve), measure, target, floor if has_floor else None))


def add_echo(kind: str, serve: Serve, share: float, alone: bool) -> None:
    """The six rows of an echo server; ``share`` of the messages that a Protocol can take in the time."""
    for size, single, many in ((1, 3_000, 6_000), (10, 2_000, 4_000), (100, 700, 900)):
        for connections, messages in ((1, single), (50, many)):
            load = Load("tcp", int(messages * share), connections, size * KIB, tls=True)
            plural = "connection" if connections == 1 else "connections"
            is_limit = kind == "protocol" and (size, connections) == (1, 50)
            target = Target(1.4, floor=0.85 if is_limit else None, alone=alone)
            add(f"{kind} echo over TLS {size} KiB with {connections} {plural}", serve, load, target)


add_echo("protocol", protocol_echo, share=1, alone=True)
add_echo("streams", streams_echo, share=0.5, alone=False)
add("handshakes", handshakes, Load("connect", 300, connections=4, tls=True), Target(1.1), has_floor=False)


async def idle_connections(aio: ModuleType) -> Sample:
    """an accepted connection with a Protocol on it, on which nothing happens; bytes of memory for one"""
    open_connections = 0

    class Idle(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            nonlocal open_connections
            self.transport = transport
            open_connections += 1

    loop = aio.get_running_loop()
    allow_descriptors(IDLE + 100)
    server = await loop.create_server(Idle, *ANYWHERE, backlog=4096, ssl=server_context())
    await loop.run_in_executor(None, resident)  # the thread's own memory is not a connection's
    before = resident()
    command = Load("idle", connections=IDLE, tls=True).command(Server(port_of(server), os.getpid()))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        await loop.run_in_executor(None, client.stdout.readline)
        while open_connections < IDLE:
            await aio.sleep(0.01)
        grown = resident() - before
        client.stdin.close()
        await loop.run_in_executor(None, client.wait)
    server.close()
    return Sample(grown / IDLE)


def measure_idle(session: Session) -> Sample:
    return session.run(idle_connections(session.aio))


SMALLER = Target(1.0, rivals=("asyncio", "uvloop"))
GROUP.rows.append(Row(f"{IDLE} idle TLS connections", first_line(idle_connections), measure_idle, SMALLER, once=True))
