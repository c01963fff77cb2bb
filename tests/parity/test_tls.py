"""TLS: a connection from begin to end, what it tells, and every place where ssl= is taken.

The tests of TLS run on both of ferrio's ways to OpenSSL."""

import array
import asyncio
import contextlib
import os
import socket
import ssl

import pytest
from support.peers import Recording, turns
from support.tls import (
    TLS12,
    TLS13,
    Accepted,
    Peer,
    Plain,
    client_context,
    connected,
    echo,
    encrypted,
    listening,
    outcome,
    server_context,
    serving,
    versions,
)

import ferrio

pytestmark = pytest.mark.usefixtures("engine")


# From begin to end


@pytest.mark.every_door
@versions
def test_a_connection_from_begin_to_end(parity, version):
    async def body(case):
        made = asyncio.Queue()
        factory = lambda: Accepted(case, made, data_received=echo)  # noqa: E731
        async with serving(factory, server_context(version=version)) as connect:
            peer = await connect()
            protocol = await made.get()
            case(protocol.transport.get_protocol() is protocol, peer.ssl.version())
            await peer.write(b"hello")
            case(await peer.read())
            await peer.close()
            case(await protocol.lost, protocol.transport.is_closing())

    recorded, errors = parity(body)
    assert recorded == [
        "connection_made",
        (True, {TLS12: "TLSv1.2", TLS13: "TLSv1.3"}[version]),
        ("data_received", "bytes", b"hello"),
        b"hello",
        "eof_received",
        ("connection_lost", "NoneType", "None"),
        (None, True),
    ]
    assert not errors


@pytest.mark.ferrio_only("it is about the two ways")
def test_the_way_is_the_one_that_was_asked_for(loop, engine):
    async def body():
        async with connected(lambda *event: None) as (ours, theirs):
            assert ours.transport._is_direct == theirs.transport._is_direct == (engine == "direct")

    loop.run_until_complete(body())


@pytest.mark.every_door
@versions
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 100_000, 3_000_000])
def test_data_of_every_size_both_ways(loop, version, size):
    async def body():
        made = asyncio.Queue()
        factory = lambda: Accepted(lambda *event: None, made, data_received=echo)  # noqa: E731
        async with serving(factory, server_context(version=version)) as connect:
            peer = await connect()
            data = os.urandom(size)
            writing = asyncio.ensure_future(peer.loop.sock_sendall(peer.sock, encrypted(peer, data)))
            assert await peer.read_exactly(size) == data
            await writing

    loop.run_until_complete(body())


def test_a_record_in_pieces_and_records_together(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            record = encrypted(peer, b"in pieces")
            for index in range(len(record)):
                await peer.loop.sock_sendall(peer.sock, record[index : index + 1])
                await turns(2)
            await protocol.until("data_received")
            await peer.loop.sock_sendall(peer.sock, b"".join(encrypted(peer, bytes([65 + n])) for n in range(5)))
            await protocol.until("data_received")
            protocol.transport.abort()

    recorded, _ = parity(body)
    assert recorded[1:3] == [("data_received", "bytes", b"in pieces"), ("data_received", "bytes", b"ABCDE")]


class Buffered(asyncio.BufferedProtocol):
    """Has its data put into what `buffer` returns."""

    def __init__(self, buffer, size=0):
        self.buffer, self.size = buffer, size
        self.got = bytearray()
        loop = asyncio.get_running_loop()
        self.done, self.lost = loop.create_future(), loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.lent = self.buffer()
        return self.lent

    def buffer_updated(self, count):
        self.got += memoryview(self.lent).cast("B")[:count]
        if len(self.got) >= self.size:
            self.done.set_result(None)

    def connection_lost(self, exc):
        self.lost.set_result(type(exc).__name__)


BUFFERS = {
    "10 bytes": lambda: bytearray(10),
    "a record": lambda: bytearray(1 << 14),
    "less than two records": lambda: bytearray(20_000),
    "more than all": lambda: bytearray(400_000),
    "a part": lambda: memoryview(bytearray(30_000))[5_000:],
    "numbers": lambda: array.array("q", bytes(80_000)),
}


@pytest.mark.ferrio_only("asyncio's loop gives other bytes where a record fills a buffer more than once")
@pytest.mark.parametrize("size", [1_000, 300_000])
@pytest.mark.parametrize("kind", BUFFERS)
def test_a_protocol_with_a_buffer_of_its_own(loop, kind, size):
    async def body():
        protocol = Buffered(BUFFERS[kind], size)
        async with serving(lambda: protocol) as connect:
            peer = await connect()
            data = os.urandom(size)
            await peer.write(data)
            await protocol.done
            assert protocol.got == data
            protocol.transport.abort()

    loop.run_until_complete(body())


class Empty:
    def __len__(self):
        return 10

    def __buffer__(self, flags):
        return memoryview(bytearray())


def fail():
    raise ZeroDivisionError


@pytest.mark.ferrio_only("asyncio's loop asks the object, and the socket, in another order")
@pytest.mark.parametrize("buffer", [bytes, bytearray, Empty, lambda: bytes(10), lambda: 1, fail])
def test_a_buffer_that_cannot_be_had(loop, events, buffer):
    async def body():
        protocol = Buffered(buffer)
        async with serving(lambda: protocol) as connect:
            peer = await connect()
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: events.append(context["message"]))
            await peer.write(b"data")
            events.append(await protocol.lost)

    loop.run_until_complete(body())
    assert events[0] == "Fatal error on SSL protocol"
    assert events[1] in ("RuntimeError", "BufferError", "TypeError", "ZeroDivisionError")


def test_what_is_written_is_what_it_was_at_the_call(loop):
    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            transport = (await made.get()).transport
            data = bytearray(b"before")
            transport.write(data)
            data[:] = b"after!"
            transport.write(memoryview(b"-view-"))
            transport.writelines([b"a", b"", bytearray(b"b"), b"c" * 20_000])
            assert await peer.read_exactly(15) == b"before-view-abc"
            transport.abort()

    loop.run_until_complete(body())


# What can be asked


@versions
def test_what_get_extra_info_tells(parity, version):
    async def body(case):
        server, client = server_context(version=version), client_context()
        client.set_alpn_protocols(["h2", "http/1.1"])
        server.set_alpn_protocols(["http/1.1"])
        async with connected(case, server, client) as (ours, theirs):
            for end, context in ((ours, client), (theirs, server)):
                ask = end.transport.get_extra_info
                tls = ask("ssl_object")
                case(type(tls) is ssl.SSLObject, ask("sslcontext") is context, tls.selected_alpn_protocol())
                case(ask("cipher") == tls.cipher(), ask("compression"), ask("peercert") == tls.getpeercert())
                case(tls.version(), tls.server_side, tls.server_hostname, ask("nothing", "default"))
                case(ask("peername")[0], ask("socket").family)
            subject = ours.transport.get_extra_info("peercert")["subject"]
            case(subject, theirs.transport.get_extra_info("peercert"))

    recorded, _ = parity(body)
    assert (((("commonName", "localhost"),),), None) in recorded


def test_the_names_that_programs_tell_it_by(parity):
    async def body(case):
        async with connected(case) as (ours, _):
            transport = ours.transport
            case(isinstance(transport, asyncio.Transport), "ssl" in transport.__class__.__name__.lower())
            case(transport.can_write_eof(), transport._start_tls_compatible, transport.get_write_buffer_limits())
            with pytest.raises(NotImplementedError):
                transport.write_eof()
            for wrong in ("text", None, 5):
                case.raised(transport.write, wrong)
            case.raised(transport.set_write_buffer_limits, high=1, low=2)
            case(transport.get_read_buffer_limits(), transport.get_read_buffer_size())

    parity(body)


# Everywhere else where ssl= is taken


def test_unix_sockets(parity, tmp_path):
    async def body(case):
        loop = asyncio.get_running_loop()
        path = str(tmp_path / f"{case.name}.sock")
        made = asyncio.Queue()
        server = await loop.create_unix_server(lambda: Accepted(case, made), path, ssl=server_context())
        transport, _ = await loop.create_unix_connection(
            asyncio.Protocol, path, ssl=client_context(), server_hostname="localhost"
        )
        protocol = await made.get()
        transport.write(b"hello")
        await protocol.until("data_received")
        transport.close()
        await protocol.lost
        server.close()

    assert ("data_received", "bytes", b"hello") in parity(body)[0]


def test_a_connection_that_was_accepted_elsewhere(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, address)
            peer = Peer(client, client_context())
            shaking = asyncio.ensure_future(peer.handshake())
            transport, protocol = await loop.connect_accepted_socket(
                lambda: Recording(case), await accept(), ssl=server_context()
            )
            await shaking
            await peer.write(b"hello")
            await protocol.until("data_received")
            transport.abort()
            await protocol.lost
            client.close()

    parity(body)


@pytest.mark.parametrize("trusted", [True, False])
def test_the_loop_makes_a_transport_for_those_who_ask_it(parity, trusted):
    """Which is asyncio's own business, but there are libraries that use it."""

    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        protocols, waiters = (Recording(case), Recording(case)), (loop.create_future(), loop.create_future())
        server = loop._make_ssl_transport(ours, protocols[0], server_context(), waiters[0], server_side=True)
        name = "localhost" if trusted else "another"
        client = loop._make_ssl_transport(theirs, protocols[1], client_context(), waiters[1], server_hostname=name)
        case(await outcome(waiters[1]))
        server_sees = await outcome(waiters[0])
        if trusted:
            case(server_sees, client.get_extra_info("peercert")["subject"], server.get_protocol() is protocols[0])
            client.write(b"hello")
            await protocols[0].until("data_received")
        for transport in (client, server):
            transport.abort()
        await turns()

    parity(body)


def test_a_default_context(parity, monkeypatch):
    """With ssl=True, a client's is what ssl.create_default_context makes."""
    contexts = []
    monkeypatch.setattr(ssl, "create_default_context", lambda: contexts.append(client_context()) or contexts[-1])

    async def body(case):
        loop = asyncio.get_running_loop()
        async with serving(Plain) as connect:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *connect.address, ssl=True, server_hostname="localhost"
            )
            case(transport.get_extra_info("sslcontext") is contexts[-1], contexts[-1].check_hostname)
            transport.abort()
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *connect.address, ssl=True, server_hostname=""
            )
            case(contexts[-1].check_hostname)
            transport.abort()
            await turns()

    assert parity(body)[0] == [(True, True), False]


def test_a_server_never_serves_in_the_clear(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        for wrong in (True, False):
            case(await outcome(loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=wrong)))
        async with serving(lambda: Recording(case)) as connect:
            peer = await connect(shake=False)
            await loop.sock_sendall(peer.sock, b"in the clear, please\n")
            with contextlib.suppress(ConnectionResetError):
                while await peer.feed():
                    pass
            case(b"please" in peer.incoming.read())

    assert parity(body)[0][-1] is False


def test_sending_a_file(parity, tmp_path):
    async def body(case):
        loop = asyncio.get_running_loop()
        made = asyncio.Queue()
        (tmp_path / "file").write_bytes(data := os.urandom(300_000))
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            with open(tmp_path / "file", "rb") as file:
                sending = asyncio.ensure_future(loop.sendfile(protocol.transport, file))
                case(await peer.read_exactly(len(data)) == data)
                case(await sending)
                case((await outcome(loop.sendfile(protocol.transport, file, fallback=False)))[0])

    recorded, _ = parity(body)
    assert recorded == [True, 300_000, "RuntimeError"]


@pytest.mark.ferrio_only("it is about the module's own names")
def test_the_streams_of_the_module(engine):
    async def body():
        async def serve(reader, writer):
            writer.write(await reader.readexactly(100_000))
            await writer.drain()
            writer.close()

        server = await ferrio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        reader, writer = await ferrio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        data = os.urandom(100_000)
        writer.write(data)
        assert await reader.read() == data
        writer.close()
        await writer.wait_closed()
        server.close()

    ferrio.run(body())
