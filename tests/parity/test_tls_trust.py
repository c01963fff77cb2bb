"""TLS: who is trusted, and the callbacks, sessions and keys of a context."""

import asyncio
import gc
import ssl
import sys

import pytest
from support.peers import Recording, turns
from support.tls import (
    AUTHORITY,
    CERTIFICATES,
    TLS12,
    TLS13,
    Accepted,
    Peer,
    Plain,
    client_context,
    connected,
    echo,
    listening,
    server_context,
    serving,
    versions,
)

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.every_door
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
                if type(transport).__name__ == "SSLTransport" and "handshake" in repr(transport):
                    transport.write(b"too early")
                    transport.close()

        server.sni_callback = choose
        async with serving(Protocol, server) as connect:
            with pytest.raises((ssl.SSLError, EOFError, ConnectionResetError)):
                await connect()
        assert not made

    loop.run_until_complete(body())


def shaking_hands():
    """The transports that are in a handshake, wherever they are."""
    transports = [thing for thing in gc.get_objects() if type(thing).__name__ == "SSLTransport"]
    return [transport for transport in transports if "handshake" in repr(transport)]


def send_garbage(tls, context):
    for transport in shaking_hands():
        transport._ssl_protocol.data_received(b"\x16\x03\x01" + b"garbage" * 40)
        transport._ssl_protocol.eof_received()


def abort(tls, context):
    for transport in shaking_hands():
        transport.abort()


def take_the_protocol(tls, context):
    for transport in shaking_hands():
        transport.set_protocol(asyncio.Protocol())


def ask_for_everything(tls, context):
    for transport in shaking_hands():
        transport.set_write_buffer_limits(0)
        transport.set_read_buffer_limits(2, 1)
        assert transport.get_read_buffer_size() >= 0
        assert transport.get_extra_info("peercert") is None
        transport.pause_reading()
        transport.resume_reading()


def change_the_context(tls, context):
    context.set_ciphers("AES256-GCM-SHA384:ECDHE+AESGCM")
    context.load_cert_chain(CERTIFICATES / "server.pem")
    context.sni_callback = None
    gc.collect()


def change_contexts(tls, context):
    tls.context = server_context()


def leave_the_loop(tls, context):
    raise SystemExit


@pytest.mark.ferrio_only("it looks for ferrio's transports")
@versions
@pytest.mark.parametrize(
    ("act", "is_served"),
    [
        (send_garbage, False),
        (abort, False),
        (leave_the_loop, False),
        (take_the_protocol, True),
        (ask_for_everything, True),
        (change_the_context, True),
        (change_contexts, True),
    ],
)
def test_a_callback_that_does_as_it_likes_meanwhile(loop, monkeypatch, version, act, is_served):
    monkeypatch.setattr(sys, "unraisablehook", lambda report: None)

    async def body():
        server = server_context(version=version)
        server.sni_callback = lambda tls, name, context: act(tls, context)
        async with serving(Plain, server) as connect:
            if is_served:
                await connect()
                return
            with pytest.raises((ssl.SSLError, EOFError, ConnectionResetError)):
                await connect()

    loop.run_until_complete(body())
    loop.run_until_complete(turns())
    assert not shaking_hands()


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


@pytest.mark.ferrio_only("asyncio hands on whatever it is given")
def test_a_class_whose_objects_read_more_than_they_are_asked_to(parity):
    class Repeating(ssl.SSLObject):
        def read(self, *arguments):
            return super().read(*arguments) * 1_000_000

    async def body(case):
        made = asyncio.Queue()
        server = server_context()
        server.sslobject_class = Repeating
        async with serving(lambda: Accepted(case, made), server) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"hello")
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[-1][:2] == ("connection_lost", "ValueError")


def test_a_key_under_a_password(loop):
    async def body():
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "encrypted.key", password="secret")
        async with connected(lambda *event: None, server) as (ours, _):
            assert ours.transport.get_extra_info("cipher")

    loop.run_until_complete(body())


def test_context_of_the_protocol(parity):
    """Programs read it there, under asyncio's name."""

    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            await connect()
            transport = (await made.get()).transport
            case(transport._ssl_protocol._sslcontext is transport.get_extra_info("sslcontext"))

    assert True in parity(body)[0]
