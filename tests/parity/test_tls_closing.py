"""TLS: how connections end, and what is left of them."""

import asyncio
import contextlib
import socket
import ssl
import warnings
import weakref

import pytest
from support.guard import without_collector
from support.peers import turns
from support.tls import Accepted, Plain, client_context, connected, encrypted, server_context, serving, versions

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.every_door
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


@pytest.mark.every_door
def test_a_record_that_is_cut_at_each_byte(parity):
    """The peer leaves in the middle of a record: of that nothing is handed over, of the one before everything."""

    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            for cut in range(0, 40, 3):
                peer = await connect()
                protocol = await made.get()
                await peer.loop.sock_sendall(peer.sock, encrypted(peer, b"whole") + encrypted(peer, b"in part")[:cut])
                peer.sock.shutdown(socket.SHUT_WR)
                case(cut, type(await protocol.lost).__name__, bytes(protocol.data), protocol.calls.qsize())
                peer.abandon()

    parity(body)


@pytest.mark.every_door
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


@pytest.mark.ferrio_only("asyncio's protocol is fed otherwise")
def test_a_connection_that_has_failed_is_closed_without_a_word(loop):
    """It fails once more, and OpenSSL has nothing to say about that."""

    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as connect:
            await connect()
            protocol = await made.get()
            protocol.transport._ssl_protocol.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
            protocol.transport.close()
            assert isinstance(await protocol.lost, ssl.SSLError)

    loop.run_until_complete(body())


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

    with without_collector():
        loop.run_until_complete(body())


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
            assert [str(warning.message)[:31] for warning in caught] == ["unclosed transport <SSLTransport"[:31]]
            transport.abort()
            await turns()

    loop.run_until_complete(body())
