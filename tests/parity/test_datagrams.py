"""Datagram endpoints, over IP and over Unix sockets."""

import asyncio
import contextlib
import gc
import os
import socket
import tempfile
import warnings

import pytest
from support.case import describe
from support.peers import Recorder, nothing, turns

pytestmark = pytest.mark.every_door


class Recording(Recorder, asyncio.DatagramProtocol):
    """Records every call, and keeps what was received and what failed."""

    def __init__(self, record=nothing, **on):
        super().__init__(record, **on)
        self.received = asyncio.Queue()
        self.errors = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.received.put_nowait((data, addr))
        self._called("datagram_received", type(data).__name__, data[:20], len(data))

    def error_received(self, exc):
        self.errors.put_nowait(exc)
        self._called("error_received", describe(exc))

    def pause_writing(self):
        self._called("pause_writing")

    def resume_writing(self):
        self._called("resume_writing")

    def connection_lost(self, exc):
        self.lost.set_result(exc)
        self._called("connection_lost", describe(exc))


@contextlib.asynccontextmanager
async def endpoint(record=nothing, on=None, **arguments):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Recording(record, **(on or {})), **arguments)
    try:
        yield transport, protocol
    finally:
        if not protocol.lost.done():
            transport.abort()
        await asyncio.wait_for(protocol.lost, 10)


async def outcome(awaitable):
    try:
        await awaitable
    except Exception as error:
        return describe(error)
    return "no exception"


empty_ones = pytest.mark.asyncio_since("3.13", "datagrams without bytes, and a header in the account of the buffer")

HOSTS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@empty_ones
@pytest.mark.parametrize("host", HOSTS.values())
@pytest.mark.parametrize("connected", [False, True])
def test_there_and_back(parity, host, connected):
    async def body(case):
        async with endpoint(local_addr=(host, 0)) as (server, receiver):
            address = server.get_extra_info("sockname")
            arguments = {"remote_addr": address[:2]} if connected else {"local_addr": (host, 0)}
            async with endpoint(case, **arguments) as (client, protocol):
                case(isinstance(client, asyncio.DatagramTransport), client.get_protocol() is protocol)
                case(client.get_extra_info("peername") == (address if connected else None))
                case(client.get_extra_info("socket").type, client.get_extra_info("other", 1))
                for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), b"", b"x" * 60_000):
                    client.sendto(data, None if connected else address)
                    received, sender = await receiver.received.get()
                    case(received[:20], len(received), sender == client.get_extra_info("sockname"))
                    server.sendto(received, sender)
                    case((await protocol.received.get())[1] == address)

    recorded, _ = parity(body)
    assert sum(event[:1] == ("datagram_received",) for event in recorded if isinstance(event, tuple)) == 5


def test_a_name_is_resolved(parity):
    async def body(case):
        async with endpoint(local_addr=("127.0.0.1", 0)) as (server, receiver):
            port = server.get_extra_info("sockname")[1]
            async with endpoint(remote_addr=("localhost", port), family=socket.AF_INET) as (client, _):
                client.sendto(b"by name")
                case((await receiver.received.get())[0])
            async with endpoint(family=socket.AF_INET) as (client, _):
                client.sendto(b"by name", ("localhost", port))
                case((await receiver.received.get())[0])

    parity(body)


@pytest.mark.parametrize("connected", [False, True])
def test_unix_datagrams(parity, connected):
    with tempfile.TemporaryDirectory() as directory:

        async def body(case):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
                stale.bind(f"{directory}/server")
            unix = {"family": socket.AF_UNIX}
            async with endpoint(local_addr=f"{directory}/server", **unix) as (server, receiver):
                remote = {"remote_addr": f"{directory}/server"} if connected else {}
                async with endpoint(local_addr=f"{directory}/client", **remote, **unix) as (client, protocol):
                    case(client.get_extra_info("sockname"), client.get_extra_info("peername"))
                    client.sendto(b"x" * 100_000, f"{directory}/server")
                    data, sender = await receiver.received.get()
                    case(len(data), sender)
                    server.sendto(b"answer", sender)
                    case(await protocol.received.get())
            case(sorted(os.listdir(directory)))
            for name in os.listdir(directory):
                os.unlink(f"{directory}/{name}")

        parity(body)


def test_nobody_listens(parity):
    """Refusals go to error_received, and the transport goes on."""

    async def body(case):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            address = sock.getsockname()
        async with endpoint(case, remote_addr=address) as (client, protocol):
            client.sendto(b"nobody")
            case(describe(await protocol.errors.get()), client.is_closing())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(address)
                sock.settimeout(10)
                client.sendto(b"somebody")
                case(sock.recv(100))

    parity(body)


def test_what_is_too_large(parity):
    async def body(case):
        async with endpoint(case, local_addr=("127.0.0.1", 0)) as (transport, _):
            transport.sendto(b"x" * 70_000, transport.get_extra_info("sockname"))
            case(transport.is_closing())

    parity(body)


def test_wrong_arguments_of_sendto(parity):
    async def body(case):
        async with endpoint(local_addr=("127.0.0.1", 0)) as (server, _):
            address = server.get_extra_info("sockname")
            async with endpoint(remote_addr=address) as (client, _):
                case.raised(client.sendto, "text")
                try:
                    client.sendto(b"elsewhere", ("127.0.0.1", 1))
                except ValueError as error:
                    case(str(error) == f"Invalid address: must be None or {address}")

    recorded, _ = parity(body)
    assert recorded[-1] is True


@pytest.mark.parametrize("address", [None, ("127.0.0.1",), ("127.0.0.1", 1 << 16), ("127.0.0.1", "1"), 1])
def test_addresses_that_are_none(parity, address):
    """What the socket refuses as an argument ends the transport."""

    async def body(case):
        async with endpoint(case, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            transport.sendto(b"data", address)
            case(transport.is_closing())
            await turns()

    parity(body)


def test_arguments_that_contradict(parity):
    async def body(case):
        create = asyncio.get_running_loop().create_datagram_endpoint
        case(await outcome(create(Recording)))
        case(await outcome(create(Recording, local_addr="127.0.0.1")))
        case(await outcome(create(Recording, remote_addr=("127.0.0.1", 1, 2))))
        case(await outcome(create(Recording, local_addr=b"bytes", family=socket.AF_UNIX)))
        case(await outcome(create(Recording, ("127.0.0.1", 0), ("::1", 1))))
        case(await outcome(create(Recording, local_addr=("192.0.2.1", 0))))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            options = {"local_addr": ("127.0.0.1", 1), "family": 2, "proto": 1, "flags": 1, "reuse_port": True}
            case(await outcome(create(Recording, sock=sock, allow_broadcast=True, **options)))
        with socket.socket() as sock:
            case((await outcome(create(Recording, sock=sock)))[0])

    parity(body)


def test_a_socket_that_is_given(parity):
    async def body(case):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(case, sock=ours) as (transport, protocol):
                case(ours.gettimeout(), transport.get_extra_info("peername"))
                theirs.send(b"hello")
                case(await protocol.received.get())
            case(ours.fileno())

    parity(body)


def test_a_socket_that_is_given_stays_open_if_there_is_no_protocol(parity):
    async def body(case):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            case(await outcome(case.loop.create_datagram_endpoint(lambda: 1 // 0, sock=sock)))
            case(sock.fileno() >= 0)

    parity(body)


@pytest.mark.ferrio_only("asyncio takes a peer without a name for none")
def test_one_of_a_pair_needs_no_address(parity):
    async def body(case):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(case, sock=ours) as (transport, _):
                transport.sendto(b"hello")
                case(theirs.recv(100))

    recorded, errors = parity(body)
    assert b"hello" in recorded
    assert not errors


def test_options(parity):
    async def body(case):
        async with endpoint(local_addr=("127.0.0.1", 0), reuse_port=True, allow_broadcast=True) as (transport, _):
            sock = transport.get_extra_info("socket")
            case([sock.getsockopt(socket.SOL_SOCKET, name) for name in (socket.SO_REUSEPORT, socket.SO_BROADCAST)])
        async with endpoint(remote_addr=("127.0.0.1", 9), allow_broadcast=True) as (transport, _):
            case(transport.get_extra_info("peername"))

    parity(body)


@contextlib.asynccontextmanager
async def full(record, **on):
    """An endpoint whose kernel buffer is full, with datagrams of 1000 bytes; the other end is in the test's hand."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    theirs.setblocking(False)
    theirs.bind("")  # the kernel finds a name: asyncio takes a peer without one for none
    ours.connect(theirs.getsockname())
    with theirs:
        async with endpoint(record, on, sock=ours) as (transport, protocol):
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(b"filler")
            yield transport, protocol, theirs


def drain(sock):
    received = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(sock.recv(2000))
    return [data for data in received if data != b"filler"]


async def drained(sock, until):
    received = []
    while not until(received):
        received += drain(sock)
        await asyncio.sleep(0)
    return received


@pytest.mark.asyncio_since("3.14", "the account of the buffer")
def test_flow_control(parity):
    async def body(case):
        async with full(case) as (transport, _, theirs):
            transport.set_write_buffer_limits(3010)  # each counts for eight bytes more
            case(transport.get_write_buffer_limits())
            data = bytearray(b"x" * 1000)
            for number in range(3):
                data[0] = number
                transport.sendto(data)
            case("buffered")
            received = await drained(theirs, lambda received: len(received) == 3)
            case([one[0] for one in received])
            await turns()
            case(transport.get_write_buffer_size())

    recorded, _ = parity(body)
    assert ("pause_writing",) in recorded or "pause_writing" in recorded


@pytest.mark.parametrize("method", ["close", "abort"])
def test_the_end_with_a_full_buffer(parity, method):
    async def body(case):
        async with full(case) as (transport, protocol, theirs):
            transport.sendto(b"last")
            getattr(transport, method)()
            case(transport.is_closing(), protocol.lost.done())
            if case.name == "ferrio":  # asyncio forgets to count down before 3.15
                assert transport.get_write_buffer_size() == (12 if method == "close" else 0)
            received = await drained(theirs, lambda _: protocol.lost.done())
            case(received + drain(theirs))

    recorded, _ = parity(body)
    assert recorded[-1] == ([b"last"] if method == "close" else [])


def test_the_end_comes_through_the_ready_queue(parity):
    async def body(case):
        async with endpoint(case, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            transport.close()
            transport.close()
            case(transport.is_closing(), protocol.lost.done())
            await protocol.lost
            transport.abort()

    parity(body)


def test_addresses_of_two_families(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        here, there = ("127.0.0.1", 0), ("::1", 9)
        case(await outcome(loop.create_datagram_endpoint(Recording, local_addr=here, remote_addr=there)))

    assert parity(body)[0] == [("ValueError", "can not get address information")]


@pytest.mark.parametrize("method", ["close", "abort"])
def test_what_is_ready_when_it_ends_is_not_received(parity, method):
    """By a callback of the same turn, before the transport's own."""

    async def body(case):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(case, sock=ours) as (transport, protocol):
                theirs.send(b"never received")
                asyncio.get_running_loop().call_soon(getattr(transport, method))
                await protocol.lost
                case(protocol.received.qsize())

    assert parity(body)[0][-1] == 0


def test_sending_after_the_end(parity, caplog):
    """It is counted, and after some the log is told."""

    async def body(case):
        caplog.clear()
        async with endpoint(case, remote_addr=("127.0.0.1", 9)) as (transport, protocol):
            transport.abort()
            for _ in range(7):
                transport.sendto(b"x")
            await protocol.lost
            transport.sendto(b"x")
            case([record.getMessage() for record in caplog.records if record.name == "asyncio"])

    assert len(parity(body)[0][-1]) == 4


@pytest.mark.ferrio_only("asyncio's socket is None then, which is an error for the loop")
def test_the_next_owner_of_the_descriptor_is_left_alone(loop):
    async def body():
        with socket.socket(type=socket.SOCK_DGRAM) as theirs, socket.socket(type=socket.SOCK_DGRAM) as other:
            theirs.setblocking(False)
            theirs.bind(("127.0.0.1", 0))
            async with endpoint(local_addr=("127.0.0.1", 0)) as (transport, protocol):
                number = transport.get_extra_info("socket").fileno()
                transport.close()
                await protocol.lost
                os.dup2(other.fileno(), number)
                try:
                    transport.sendto(b"from whom?", theirs.getsockname())
                finally:
                    os.close(number)
                assert drain(theirs) == []

    loop.run_until_complete(body())


def test_pausing(parity):
    async def body(case):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(case, sock=ours) as (transport, protocol):
                transport.pause_reading()
                theirs.send(b"later")
                await turns()
                case(transport.is_reading(), protocol.received.qsize())
                transport.resume_reading()
                case((await protocol.received.get())[0])

    parity(body)


def test_a_protocol_that_raises(loop, exceptions):
    """It is reported, and the transport goes on."""

    def fail(protocol):
        raise ZeroDivisionError

    async def body():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(on={"datagram_received": fail}, sock=ours) as (transport, protocol):
                for _ in range(2):
                    theirs.send(b"data")
                    await protocol.received.get()
                assert not transport.is_closing()

    loop.run_until_complete(body())
    assert [error for _, error in exceptions.take()] == [("ZeroDivisionError", "")] * 2


def test_who_is_not_closed_says_so(loop):
    async def body():
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        return transport

    transport = loop.run_until_complete(body())
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)


class TestManyAtOnce:
    """Several datagrams that are there already may be received in one turn; each is told as if it were alone."""

    COUNT = 100

    async def received(self, record, until=lambda protocol: False, **on):
        """An endpoint to which many datagrams came while nobody looked, and what it recorded."""
        async with endpoint(record, on=on, local_addr=("127.0.0.1", 0)) as (transport, protocol):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                for _ in range(2):
                    for number in range(self.COUNT):
                        sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
                    while protocol.received.qsize() < self.COUNT and not until(protocol):
                        await asyncio.sleep(0)
                    if until(protocol):
                        break
                    for _ in range(self.COUNT):
                        protocol.received.get_nowait()
            await turns()
            return protocol

    def test_all_in_order(self, parity):
        async def body(case):
            await self.received(case)

        events, _ = parity(body)
        numbers = [event[2] for event in events if event[0] == "datagram_received"]
        assert numbers == [b"%d" % number for number in range(self.COUNT)] * 2

    @pytest.mark.parametrize("how", ["pause_reading", "close", "abort"])
    def test_no_more_after(self, parity, how):
        """The protocol has had enough, in the middle."""

        async def body(case):
            def enough(protocol):
                return protocol.received.qsize() >= self.COUNT // 2

            def stop(protocol):
                if enough(protocol):
                    getattr(protocol.transport, how)()

            await self.received(case, enough, datagram_received=stop)

        events, _ = parity(body)
        assert len([event for event in events if event[0] == "datagram_received"]) == self.COUNT // 2

    def test_another_protocol_in_the_middle(self, parity):
        async def body(case):
            others = []

            def hand_over(protocol):
                if protocol.received.qsize() == 7 and not others:
                    others.append(Recording(lambda *event: case("other", *event)))
                    others[0].received = protocol.received
                    others[0].transport = protocol.transport
                    protocol.transport.set_protocol(others[0])

            on = {"datagram_received": hand_over}
            async with endpoint(case, on=on, local_addr=("127.0.0.1", 0)) as (transport, first):
                with socket.socket(type=socket.SOCK_DGRAM) as sock:
                    for number in range(20):
                        sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
                    while not others or others[0].received.qsize() < 20:
                        await asyncio.sleep(0)
                transport.abort()
                await others[0].lost
                first.lost.set_result(None)

        parity(body)

    def test_others_have_their_turn(self, loop_factory):
        """A flood that never ends: every turn receives some of it, and runs what else is ready."""
        loop = loop_factory()

        async def main():
            sock = socket.socket(type=socket.SOCK_DGRAM)

            def answer(protocol):
                # Two for each that is received: the socket is never empty again.
                for _ in range(2):
                    with contextlib.suppress(BlockingIOError):
                        sock.sendto(b"more", protocol.transport.get_extra_info("sockname"))

            with sock:
                sock.setblocking(False)
                async with endpoint(on={"datagram_received": answer}, local_addr=("127.0.0.1", 0)) as (_, protocol):
                    answer(protocol)
                    most = 0
                    for _ in range(200):
                        before = protocol.received.qsize()
                        await asyncio.sleep(0)
                        most = max(most, protocol.received.qsize() - before)
                    return most, protocol.received.qsize()

        try:
            most, received = loop.run_until_complete(main())
        finally:
            loop.close()
        assert most <= 16
        assert received >= 100


def test_datagrams_are_no_stream(parity):
    async def body(case):
        async with endpoint(local_addr=("127.0.0.1", 0)) as (transport, _):
            case.raised(transport.write, b"data")
            case.raised(transport.writelines, [b"data"])
            case.raised(transport.write_eof)
            case.raised(transport.can_write_eof)

    assert {kind for kind, _ in parity(body)[0]} == {"NotImplementedError"}
