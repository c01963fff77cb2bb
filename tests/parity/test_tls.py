"""TLS: what protocols are told, what peers see, and what is raised, on both of ferrio's ways to OpenSSL."""

import asyncio
import contextlib
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import warnings
import weakref

import pytest
from support.peers import Recording, turns
from support.tls import (
    AUTHORITY,
    CERTIFICATES,
    TLS12,
    TLS13,
    Peer,
    client_context,
    listening,
    server_context,
    serving,
)

import ferrio


@pytest.fixture(autouse=True, params=["direct", "portable"])
def engine(request, monkeypatch):
    """Both ways, by the variable that users have."""
    monkeypatch.setenv("FERRIO_TLS", request.param)
    return request.param


versions = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


class Accepted(Recording):
    """A server's protocol: the test gets it from a queue."""

    def __init__(self, record, made, **on):
        super().__init__(record, **on)
        self.made = made

    def connection_made(self, transport):
        super().connection_made(transport)
        self.made.put_nowait(self)


class Plain(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport


def echo(protocol):
    protocol.transport.write(bytes(protocol.data))
    protocol.data.clear()


async def outcome(awaitable):
    """What is raised, without the line of C that CPython puts into the text."""
    try:
        await awaitable
    except Exception as error:
        return type(error).__name__, str(error).partition(" (_ssl.c")[0]
    return "nothing raised"


@contextlib.asynccontextmanager
async def connected(case, server=None, client=None, server_on=None, **client_on):
    """Two ends on the loop under test: the client's protocol and the server's, both recording."""
    loop = asyncio.get_running_loop()
    made = asyncio.Queue()
    listener = await loop.create_server(
        lambda: Accepted(lambda *event: case("server", *event), made, **(server_on or {})),
        "127.0.0.1",
        0,
        ssl=server or server_context(),
    )
    _, ours = pair = await loop.create_connection(
        lambda: Recording(lambda *event: None, **client_on),
        *listener.sockets[0].getsockname(),
        ssl=client or client_context(),
        server_hostname="localhost",
    )
    theirs = await made.get()
    del pair, _
    try:
        yield ours, theirs
    finally:
        for protocol in (ours, theirs):
            if protocol.transport:
                protocol.transport.abort()
            await protocol.lost
        listener.close()


# From begin to end


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


def encrypted(peer, data):
    peer.ssl.write(data)
    return peer.outgoing.read()


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


def test_a_protocol_with_a_buffer_of_its_own(parity):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(10)
            self.got = bytearray()
            self.done = asyncio.get_running_loop().create_future()

        def connection_made(self, transport):
            self.transport = transport

        def get_buffer(self, sizehint):
            return self.buffer

        def buffer_updated(self, count):
            self.got += self.buffer[:count]
            if len(self.got) >= 1000:
                self.done.set_result(None)

    async def body(case):
        protocol = Buffered()
        async with serving(lambda: protocol) as connect:
            peer = await connect()
            data = os.urandom(1000)
            await peer.write(data)
            await protocol.done
            case(protocol.got == data)
            protocol.transport.abort()

    assert parity(body)[0] == [True]


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


# Who is trusted


@versions
@pytest.mark.parametrize("what", ["unknown authority", "another name"])
def test_a_server_that_is_not_to_be_trusted(parity, version, what):
    async def body(case):
        loop = asyncio.get_running_loop()
        client = client_context(version=version)
        if what == "unknown authority":
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server = server_context("other.pem" if what == "another name" else "server.pem", version)
        listener = await loop.create_server(lambda: Recording(case), "127.0.0.1", 0, ssl=server)
        address = listener.sockets[0].getsockname()
        try:
            await loop.create_connection(lambda: Recording(case), *address, ssl=client, server_hostname="localhost")
        except ssl.SSLError as error:
            case(type(error).__name__, error.reason, error.library, error.errno)
            if isinstance(error, ssl.SSLCertVerificationError):
                case(error.verify_code, error.verify_message)
        listener.close()

    recorded, errors = parity(body)
    assert recorded[0][0] == "SSLCertVerificationError"
    assert not errors


@pytest.mark.ferrio_only("asyncio closes without a word")
@versions
def test_a_peer_is_told_why(loop, version):
    async def body():
        async with listening() as (address, accept):
            client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            connecting = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, *address, ssl=client, server_hostname="localhost")
            )
            peer = Peer(await accept(), server_context(version=version), server_side=True)

            async def listen():
                # With TLS 1.3 the server learns of it behind its handshake.
                await peer.handshake()
                await peer.read()

            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                await listen()
            with pytest.raises(ssl.SSLCertVerificationError):
                await connecting

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio's server closes without a word")
@versions
def test_no_version_in_common(loop, version):
    async def body():
        client = client_context(version={TLS12: TLS13, TLS13: TLS12}[version])
        async with serving(Plain, server_context(version=version)) as connect:
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                await loop.create_connection(
                    asyncio.Protocol, *connect.address, ssl=client, server_hostname="localhost"
                )

    loop.run_until_complete(body())


@versions
def test_a_client_with_a_certificate(parity, version):
    async def body(case):
        server = server_context(version=version)
        server.load_verify_locations(AUTHORITY)
        server.verify_mode = ssl.CERT_REQUIRED
        async with connected(case, server, client_context("client.pem")) as (_, theirs):
            case(theirs.transport.get_extra_info("peercert")["subject"])

    assert ((("commonName", "a client"),),) in parity(body)[0]


def test_a_client_without_the_certificate_that_is_asked_for(parity):
    """With TLS 1.3 the client learns of it after its handshake."""

    async def body(case):
        server = server_context(version=TLS13)
        server.load_verify_locations(AUTHORITY)
        server.verify_mode = ssl.CERT_REQUIRED
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Recording(case), "127.0.0.1", 0, ssl=server)
        address = listener.sockets[0].getsockname()
        _, protocol = await loop.create_connection(
            lambda: Recording(lambda *event: None), *address, ssl=client_context(), server_hostname="localhost"
        )
        await protocol.lost
        listener.close()

    recorded, errors = parity(body)
    assert not recorded
    assert not errors


def test_a_certificate_for_each_name(parity):
    async def body(case):
        server, other = server_context(), server_context("other.pem")

        def choose(tls, name, context):
            case("asked for", name)
            if name == "other.example":
                tls.context = other

        server.sni_callback = choose
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server)
        for name in ("localhost", "other.example"):
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *listener.sockets[0].getsockname(), ssl=client_context(), server_hostname=name
            )
            case(transport.get_extra_info("peercert")["subject"])
            transport.abort()
        listener.close()

    parity(body)


def test_a_callback_of_the_context_that_fails(loop, monkeypatch):
    """It ends the handshake, and is told to the hook for what cannot be raised."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: unraisable.append(type(report.exc_value)))

    async def body():
        server = server_context()
        server.sni_callback = lambda *arguments: 1 / 0
        async with serving(Plain, server) as connect:
            with pytest.raises((ssl.SSLError, EOFError, ConnectionResetError)):
                await connect()

    loop.run_until_complete(body())
    assert unraisable == [ZeroDivisionError]


@pytest.mark.ferrio_only("it looks for ferrio's transports")
def test_a_callback_that_writes_and_closes_meanwhile(loop):
    """The library calls back in the middle of the handshake of the very connection."""

    async def body():
        server = server_context()
        made = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                made.append(transport)

        def choose(tls, name, context):
            for transport in gc.get_objects():
                if type(transport).__name__ == "TlsTransport" and "handshake" in repr(transport):
                    transport.write(b"too early")
                    transport.close()

        server.sni_callback = choose
        async with serving(Protocol, server) as connect:
            with pytest.raises((ssl.SSLError, EOFError, ConnectionResetError)):
                await connect()
        assert not made

    loop.run_until_complete(body())


@versions
def test_a_session_is_used_again(parity, version):
    async def body(case):
        client = client_context(version=version)
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made, data_received=echo)) as connect:
            peer = await connect(client)
            await peer.write(b"x")
            await peer.read()
            session = peer.ssl.session
            await peer.close()
            again = await connect(client, shake=False)
            again.ssl.session = session
            await again.handshake()
            await made.get()
            theirs = await made.get()
            case(again.ssl.session_reused, theirs.transport.get_extra_info("ssl_object").session_reused)
            theirs.transport.abort()

    assert parity(body)[0] == [(True, True)]


def test_authentication_behind_the_handshake(parity):
    async def body(case):
        server = server_context(version=TLS13)
        server.load_verify_locations(AUTHORITY)
        server.post_handshake_auth = True
        client = client_context("client.pem")
        client.post_handshake_auth = True

        def ask(protocol):
            tls = protocol.transport.get_extra_info("ssl_object")
            if protocol.data == b"login":
                tls.context.verify_mode = ssl.CERT_REQUIRED
                tls.verify_client_post_handshake()
                protocol.transport.write(b"who are you?")
            else:
                case(tls.getpeercert()["subject"])
                protocol.transport.write(b"welcome")

        made = asyncio.Queue()
        server.verify_mode = ssl.CERT_OPTIONAL
        async with serving(lambda: Accepted(lambda *event: None, made, data_received=ask), server) as connect:
            peer = await connect(client)
            await peer.write(b"login")
            case(await peer.read())
            await peer.write(b"me")
            case(await peer.read())
            (await made.get()).transport.abort()

    parity(body)


def test_keys_are_logged(loop, tmp_path):
    async def body():
        server = server_context()
        server.keylog_filename = tmp_path / "keys"
        async with connected(lambda *event: None, server):
            pass

    loop.run_until_complete(body())
    assert "SERVER_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


def test_messages_are_shown_to_the_callback(loop):
    """Which makes data go by the object's own methods: what the callback raises is kept there."""
    seen = []

    async def body():
        server = server_context()
        server._msg_callback = lambda connection, direction, version, kind, message, data: seen.append(direction)
        async with connected(lambda *event: None, server) as (ours, theirs):
            ours.transport.write(b"x")
            await theirs.until("data_received")

    loop.run_until_complete(body())
    assert {"read", "write"} <= set(seen)


def test_a_class_of_the_context_for_its_objects(parity):
    class Shouting(ssl.SSLObject):
        def read(self, *arguments):
            return super().read(*arguments).upper()

    async def body(case):
        made = asyncio.Queue()
        server = server_context()
        server.sslobject_class = Shouting
        async with serving(lambda: Accepted(case, made), server) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"hello")
            await protocol.until("data_received")
            case(type(protocol.transport.get_extra_info("ssl_object")) is Shouting)

    assert parity(body)[0][1:3] == [("data_received", "bytes", b"HELLO"), True]


def test_a_key_under_a_password(loop):
    async def body():
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "encrypted.key", password="secret")
        async with connected(lambda *event: None, server) as (ours, _):
            assert ours.transport.get_extra_info("cipher")

    loop.run_until_complete(body())


# Handshakes that do not come to their end


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(300), b"\0" * 600])
def test_garbage_in_the_place_of_a_hello(parity, garbage):
    async def body(case):
        async with serving(lambda: Recording(case)) as connect:
            peer = await connect(shake=False)
            await peer.loop.sock_sendall(peer.sock, garbage)
            with contextlib.suppress(ConnectionResetError):
                while await peer.feed():
                    pass
            case("closed")

    recorded, errors = parity(body)
    assert recorded == ["closed"]
    assert not errors


def test_a_server_that_does_not_speak_tls(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            connecting = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, *address, ssl=client_context(), server_hostname="localhost")
            )
            sock = await accept()
            await loop.sock_sendall(sock, b"220 mail.example ESMTP\r\n")
            name, text = await outcome(connecting)
            case(name, "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text)

    assert parity(body)[0] == [("SSLError", True)]


@pytest.mark.parametrize("alert", [b"\x01\x00", b"\x02\x28"], ids=["close_notify", "handshake_failure"])
def test_a_server_that_answers_with_an_alert(parity, alert):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            connecting = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, *address, ssl=client_context(), server_hostname="localhost")
            )
            sock = await accept()
            await loop.sock_sendall(sock, b"\x15\x03\x03\x00\x02" + alert)
            with pytest.raises(ssl.SSLError) as caught:
                await connecting
            case(type(caught.value).__name__, caught.value.args, str(caught.value), vars(caught.value))

    recorded, _ = parity(body)
    assert recorded[0][0] == {1: "SSLZeroReturnError", 2: "SSLError"}[alert[0]]


@versions
def test_a_handshake_that_is_cut_at_each_byte(loop, version):
    """The peer leaves; the protocol never hears of it, nothing is reported, and nothing is left open."""

    async def body():
        told = []
        descriptors = len(os.listdir("/proc/self/fd"))
        async with serving(lambda: Recording(lambda *event: told.append(event)), server_context()) as connect:
            probe = await connect(client_context(version=version), shake=False)
            with pytest.raises(ssl.SSLWantReadError):
                probe.ssl.do_handshake()
            hello = probe.outgoing.read()
            step = 1 if version == TLS12 else 3
            for cut in range(1, len(hello), step):
                peer = await connect(shake=False)
                await loop.sock_sendall(peer.sock, hello[:cut])
                peer.sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while await peer.feed():
                        pass
                peer.abandon()
        await turns()
        assert not told
        assert len(os.listdir("/proc/self/fd")) <= descriptors

    loop.run_until_complete(body())


@versions
def test_a_handshake_byte_by_byte(parity, version):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect(client_context(version=version), shake=False)
            while True:
                try:
                    peer.ssl.do_handshake()
                    shaken = True
                except ssl.SSLWantReadError:
                    shaken = False
                for byte in peer.outgoing.read():
                    await peer.loop.sock_sendall(peer.sock, bytes([byte]))
                    await turns(1)
                if shaken:
                    break
                await peer.feed()
            protocol = await made.get()
            await peer.write(b"there")
            await protocol.until("data_received")
            protocol.transport.abort()

    assert parity(body)[0][:2] == ["connection_made", ("data_received", "bytes", b"there")]


def test_a_client_that_stalls_while_others_are_served(loop):
    async def body():
        made = asyncio.Queue()
        factory = lambda: Accepted(lambda *event: None, made, data_received=echo)  # noqa: E731
        async with serving(factory) as connect:
            stalled = [await connect(shake=False) for _ in range(5)]
            for peer in stalled:
                with pytest.raises(ssl.SSLWantReadError):
                    peer.ssl.do_handshake()
                await loop.sock_sendall(peer.sock, peer.outgoing.read()[:50])
            for _ in range(5):
                peer = await connect()
                await peer.write(b"hello")
                assert await peer.read() == b"hello"
                await peer.close()

    loop.run_until_complete(body())


def test_a_handshake_that_takes_too_long(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            case(
                await outcome(
                    loop.create_connection(
                        lambda: Recording(case),
                        *address,
                        ssl=client_context(),
                        server_hostname="localhost",
                        ssl_handshake_timeout=0.02,
                    )
                )
            )
            sock = await accept()
            async with serving(lambda: Recording(case), ssl_handshake_timeout=0.02) as connect:
                peer = await connect(shake=False)
                case(await peer.feed(), sock.fileno() > 0)

    recorded, errors = parity(body)
    text = "SSL handshake is taking longer than 0.02 seconds: aborting the connection"
    assert recorded[0] == ("ConnectionAbortedError", text)
    assert not errors


def test_a_peer_that_leaves_in_the_handshake(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        async with listening() as (address, accept):
            connecting = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, *address, ssl=client_context(), server_hostname="localhost")
            )
            sock = await accept()
            await loop.sock_recv(sock, 10_000)
            sock.close()
            case(await outcome(connecting))

    assert parity(body)[0] == [("ConnectionResetError", "")]


def test_a_cancelled_handshake_closes_its_socket(loop):
    async def body():
        descriptors = len(os.listdir("/proc/self/fd"))
        async with listening() as (address, accept):
            for waits in (0, 1, 5):
                connecting = asyncio.ensure_future(
                    loop.create_connection(asyncio.Protocol, *address, ssl=client_context(), server_hostname="x")
                )
                sock = await accept()
                await turns(waits)
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
                with contextlib.suppress(ConnectionResetError):
                    while await loop.sock_recv(sock, 1000):
                        pass
                sock.close()
        await turns()
        assert len(os.listdir("/proc/self/fd")) <= descriptors

    loop.run_until_complete(body())


# Closing


@versions
def test_closing_from_this_side(parity, version):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made), server_context(version=version)) as connect:
            peer = await connect()
            protocol = await made.get()
            protocol.transport.write(b"last words")
            protocol.transport.close()
            protocol.transport.write(b"too late")
            case(protocol.transport.is_closing(), await peer.read_to_end())
            await peer.close()
            case(await protocol.lost)

    recorded, errors = parity(body)
    assert (True, (b"last words", "close_notify")) in recorded
    assert recorded[-2:] == [("connection_lost", "NoneType", "None"), None]
    assert not errors


def test_an_end_without_close_notify(parity):
    """A truncation is told as an end of file."""

    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"cut o")
            peer.sock.shutdown(socket.SHUT_WR)
            case(await protocol.lost)

    recorded, _ = parity(body)
    assert recorded[1:3] == [("data_received", "bytes", b"cut o"), "eof_received"]


def test_an_end_while_reading_is_paused(parity):
    async def body(case):
        made = asyncio.Queue()
        pause = lambda protocol: protocol.transport.pause_reading()  # noqa: E731
        async with serving(lambda: Accepted(case, made, data_received=pause)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"first")
            await protocol.until("data_received")
            case(protocol.transport.is_reading())
            await peer.write(b"second")
            peer.sock.shutdown(socket.SHUT_WR)
            await turns(20)
            case("nothing yet")
            protocol.on.clear()
            protocol.transport.resume_reading()
            case(await protocol.lost)

    recorded, _ = parity(body)
    assert recorded[2:5] == [False, "nothing yet", ("data_received", "bytes", b"second")]


def test_a_reset(parity):
    async def body(case):
        from support.peers import reset

        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            peer.sock.setblocking(True)
            reset(peer.sock)
            case(type(await protocol.lost).__name__)

    assert parity(body)[0][-1] == "ConnectionResetError"


def test_an_abort(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            protocol.transport.abort()
            case("aborted", protocol.transport.is_closing())
            case(await protocol.lost, (await peer.read_to_end())[1] != "close_notify")

    recorded, _ = parity(body)
    assert recorded[1:3] == [("aborted", True), ("connection_lost", "NoneType", "None")]


def test_a_closing_that_the_peer_does_not_answer(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made), ssl_shutdown_timeout=0.02) as connect:
            await connect()
            protocol = await made.get()
            protocol.transport.close()
            await protocol.lost

    recorded, errors = parity(body)
    assert recorded[-1] == ("connection_lost", "TimeoutError", "SSL shutdown timed out")
    assert not errors


def test_a_closing_while_the_peer_goes_on_to_send(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made), ssl_shutdown_timeout=5) as connect:
            peer = await connect()
            protocol = await made.get()
            protocol.transport.close()
            with contextlib.suppress(ConnectionError):
                while not protocol.lost.done():
                    await peer.write(b"more")
                    await turns(2)
            error = await protocol.lost
            case(type(error).__name__, getattr(error, "reason", None))

    recorded, _ = parity(body)
    assert recorded[-1] == ("SSLError", "APPLICATION_DATA_AFTER_CLOSE_NOTIFY")


def test_a_damaged_record(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            record = bytearray(encrypted(peer, b"a record"))
            record[-1] ^= 1
            await peer.loop.sock_sendall(peer.sock, record)
            error = await protocol.lost
            case(type(error).__name__, error.reason, error.library)

    recorded, errors = parity(body)
    # Which depends on the version of OpenSSL.
    assert recorded[0][1] in ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE")
    assert not errors


@pytest.mark.ferrio_only("asyncio drops it")
def test_what_came_before_a_damaged_record_is_handed_over(loop):
    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            good = encrypted(peer, b"good")
            bad = bytearray(encrypted(peer, b"bad"))
            bad[-1] ^= 1
            await loop.sock_sendall(peer.sock, good + bad)
            assert isinstance(await protocol.lost, ssl.SSLError)
            assert protocol.data == b"good"

    loop.run_until_complete(body())


# Flow control


def fill(transport, protocol):
    """Writes until the protocol is told to pause."""
    paused = []
    protocol.on["pause_writing"] = lambda _: paused.append(True)
    written = 0
    while not paused:
        transport.write(bytes(50_000))
        written += 50_000
    return written


@versions
def test_a_producer_pauses_and_goes_on(parity, version):
    async def body(case):
        made = asyncio.Queue()
        events = []
        factory = lambda: Accepted(lambda *event: events.append(event[0]), made)  # noqa: E731
        async with serving(factory, server_context(version=version)) as connect:
            peer = await connect()
            protocol = await made.get()
            written = fill(protocol.transport, protocol)
            case(protocol.transport.get_write_buffer_size() > 0)
            received = len(await peer.read_exactly(written))
            await protocol.until("resume_writing")
            case(received == written, list(events), protocol.transport.get_write_buffer_size() <= 128 * 1024)

    recorded, _ = parity(body)
    assert recorded[1] == (True, ["connection_made", "pause_writing", "resume_writing"], True)


@pytest.mark.ferrio_only("asyncio's marks do not count what waits below")
def test_the_marks_count_both_layers(loop):
    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            transport = protocol.transport
            transport.set_write_buffer_limits(0)
            assert transport.get_write_buffer_limits() == (0, 0)
            written = fill(transport, protocol)
            waiting = transport.get_write_buffer_size()
            assert 0 < waiting <= written + 10_000
            reading = asyncio.ensure_future(peer.read_exactly(written))
            await protocol.until("resume_writing")
            assert transport.get_write_buffer_size() == 0
            await reading
            transport.set_write_buffer_limits(high=100_000)
            assert fill(transport, protocol) > 100_000

    loop.run_until_complete(body())


def test_closing_sends_what_waits(loop):
    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            written = fill(protocol.transport, protocol)
            protocol.transport.write(bytes(2_000_000))
            protocol.transport.close()
            data, end = await peer.read_to_end()
            assert (len(data), end) == (written + 2_000_000, "close_notify")
            await peer.close()
            assert await protocol.lost is None

    loop.run_until_complete(body())


def test_a_peer_that_does_not_read_delays_a_closing_for_so_long(loop):
    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made), ssl_shutdown_timeout=0.05) as connect:
            await connect()
            protocol = await made.get()
            fill(protocol.transport, protocol)
            protocol.transport.write(bytes(2_000_000))
            protocol.transport.close()
            assert isinstance(await protocol.lost, TimeoutError)

    loop.run_until_complete(body())


def test_pause_and_resume_reading(parity):
    async def body(case):
        def first(protocol):
            protocol.transport.pause_reading()
            protocol.on.clear()

        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, data_received=first)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"one")
            await protocol.until("data_received")
            await peer.write(b"two")
            await turns(20)
            case(protocol.transport.is_reading())
            protocol.transport.resume_reading()
            case(protocol.transport.is_reading())
            await protocol.until("data_received")
            protocol.transport.abort()

    recorded, _ = parity(body)
    assert recorded[1:5] == [
        ("data_received", "bytes", b"one"),
        False,
        True,
        ("data_received", "bytes", b"two"),
    ]


def test_what_is_not_read_does_not_pile_up(loop):
    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            transport = protocol.transport
            transport.pause_reading()
            data = os.urandom(1 << 20)
            sending = asyncio.ensure_future(loop.sock_sendall(peer.sock, encrypted(peer, data * 8)))
            while transport.get_read_buffer_size() < transport.get_read_buffer_limits()[1]:
                await asyncio.sleep(0)
            await turns(100)
            assert transport.get_read_buffer_size() < 2 * transport.get_read_buffer_limits()[1]
            transport.resume_reading()
            await sending
            while len(protocol.data) < len(data) * 8:
                await protocol.until("data_received")
            assert protocol.data == data * 8

    loop.run_until_complete(body())


# Protocols that do as they like


class Failure(Exception):
    pass


def fail(protocol):
    raise Failure("in a protocol")


def test_an_exception_in_data_received(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, data_received=fail)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"hello")
            case(type(await protocol.lost).__name__)

    recorded, errors = parity(body)
    assert recorded[-1] == "Failure"
    assert errors == [("Fatal error on SSL protocol", ("Failure", "in a protocol"))]


def test_an_exception_in_eof_received(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, eof_received=fail)) as connect:
            peer = await connect()
            protocol = await made.get()
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.ssl.unwrap()
            await peer.flush()
            case(type(await protocol.lost).__name__)

    recorded, errors = parity(body)
    assert recorded[-1] == "Failure"
    assert errors == [("Error calling eof_received()", ("Failure", "in a protocol"))]


def test_an_exception_in_connection_made(loop, exceptions):
    """It ends the connection, as any that a protocol of a transport raises."""

    async def body():
        lost = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                raise Failure

            def connection_lost(self, exc):
                lost.append(type(exc))

        async with serving(Protocol) as connect:
            peer = await connect()
            with contextlib.suppress(ConnectionResetError):
                while await peer.feed():
                    pass
            await turns()
        assert lost == [Failure]

    loop.run_until_complete(body())
    assert [exception for _, (exception, _) in exceptions.take()] == ["Failure"]


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(loop, leaving):
    """And the loop goes on afterwards."""

    def leave(protocol):
        raise leaving

    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made, data_received=leave)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"hello")
            await asyncio.shield(protocol.lost)

    running = loop.create_task(body())
    with pytest.raises(leaving):
        loop.run_until_complete(running)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(running)


def test_each_connection_has_a_context_of_its_own(parity):
    import contextvars

    variable = contextvars.ContextVar("variable", default="nobody's")

    async def body(case):
        def first(protocol):
            variable.set("the connection's")

        def then(protocol):
            case(variable.get())

        made = asyncio.Queue()
        async with serving(
            lambda: Accepted(lambda *event: None, made, connection_made=first, data_received=then)
        ) as connect:
            for _ in range(2):
                peer = await connect()
                protocol = await made.get()
                await peer.write(b"hello")
                await protocol.until("data_received")
                case(variable.get())

    assert parity(body)[0] == ["the connection's", "nobody's"] * 2


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("when", ["connection_made", "data_received", "eof_received"])
def test_the_end_from_inside_of_the_protocol(parity, method, when):
    async def body(case):
        end = lambda protocol: getattr(protocol.transport, method)()  # noqa: E731
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, **{when: end})) as connect:
            peer = await connect()
            protocol = await made.get()
            with contextlib.suppress(ConnectionError, EOFError, ssl.SSLError):
                await peer.write(b"hello")
                if when == "eof_received":
                    await protocol.until("data_received")
                await peer.close()
            error = await protocol.lost
            case(type(error).__name__)

    recorded, errors = parity(body)
    assert not errors


def test_another_protocol_from_inside_of_the_protocol(parity):
    async def body(case):
        made = asyncio.Queue()

        def exchange(protocol):
            successor = Recording(lambda *event: case("successor", *event))
            protocol.transport.set_protocol(successor)
            successor.transport = protocol.transport
            made.put_nowait(successor)

        async with serving(lambda: Accepted(case, made, data_received=exchange)) as connect:
            peer = await connect()
            await made.get()
            await peer.write(b"one")
            successor = await made.get()
            await peer.write(b"two")
            await successor.until("data_received")
            successor.transport.abort()
            await successor.lost

    recorded, _ = parity(body)
    assert ("successor", "data_received", "bytes", b"two") in recorded


# TLS from the middle of a connection on


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


# What is left


@pytest.mark.ferrio_only("asyncio leaves it to the collector")
def test_nothing_is_left_of_a_connection(loop):
    async def body():
        async with connected(lambda *event: None) as (ours, theirs):
            left = [weakref.ref(end.transport) for end in (ours, theirs)]
            ours.transport.write(b"x")
            await theirs.until("data_received")
            ours.transport.close()
            await ours.lost
            await theirs.lost
            ours.transport = theirs.transport = None
            await turns()
            assert [reference() for reference in left] == [None, None]

    gc.disable()
    try:
        loop.run_until_complete(body())
    finally:
        gc.enable()


@pytest.mark.ferrio_only("asyncio's own business")
def test_a_transport_that_is_not_closed_says_so(loop):
    async def body():
        async with serving(Plain) as connect:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *connect.address, ssl=client_context(), server_hostname="localhost"
            )
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                transport.pause_reading()
                transport.__del__()
            assert [str(warning.message)[:31] for warning in caught] == ["unclosed transport <TlsTransport"[:31]]
            transport.abort()
            await turns()

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("it takes long")
def test_many_handshakes_leave_no_memory_behind(loop):
    async def body():
        server, client = server_context(), client_context()

        async def rounds(count):
            async with serving(Plain, server) as connect:
                for _ in range(count):
                    transport, _ = await loop.create_connection(
                        asyncio.Protocol, *connect.address, ssl=client, server_hostname="localhost"
                    )
                    transport.abort()

        await rounds(100)
        before = resident()
        await rounds(500)
        # A connection that stayed would be tens of kilobytes.
        assert resident() - before < 3_000_000

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    loop.run_until_complete(body())


# Others


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
