"""TLS: producers and consumers that are too quick for the other end."""

import asyncio
import os

import pytest
from support.peers import turns
from support.tls import Accepted, encrypted, server_context, serving, versions

pytestmark = pytest.mark.usefixtures("engine")


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
