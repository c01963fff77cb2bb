"""TLS: handshakes that do not come to their end, and many that do."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl

import pytest
from support.peers import Recording, turns
from support.tls import (
    TLS12,
    Accepted,
    Peer,
    Plain,
    client_context,
    echo,
    listening,
    outcome,
    server_context,
    serving,
    versions,
)

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.every_door
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


@pytest.mark.every_door
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


@pytest.mark.every_door
@versions
def test_an_answer_that_is_cut_at_each_byte(loop, version):
    """The server leaves in the middle of its first answer: whoever connects is told, and the socket is closed."""

    async def body():
        async with listening() as (address, accept):

            async def answered(cut):
                connecting = asyncio.ensure_future(
                    loop.create_connection(
                        asyncio.Protocol, *address, ssl=client_context(version=version), server_hostname="localhost"
                    )
                )
                peer = Peer(await accept(), server_context(), server_side=True)
                await peer.feed()
                with pytest.raises(ssl.SSLWantReadError):
                    peer.ssl.do_handshake()
                answer = peer.outgoing.read()
                await loop.sock_sendall(peer.sock, answer[:cut])
                peer.sock.shutdown(socket.SHUT_WR)
                with pytest.raises(ConnectionResetError):
                    await connecting
                peer.abandon()
                return len(answer)

            length = await answered(1)
            descriptors = len(os.listdir("/proc/self/fd"))
            for cut in range(2, length - 1, 11):
                await answered(cut)
            await turns()
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


@pytest.mark.every_door
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


@pytest.mark.every_door
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
