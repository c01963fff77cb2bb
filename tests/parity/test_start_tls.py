"""TLS from the middle of a connection on."""

import asyncio
import functools
import os
import socket
import ssl

import pytest
from support.peers import Recording, tcp_pair, turns
from support.tls import Accepted, client_context, connected, listening, outcome, server_context, versions

import ferrio

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.every_door
@versions
def test_start_tls_on_both_ends(parity, version):
    async def body(case):
        loop = asyncio.get_running_loop()
        made = asyncio.Queue()
        listener = await loop.create_server(lambda: Accepted(lambda *event: None, made), "127.0.0.1", 0)
        _, ours = await loop.create_connection(
            lambda: Recording(lambda *event: case("client", *event)), *listener.sockets[0].getsockname()
        )
        theirs = await made.get()
        ours.transport.write(b"in the clear")
        await theirs.until("data_received")
        both = await asyncio.gather(
            loop.start_tls(theirs.transport, theirs, server_context(version=version), server_side=True),
            loop.start_tls(ours.transport, ours, client_context(), server_hostname="localhost"),
        )
        theirs.transport, ours.transport = both
        case([transport.get_extra_info("ssl_object").version() for transport in both])
        ours.transport.write(b"secret")
        await theirs.until("data_received")
        theirs.transport.write(b"answer")
        await ours.until("data_received")
        case(bytes(theirs.data))
        ours.transport.close()
        await ours.lost
        await theirs.lost
        listener.close()

    recorded, _ = parity(body)
    assert b"in the clearsecret" in recorded
    # Once, by the transport in the clear.
    assert recorded.count(("client", "connection_made")) == 1


@pytest.mark.asyncio_since("3.14", "handed over what the reader had")
def test_start_tls_of_streams_with_data_in_flight(parity):
    """The client's hello is on its way, and may be there, when the server decides."""

    async def body(case):
        async def serve(reader, writer):
            case(await reader.readline())
            writer.write(b"go ahead\n")
            await asyncio.sleep(0.02)
            await writer.start_tls(server_context())
            case(await reader.readline())
            writer.write(b"secret answer\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        case(await reader.readline())
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"secret\n")
        case(await reader.readline(), await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()

    recorded, errors = parity(body)
    assert recorded[-1] == (b"secret answer\n", b"")
    assert not errors


@pytest.mark.every_door
def test_start_tls_behind_the_end(parity):
    """The peer had ended its side, and the protocol kept the other: no handshake can come of it."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with tcp_pair() as (ours, theirs):
            transport, protocol = await loop.create_connection(
                lambda: Recording(case, eof_received=lambda protocol: True), sock=ours
            )
            theirs.shutdown(socket.SHUT_WR)
            await protocol.until("eof_received")
            case(await outcome(loop.start_tls(transport, protocol, client_context(), server_hostname="localhost")))
            case(transport.is_closing())
            await turns()

    recorded, _ = parity(body)
    assert ("ConnectionResetError", "") in recorded


@versions
def test_tls_inside_tls(parity, version):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with connected(lambda *event: None, server_context(version=version)) as (ours, theirs):
            outer = ours.transport, theirs.transport
            inner = await asyncio.gather(
                loop.start_tls(theirs.transport, theirs, server_context(version=version), server_side=True),
                loop.start_tls(ours.transport, ours, client_context(), server_hostname="localhost"),
            )
            theirs.transport, ours.transport = inner
            data = os.urandom(300_000)
            ours.transport.write(data)
            while len(theirs.data) < len(data):
                await theirs.until("data_received")
            case(theirs.data == data, all(transport not in outer for transport in inner))
            ours.transport.close()
            case(type(await theirs.lost).__name__, type(await ours.lost).__name__)

    assert parity(body)[0][0] == (True, True)


@pytest.mark.ferrio_only("asyncio makes another context in its place")
def test_a_context_that_is_false(loop):
    class Context(ssl.SSLContext):
        def __bool__(self):
            return False

    async def body():
        with tcp_pair() as (ours, _):
            transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
            with pytest.raises(TypeError, match=r"expected to be an instance of ssl\.SSLContext"):
                await loop.start_tls(transport, protocol, Context(ssl.PROTOCOL_TLS_CLIENT))
            transport.abort()
            await turns()

    loop.run_until_complete(body())


def test_what_start_tls_refuses(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        transport = asyncio.Transport()
        case(await outcome(loop.start_tls(transport, asyncio.Protocol(), "no context")))
        name, text = await outcome(loop.start_tls(transport, asyncio.Protocol(), client_context()))
        case(name, text.startswith("transport <") and text.endswith("is not supported by start_tls()"))
        async with listening() as (address, accept):
            transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
            for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
                for value in (0, -1):
                    arguments = {"server_hostname": "localhost", name: value}
                    case(await outcome(loop.start_tls(transport, protocol, client_context(), **arguments)))
            transport.abort()
            await turns()

    recorded, _ = parity(body)
    assert recorded[0][0] == recorded[1][0] == "TypeError"
    assert recorded[2] == ("ValueError", "ssl_handshake_timeout should be a positive number, got 0")


@pytest.mark.asyncio_since("3.14", "refused it at once, and not in a callback that nobody waits for,")
def test_start_tls_without_the_name_that_is_to_be_checked(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
            case(await outcome(loop.start_tls(transport, protocol, client_context())))
            transport.abort()
            await turns()

    assert parity(body)[0] == [("ValueError", "check_hostname requires server_hostname")]


def test_start_tls_that_fails_closes(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            transport, protocol = await loop.create_connection(lambda: Recording(lambda *event: None), *address)
            sock = await accept()
            upgrading = asyncio.ensure_future(
                loop.start_tls(transport, protocol, client_context(), server_hostname="localhost")
            )
            await loop.sock_recv(sock, 10_000)
            await loop.sock_sendall(sock, b"500 no such command\r\n")
            name, _ = await outcome(upgrading)
            case(name, transport.is_closing())
            await turns()

    assert parity(body)[0] == [("SSLError", True)]


@pytest.mark.ferrio_only("it is about the module's own names")
def test_start_tls_of_the_modules_streams_with_data_in_flight(engine):
    async def body():
        answered = ferrio.Event()

        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"go ahead\n")
            await answered.wait()
            await turns(20)
            await writer.start_tls(server_context())
            assert await reader.readline() == b"secret\n"
            writer.write(b"secret answer\n")
            await writer.drain()
            writer.close()

        server = await ferrio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await ferrio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        upgrading = ferrio.create_task(writer.start_tls(client_context(), server_hostname="localhost"))
        await turns()
        answered.set()
        await upgrading
        writer.write(b"secret\n")
        assert await reader.read() == b"secret answer\n"
        writer.close()
        await writer.wait_closed()
        server.close()

    ferrio.run(body())


@pytest.mark.parametrize("is_lost", [False, True], ids=["closing", "lost"])
def test_start_tls_on_a_transport_that_is_closed(is_lost):
    """asyncio returns None in the turn of the closing, and waits later for as long as a handshake may take."""

    async def main():
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        events = []
        transport, protocol = await loop.create_connection(
            lambda: Recording(lambda *event: events.append(event)), *listener.sockets[0].getsockname()
        )
        transport.close()
        if is_lost:
            await protocol.lost
        start = functools.partial(loop.start_tls, transport, protocol, client_context(), server_hostname="localhost")
        with pytest.raises(ValueError, match="ssl_handshake_timeout should be"):
            await start(ssl_handshake_timeout=0)
        with pytest.raises(ConnectionAbortedError):
            await start()
        await protocol.lost
        listener.close()
        return events

    events = ferrio.run(main())
    assert [name for name, *_ in events].count("connection_lost") == 1
