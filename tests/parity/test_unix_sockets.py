"""Connections and servers over Unix sockets."""

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
import tempfile

import pytest
from support.case import describe
from support.peers import Recording

pytestmark = pytest.mark.every_door

NAMES = {
    "str": lambda directory: f"{directory}/s",
    "bytes": lambda directory: f"{directory}/s".encode(),
    "path": lambda directory: pathlib.Path(directory, "s"),
    "not utf-8": lambda directory: f"{directory}/".encode() + b"\xff",
    "abstract": lambda directory: f"\0{directory}",
    "abstract bytes": lambda directory: f"\0{directory}".encode(),
}

cleaning = pytest.mark.asyncio_since("3.13", "cleanup_socket")


@pytest.fixture
def directory():
    """Short: the path of a socket has room for a hundred bytes."""
    with tempfile.TemporaryDirectory() as directory:
        yield directory


async def outcome(awaitable):
    """What it raises; nothing may come of it."""
    try:
        await awaitable
    except Exception as error:
        return describe(error)
    return "no exception"


@contextlib.asynccontextmanager
async def serving(path=None, **options):
    """A server that echoes one message a connection."""

    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(echo, path, **options)
    try:
        yield server
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 10)


async def echoed(path=None, **options):
    reader, writer = await asyncio.open_unix_connection(path, **options)
    writer.write(b"hello\n")
    answer = await reader.read()
    names = [writer.get_extra_info(name) for name in ("peername", "sockname")]
    writer.close()
    await writer.wait_closed()
    return answer, names


@pytest.mark.parametrize("kind", NAMES)
def test_names(parity, directory, kind):
    path = NAMES[kind](directory)

    async def body(case):
        async with serving(path) as server:
            case(server.sockets[0].getsockname(), server.sockets[0].family)
            case(await echoed(path))

    recorded, _ = parity(body)
    assert recorded[1][0] == b"hello\n"


def test_a_connection_from_begin_to_end(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        loop = asyncio.get_running_loop()
        made = loop.create_future()

        def factory():
            protocol = Recording(lambda *event: case("server", *event))
            made.set_result(protocol)
            return protocol

        server = await loop.create_unix_server(factory, path)
        transport, client = await loop.create_unix_connection(
            lambda: Recording(lambda *event: case("client", *event)), path
        )
        case(isinstance(transport, asyncio.Transport), client.transport is transport)
        transport.write(b"hello")
        accepted = await made
        await accepted.until("data_received")
        case(accepted.transport.get_extra_info("peername"), accepted.transport.get_extra_info("sockname"))
        accepted.transport.write_eof()
        await client.lost
        await accepted.lost
        server.close()
        await server.wait_closed()

    parity(body)


def test_sockets_that_are_given(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        async with serving(sock=listener, backlog=3):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            case(await echoed(sock=client))
            case(client.fileno(), client.gettimeout())
        with contextlib.suppress(FileNotFoundError):  # asyncio leaves it there before 3.13
            os.unlink(path)

    parity(body)


def test_arguments_that_contradict(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        loop = asyncio.get_running_loop()
        for create in (loop.create_unix_connection, loop.create_unix_server):
            case(await outcome(create(asyncio.Protocol)))
            with socket.socket(socket.AF_UNIX) as sock:
                case(await outcome(create(asyncio.Protocol, path, sock=sock)))
            case(await outcome(create(asyncio.Protocol, path, ssl_handshake_timeout=1)))
            case(await outcome(create(asyncio.Protocol, path, ssl_shutdown_timeout=1)))
            case(await outcome(create(asyncio.Protocol, 1)))
            for arguments in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_DGRAM)):
                with socket.socket(*arguments) as sock:
                    name, text = await outcome(create(asyncio.Protocol, sock=sock))
                    case(name, text.replace(str(sock.fileno()), "N"))
        case(await outcome(loop.create_unix_connection(asyncio.Protocol, path, server_hostname="name")))
        case(await outcome(loop.create_unix_connection(asyncio.Protocol, path, ssl=True)))
        case(await outcome(loop.create_unix_server(asyncio.Protocol, path, ssl=True)))
        case(os.listdir(directory))

    parity(body)


def test_nobody_listens(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        loop = asyncio.get_running_loop()
        case(await outcome(loop.create_unix_connection(asyncio.Protocol, path)))
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            case(await outcome(loop.create_unix_connection(asyncio.Protocol, path)))
        os.unlink(path)

    parity(body)


def test_what_is_in_the_way(parity, directory, caplog):
    """A socket file is removed, another file is not."""
    path = f"{directory}/s"

    async def body(case):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        async with serving(path):
            case(await echoed(path))
        pathlib.Path(path).unlink(missing_ok=True)
        pathlib.Path(path).write_text("precious")
        case(await outcome(loop.create_unix_server(asyncio.Protocol, path)))
        case(pathlib.Path(path).read_text())
        case(await outcome(loop.create_unix_server(asyncio.Protocol, f"{directory}/none/s")))
        with caplog.at_level(logging.ERROR, "asyncio"):
            case(await outcome(loop.create_unix_server(asyncio.Protocol, f"{path}/s")))
        case([record.getMessage() for record in caplog.records])
        caplog.clear()
        os.unlink(path)

    parity(body)


def test_start_serving(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        async with serving(path, start_serving=False) as server:
            case(server.is_serving(), await outcome(asyncio.open_unix_connection(path)))
            await server.start_serving()
            case(server.is_serving(), await echoed(path))

    parity(body)


@cleaning
@pytest.mark.parametrize("cleanup", [True, False, None])
def test_the_file_goes_with_the_server(parity, directory, cleanup):
    path = f"{directory}/s"
    options = {} if cleanup is None else {"cleanup_socket": cleanup}

    async def body(case):
        async with serving(path, **options) as server:
            case(os.path.exists(path))
            server.close()
            case(os.path.exists(path))
            server.close()
        pathlib.Path(path).unlink(missing_ok=True)

    parity(body)


@cleaning
def test_the_file_of_a_socket_that_was_given_goes(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        async with serving(sock=listener):
            case(os.path.exists(path))
        case(os.path.exists(path))

    parity(body)


@cleaning
def test_the_file_of_another_server_stays(parity, directory):
    path = f"{directory}/s"

    async def body(case):
        async with serving(path) as first:
            os.rename(path, f"{directory}/elsewhere")
            async with serving(path):
                first.close()
                case(sorted(os.listdir(directory)), await echoed(path))
            case(os.listdir(directory))
        os.unlink(f"{directory}/elsewhere")

    parity(body)


@cleaning
def test_the_file_is_gone_already(parity, directory, caplog):
    path = f"{directory}/s"

    async def body(case):
        async with serving(path):
            os.unlink(path)
        case(os.listdir(directory), caplog.records)

    parity(body)


def test_a_cancelled_connection_leaves_no_socket(parity, directory):
    """The descriptors are counted after every test."""
    path = f"{directory}/s"

    async def body(case):
        async with serving(path):
            task = asyncio.create_task(asyncio.open_unix_connection(path))
            await asyncio.sleep(0)
            task.cancel()
            case(type((await asyncio.gather(task, return_exceptions=True))[0]).__name__)

    parity(body)


@pytest.mark.ferrio_only("asyncio's calls are known by their Python frames")
def test_no_call_of_the_os_module_looks_as_if_it_blocked(loop, directory, monkeypatch):
    """Tools that find blocking calls in coroutines replace these functions with others that refuse."""
    path = f"{directory}/s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()

    def refuse(*args, **kwargs):
        raise AssertionError("a call that blocks")

    async def main():
        async with serving(path):
            return await echoed(path)

    for name in ("stat", "remove", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    try:
        answer = loop.run_until_complete(main())
    finally:
        monkeypatch.undo()
    assert answer[0] == b"hello\n"
    assert not os.path.exists(path)
