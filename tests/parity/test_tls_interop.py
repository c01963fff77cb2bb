"""TLS with other programs: the openssl command on both ends, and curl."""

import asyncio
import shutil
import socket
import subprocess

import pytest
from support.tls import (
    AUTHORITY,
    CERTIFICATES,
    TLS13,
    Accepted,
    client_context,
    echo,
    server_context,
    serving,
    versions,
)

pytestmark = pytest.mark.usefixtures("engine")


openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl command")


async def talk(*command, says=()):
    """Runs a program, and tells it each thing when it has said what goes before: all that it has said."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = b""
    for until, text in says:
        while until not in said and (chunk := await process.stdout.read(1000)):
            said += chunk
        process.stdin.write(text)
    process.stdin.close()
    said += await process.stdout.read()
    await process.wait()
    return said


@openssl
@versions
def test_the_openssl_command_as_the_client(loop, version):
    """With TLS 1.3 it has the keys updated in between; with 1.2 it asks for another handshake, which is refused, as the
    context says: OpenSSL allows it to no client unless it is told to."""

    async def body():
        made = asyncio.Queue()
        factory = lambda: Accepted(lambda *event: None, made, data_received=echo)  # noqa: E731
        async with serving(factory, server_context(version=version)) as connect:
            host, port = connect.address
            client = ["openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile", str(AUTHORITY)]
            client += ["-verify_return_error", "-verify_hostname", "localhost"]
            says = [(b"", b"hello\n"), (b"hello\n", b"K\n" if version == TLS13 else b"R\n")]
            if version == TLS13:
                says += [(b"KEYUPDATE\n", b"again\n"), (b"again\n", b"Q\n")]
            said = await talk(*client, says=says)
            assert b"Verify return code: 0 (ok)" in said, said
            assert version == TLS13 or b"no renegotiation" in said or b"unexpected message" in said, said

    loop.run_until_complete(body())


@openssl
@versions
def test_the_openssl_command_as_the_server(loop, version):
    async def body():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(CERTIFICATES / "server.pem")]
        server += ["-rev", "-naccept", "1", "-tls1_3" if version == TLS13 else "-tls1_2"]
        process = await asyncio.create_subprocess_exec(*server, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        await process.stdout.readuntil(b"ACCEPT")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(), server_hostname="localhost"
        )
        writer.write(b"hello\n")
        assert await reader.readline() == b"olleh\n"
        writer.close()
        await writer.wait_closed()
        await process.stdout.read()
        await process.wait()

    loop.run_until_complete(body())


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_curl(loop):
    async def body():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + b"x" * 100_000)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        port = server.sockets[0].getsockname()[1]
        resolve = f"localhost:{port}:127.0.0.1"
        said = await talk("curl", "-sS", "--resolve", resolve, "--cacert", str(AUTHORITY), f"https://localhost:{port}/")
        assert said == b"x" * 100_000, said[:200]
        server.close()

    loop.run_until_complete(body())
