"""TLS: servers under load, with the interpreter's OpenSSL below every loop."""

from __future__ import annotations

import atexit
import functools
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from load import Load, c_server
from row import Group, Row, Sample, Target, first_line
from session import Session

from . import memory, net
from .net import ANYWHERE, KIB, Serve, port_of, under_load

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


def over_tls(serve: Callable[..., AbstractAsyncContextManager[int]]) -> Serve:
    """The server of a network row, with TLS."""

    @functools.wraps(serve)
    def secure(aio: ModuleType) -> AbstractAsyncContextManager[int]:
        return serve(aio, ssl=server_context())

    return secure


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


add_echo("protocol", over_tls(net.protocol_echo), share=1, alone=True)
add_echo("streams", over_tls(net.streams_echo), share=0.5, alone=False)
add("handshakes", handshakes, Load("connect", 300, connections=4, tls=True), Target(1.1), has_floor=False)


async def idle_connections(aio: ModuleType) -> Sample:
    """an accepted connection with a Protocol on it, on which nothing happens; bytes of memory for one"""
    return await memory.idle_connections(aio, IDLE, server_context())


def measure_idle(session: Session) -> Sample:
    return session.run(idle_connections(session.aio))


SMALLER = Target(1.0, rivals=("asyncio", "uvloop"))
GROUP.rows.append(Row(f"{IDLE} idle TLS connections", first_line(idle_connections), measure_idle, SMALLER, once=True))
