"""Arguments as programs give them: what is true or false without being True or False."""

import asyncio
import socket
import tempfile
from pathlib import Path

import pytest
from support.loops import since

pytestmark = pytest.mark.every_door


class Yes:
    def __bool__(self):
        return True


FLAGS = [1, 0, None, "", "no", [], Yes()]


def identify(flag):
    return type(flag).__name__ + str(bool(flag))


def of_a_server(**flags):
    async def call(loop):
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, **flags)
        options = [
            bool(sock.getsockopt(socket.SOL_SOCKET, option))
            for sock in server.sockets
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_KEEPALIVE)
        ]
        serving = server.is_serving()
        server.close()
        return options, serving

    return call


def of_a_unix_server(**flags):
    async def call(loop):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "socket")
            server = await loop.create_unix_server(asyncio.Protocol, path, **flags)
            serving = server.is_serving()
            server.close()
            # Older ones leave the file.
            return serving, path.exists() if since(3, 13) else None

    return call


async def all_errors(loop, flag):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        try:
            await loop.create_connection(asyncio.Protocol, *nobody.getsockname(), all_errors=flag)
        except Exception as error:
            return type(error).__name__


async def fallback(loop, flag):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs, tempfile.TemporaryFile() as file:
        file.write(b"contents")
        return await loop.sock_sendfile(ours, file, fallback=flag)


CALLS = {
    "reuse_address": lambda loop, flag: of_a_server(reuse_address=flag)(loop),
    "reuse_port": lambda loop, flag: of_a_server(reuse_port=flag)(loop),
    "start_serving": lambda loop, flag: of_a_server(start_serving=flag)(loop),
    "start_serving of a Unix server": lambda loop, flag: of_a_unix_server(start_serving=flag)(loop),
    "fallback": fallback,
}
if since(3, 12):
    CALLS["all_errors"] = all_errors
if since(3, 13):
    CALLS["keep_alive"] = lambda loop, flag: of_a_server(keep_alive=flag)(loop)
    CALLS["cleanup_socket"] = lambda loop, flag: of_a_unix_server(cleanup_socket=flag)(loop)


@pytest.mark.parametrize("flag", FLAGS, ids=identify)
@pytest.mark.parametrize("call", CALLS)
def test_flags(parity, call, flag):
    async def body(case):
        case(await CALLS[call](case.loop, flag))

    parity(body)
