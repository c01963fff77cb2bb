"""The modules that asyncio's modules use are theirs: who puts others there is asked, on ferrio too.

Libraries that replace what sockets and threads are made of, as eventlet does, hand asyncio the originals in that way.
"""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import pytest
from support.case import outcome

pytestmark = pytest.mark.every_door


class Closing(asyncio.Protocol):
    """Closes the connection that it gets."""

    def connection_made(self, transport):
        transport.close()


class Ending(asyncio.Protocol):
    """Knows when the connection has ended."""

    def __init__(self):
        self.ended = asyncio.get_running_loop().create_future()

    def connection_lost(self, error):
        self.ended.set_result(None)


@contextmanager
def double(module, names=(), calls=()):
    """Puts a copy of a module, which is returned, into those of asyncio's that use it. What is called by the names is
    appended to the list.
    """
    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module))
    for name in names:

        def call(*args, _name=name, **keywords):
            calls.append(_name)
            return getattr(module, _name)(*args, **keywords)

        setattr(copy, name, call)
    with pytest.MonkeyPatch.context() as patch:
        for user in map(import_module, ("asyncio.base_events", "asyncio.runners", "asyncio.unix_events")):
            if hasattr(user, module.__name__):
                patch.setattr(user, module.__name__, copy)
        yield copy


def test_names(parity):
    """Addresses and names are asked of that module, those of numbers alone as well."""

    async def body(case):
        calls = []
        loop = asyncio.get_running_loop()
        with double(socket, ["getaddrinfo", "getnameinfo"], calls):
            for host in ("127.0.0.1", "localhost"):
                await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
            flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
            case(await outcome(loop.getnameinfo(("127.0.0.1", 80), flags)))
        case(calls.copy())

    events, _ = parity(body)
    assert events[-1][-1] == "getnameinfo"


def test_sockets(parity, tmp_path):
    """Servers, connections and datagrams are made of its sockets."""

    async def body(case):
        made = []

        class Socket(socket.socket):
            def __init__(self, *args, **keywords):
                made.append(type(self).__name__)
                super().__init__(*args, **keywords)

        loop = asyncio.get_running_loop()
        with double(socket) as copy:
            copy.socket = Socket
            server = await loop.create_server(Closing, "127.0.0.1", 0)
            case("server", len(made))
            _, client = await loop.create_connection(Ending, *server.sockets[0].getsockname())
            case("connection", len(made))
            await client.ended
            server.close()
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
            case("datagrams", len(made))
            transport.close()
            path = str(tmp_path / f"socket-{id(made)}")
            server = await loop.create_unix_server(Closing, path)
            case("Unix server", len(made))
            _, client = await loop.create_unix_connection(Ending, path)
            case("Unix connection", len(made))
            await client.ended
            server.close()

    events, _ = parity(body)
    assert [made for _, made in events] == [1, 2, 3, 4, 5]


def test_subprocess(parity):
    """A process is started by its Popen."""

    async def body(case):
        calls = []
        with double(subprocess, ["Popen"], calls):
            process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "")
        case(await process.wait(), calls)

    events, _ = parity(body)
    assert events == [(0, ["Popen"])]


def test_threads(parity):
    """The thread that waits for the executor's is one of its threads."""

    async def body(case):
        calls = []
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        with double(threading, ["Thread"], calls):
            await loop.shutdown_default_executor()
        case(calls)

    events, _ = parity(body)
    assert events == [["Thread"]]


def test_signals(parity):
    """A handler is set by its functions."""

    async def body(case):
        calls = []
        loop = asyncio.get_running_loop()
        with double(signal, ["signal", "set_wakeup_fd"], calls):
            loop.add_signal_handler(signal.SIGUSR1, int)
            case(sorted(set(calls)))
            loop.remove_signal_handler(signal.SIGUSR1)

    events, _ = parity(body)
    assert events == [["set_wakeup_fd", "signal"]]
