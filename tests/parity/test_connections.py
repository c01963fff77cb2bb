"""Making connections: addresses, errors, happy eyeballs, cancellation."""

import _socket
import asyncio
import contextlib
import errno
import gc
import os
import socket

import pytest
from support.peers import Recording, receive_all, tcp_pair, turns

pytestmark = pytest.mark.every_door


@contextlib.contextmanager
def listening(host="127.0.0.1", backlog=8):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=backlog) as sock:
        sock.settimeout(10)
        yield sock, sock.getsockname()[1]


@contextlib.contextmanager
def silent():
    """An address that does not answer: the kernel drops what comes to a queue that is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as sock, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def resolve_to(loop, *addresses):
    """Has every name resolve to these (host, port), by which the tests choose what is tried, and in which order."""

    async def getaddrinfo(host, port, **options):
        infos = []
        for address, number in addresses:
            if ":" in address:
                infos.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, number, 0, 0)))
            else:
                infos.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number)))
        return infos

    loop.getaddrinfo = getaddrinfo


def descriptors():
    return set(os.listdir("/proc/self/fd"))


async def closed(pair):
    transport, protocol = pair
    transport.close()
    await protocol.lost


def silently(*event):
    pass


def test_connecting(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        with listening() as (sock, port):
            for host in ("127.0.0.1", "localhost"):
                transport, protocol = await loop.create_connection(
                    lambda: Recording(case), host, port, family=socket.AF_INET
                )
                case(transport.get_extra_info("peername") == ("127.0.0.1", port), protocol.transport is transport)
                info = transport.get_extra_info("socket")
                case(info.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0, info.gettimeout())
                await closed((transport, protocol))

    parity(body)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1", "port": 1, "sock": "stream"},
        {"sock": "datagram"},
        {"host": "127.0.0.1", "port": 1, "server_hostname": "x"},
        {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1},
        {"host": "127.0.0.1", "port": 1, "ssl_shutdown_timeout": 1},
        {"port": 1, "ssl": True},
    ],
    ids=str,
)
def test_wrong_arguments(parity, arguments):
    async def body(case):
        kind = socket.SOCK_DGRAM if arguments.get("sock") == "datagram" else socket.SOCK_STREAM
        with socket.socket(type=kind) as sock:
            options = arguments | ({"sock": sock} if "sock" in arguments else {})
            try:
                await asyncio.get_running_loop().create_connection(asyncio.Protocol, **options)
            except Exception as error:
                case(type(error).__name__, str(error).replace(repr(sock), "SOCK"))

    recorded, _ = parity(body)
    assert recorded[0][0] == "ValueError"


def test_accepted_elsewhere(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        with tcp_pair() as (ours, theirs), socket.socket(type=socket.SOCK_DGRAM) as datagram:
            pair = await loop.connect_accepted_socket(lambda: Recording(case), ours)
            theirs.sendall(b"hello")
            await pair[1].until("data_received")
            await closed(pair)
            case(receive_all(theirs))
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.connect_accepted_socket(asyncio.Protocol, datagram)
            for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
                with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
                    await loop.connect_accepted_socket(asyncio.Protocol, theirs, **{name: 1})

    parity(body)


# Errors


@pytest.mark.asyncio_since("3.12", "all_errors")
@pytest.mark.parametrize("delay", [None, 10])
@pytest.mark.parametrize("all_errors", [False, True])
def test_nobody_listens(parity, delay, all_errors):
    async def body(case):
        loop = asyncio.get_running_loop()
        ports = free_port(), free_port()
        resolve_to(loop, ("127.0.0.1", ports[0]), ("127.0.0.2", ports[1]))

        def neutral(text):
            return text.replace(str(ports[0]), "A").replace(str(ports[1]), "B")

        try:
            await loop.create_connection(asyncio.Protocol, "name", 1, happy_eyeballs_delay=delay, all_errors=all_errors)
        except OSError as error:
            case(type(error).__name__, error.errno, neutral(str(error)))
        except ExceptionGroup as group:
            case(group.message, [(type(error).__name__, neutral(str(error))) for error in group.exceptions])

    recorded, _ = parity(body)
    assert len(recorded) == 1


def test_one_address_gives_its_own_error(parity):
    async def body(case):
        port = free_port()
        for delay in (None, 1):
            try:
                await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, "127.0.0.1", port, happy_eyeballs_delay=delay
                )
            except ConnectionRefusedError as error:
                case(error.errno, str(error).replace(str(port), "PORT"))

    recorded, _ = parity(body)
    assert recorded == [(111, "[Errno 111] Connect call failed ('127.0.0.1', PORT)")] * 2


def test_no_addresses(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        resolve_to(loop)
        try:
            await loop.create_connection(asyncio.Protocol, "name", 1)
        except OSError as error:
            case(str(error))

    assert parity(body)[0] == ["getaddrinfo() returned empty list"]


def test_the_next_address_is_tried(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        with listening() as (_, port):
            resolve_to(loop, ("127.0.0.1", free_port()), ("127.0.0.1", port))
            for delay in (None, 10):
                pair = await loop.create_connection(lambda: Recording(case), "name", 1, happy_eyeballs_delay=delay)
                case(pair[0].get_extra_info("peername") == ("127.0.0.1", port))
                await closed(pair)

    parity(body)


@pytest.mark.asyncio_since("3.13", "this text")
@pytest.mark.parametrize(
    "local", [("127.0.0.1", 0), ("127.0.0.2", 0), ("192.0.2.1", 0), ("::1", 0)], ids=lambda address: address[0]
)
def test_local_addresses(parity, local):
    async def body(case):
        loop = asyncio.get_running_loop()
        with listening() as (_, port):
            try:
                pair = await loop.create_connection(lambda: Recording(case), "127.0.0.1", port, local_addr=local)
            except OSError as error:
                case(type(error).__name__, error.errno, str(error))
            else:
                case(pair[0].get_extra_info("sockname")[0])
                await closed(pair)

    parity(body)


@pytest.mark.parametrize("local", [(), ("127.0.0.1",), "x", ["127.0.0.1", 0], ("127.0.0.1", 0, "more")], ids=repr)
def test_local_addresses_of_another_length(parity, local):
    async def body(case):
        with listening() as (_, port):
            try:
                pair = await case.loop.create_connection(asyncio.Protocol, "127.0.0.1", port, local_addr=local)
            except ValueError as error:
                case(str(error))
            else:
                case(pair[0].get_extra_info("sockname")[0])
                pair[0].close()
                await turns()

    parity(body)


@pytest.mark.asyncio_since("3.13", "this text of the error")
def test_every_refusal_of_a_local_address_is_told(parity):
    port = free_port()

    async def body(case):
        loop = asyncio.get_running_loop()
        resolve_to(loop, ("192.0.2.1", 1), ("198.51.100.1", 1), ("127.0.0.1", 0))
        with pytest.raises(OSError, match="Multiple") as caught:
            await loop.create_connection(asyncio.Protocol, "127.0.0.1", port, local_addr=("name", 0))
        case(str(caught.value))

    parity(body)


@pytest.mark.asyncio_since("3.14", "it closed")
def test_a_socket_without_a_transport_is_closed(loop):
    def factory():
        raise ValueError("in a factory")

    async def body():
        with listening() as (_, port):
            before = descriptors()
            with pytest.raises(ValueError, match="in a factory"):
                await loop.create_connection(factory, "127.0.0.1", port)
            gc.collect()
            assert descriptors() == before

    loop.run_until_complete(body())


# Cancellation


@pytest.mark.asyncio_since("3.12", "no tasks left behind")
@pytest.mark.parametrize("delay", [None, 0.001])
def test_cancelled_while_connecting(loop, delay):
    """The descriptor is closed once, its registration is gone, and nothing is reported."""

    async def body():
        with silent() as port:
            before = descriptors()
            resolve_to(loop, ("127.0.0.1", port), ("127.0.0.1", port), ("127.0.0.1", port))
            connecting = loop.create_task(
                loop.create_connection(asyncio.Protocol, "name", 1, happy_eyeballs_delay=delay)
            )
            wanted = 1 if delay is None else 3
            while len(descriptors() - before) < wanted:
                await asyncio.sleep(0)
            numbers = sorted(int(number) for number in descriptors() - before)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert descriptors() == before
            assert asyncio.all_tasks() == {asyncio.current_task()}
            # The numbers go to new owners, whose events are their own.
            with tcp_pair() as (ours, theirs):
                assert ours.fileno() in numbers or theirs.fileno() in numbers or len(numbers) == 1
                pair = await loop.create_connection(lambda: Recording(silently), sock=ours)
                theirs.sendall(b"hello")
                await pair[1].until("data_received")
                await closed(pair)

    loop.run_until_complete(body())


def test_cancelled_before_connection_made(loop, events):
    """The socket is connected and the transport made: it is closed again."""

    async def body():
        def factory():
            loop.call_soon(connecting.cancel)
            return Recording(lambda *event: events.append(event[0]))

        with tcp_pair() as (ours, theirs):
            connecting = loop.create_task(loop.create_connection(factory, sock=ours))
            with pytest.raises(asyncio.CancelledError):
                await connecting
            await turns()
            assert ours.fileno() == -1
            assert receive_all(theirs) == b""

    loop.run_until_complete(body())
    assert events == ["connection_made", "connection_lost"]


def test_closing_the_coroutine(loop):
    """What is left of a coroutine that is never resumed: nothing."""

    async def body():
        with silent() as port:
            before = descriptors()
            coroutine = loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            coroutine.send(None)
            assert descriptors() != before
            coroutine.close()
            assert descriptors() == before

    loop.run_until_complete(body())


# Happy eyeballs


def test_the_first_to_answer_wins(loop):
    """Losers are closed before there is a transport."""

    async def body():
        with silent() as port, listening() as (_, answering):
            before = descriptors()
            resolve_to(loop, ("127.0.0.1", port), ("127.0.0.1", port), ("127.0.0.1", answering))
            pair = await loop.create_connection(lambda: Recording(silently), "name", 1, happy_eyeballs_delay=0.001)
            assert pair[0].get_extra_info("peername") == ("127.0.0.1", answering)
            assert len(descriptors() - before) == 1
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await closed(pair)
            assert descriptors() == before

    loop.run_until_complete(body())


def test_a_failure_starts_the_next_one_at_once(loop):
    async def body():
        with listening() as (_, port):
            resolve_to(loop, ("127.0.0.1", free_port()), ("127.0.0.1", free_port()), ("127.0.0.1", port))
            pair = await asyncio.wait_for(
                loop.create_connection(lambda: Recording(silently), "name", 1, happy_eyeballs_delay=3600), 10
            )
            await closed(pair)

    loop.run_until_complete(body())


class Attempt(socket.socket):
    """A connection that is being made until the test ends that; every attempt is in `begun`."""

    begun = []  # of one test at a time

    def __init__(self, family=-1, type=-1, proto=-1):
        ours, self.theirs = _socket.socketpair()
        super().__init__(fileno=ours.detach())
        self.theirs.setblocking(False)
        self.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.send(bytes(65536))
        self.error = None

    def connect(self, address):
        self.begun.append(self)
        raise BlockingIOError(errno.EINPROGRESS, "in progress")

    def getsockopt(self, *arguments):
        return self.error if arguments == (socket.SOL_SOCKET, socket.SO_ERROR) else super().getsockopt(*arguments)

    def end(self, error=0):
        self.error = error
        with contextlib.suppress(BlockingIOError):
            while True:
                self.theirs.recv(65536)

    def close(self):
        self.theirs.close()
        super().close()


@pytest.fixture
def attempts(monkeypatch):
    """The attempts to connect, in the order in which they begin."""
    begun = []
    monkeypatch.setattr(Attempt, "begun", begun)
    monkeypatch.setattr(socket, "socket", Attempt)
    return begun


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def racing(loop, count, delay):
    resolve_to(loop, *(("127.0.0.1", number) for number in range(1, count + 1)))
    return loop.create_task(loop.create_connection(lambda: Recording(silently), "name", 1, happy_eyeballs_delay=delay))


def test_the_last_one_wins_late(loop, attempts):
    """Nobody waits for those that go on."""

    async def body():
        connecting = racing(loop, 2, 0.001)
        await until(lambda: len(attempts) == 2)
        await asyncio.sleep(0.02)
        attempts[1].end()
        await closed(await asyncio.wait_for(connecting, 10))
        assert attempts[0].fileno() == -1

    loop.run_until_complete(body())


def test_nothing_begins_behind_the_winner(loop, attempts):
    async def body():
        connecting = racing(loop, 3, 10)
        await until(lambda: attempts)
        attempts[0].end()
        await closed(await asyncio.wait_for(connecting, 5))
        assert len(attempts) == 1

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio ignores it, which is a RuntimeError, or leaves the attempts alone")
def test_closing_the_coroutine_of_a_race(loop, attempts):
    async def body():
        resolve_to(loop, ("127.0.0.1", 1), ("127.0.0.1", 2))
        coroutine = loop.create_connection(asyncio.Protocol, "name", 1, happy_eyeballs_delay=0.001)
        coroutine.send(None)
        await until(lambda: attempts)
        coroutine.close()
        await turns()
        assert [attempt.fileno() for attempt in attempts] == [-1]

    loop.run_until_complete(body())


def test_an_older_failure_starts_nothing(loop, attempts):
    """It is the latest attempt that the next one waits for."""

    async def body():
        connecting = racing(loop, 3, 0.3)
        await until(lambda: len(attempts) == 2)
        attempts[0].end(errno.ECONNREFUSED)
        await until(lambda: attempts[0].fileno() == -1)
        await turns()
        assert len(attempts) == 2
        attempts[1].end(errno.ECONNREFUSED)
        await until(lambda: attempts[1].fileno() == -1)
        await turns()
        assert len(attempts) == 3
        attempts[2].end()
        await closed(await connecting)

    loop.run_until_complete(body())


def test_errors_come_in_the_order_of_the_addresses(loop, attempts):
    """Not in that of the failures."""

    async def body():
        connecting = racing(loop, 2, 0.001)
        await until(lambda: len(attempts) == 2)
        attempts[1].end(errno.ECONNREFUSED)
        await until(lambda: attempts[1].fileno() == -1)
        attempts[0].end(errno.ENETUNREACH)
        with pytest.raises(OSError, match=f"Multiple.*{errno.ENETUNREACH}.*{errno.ECONNREFUSED}"):
            await connecting

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio says that it has timed out")
def test_what_is_no_error_of_the_network(loop):
    async def body():
        before = descriptors()
        resolve_to(loop, ("127.0.0.1", "no number"), ("127.0.0.1", 1))
        with pytest.raises(TypeError):
            await loop.create_connection(asyncio.Protocol, "name", 1, happy_eyeballs_delay=10)
        assert descriptors() == before

    loop.run_until_complete(body())


@pytest.mark.parametrize("interleave", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("delay", [None, 10])
def test_families_take_turns(parity, monkeypatch, interleave, delay):
    """What is tried, in which order; the errors are raised in the same."""
    tried = []

    class Refusing(socket.socket):
        def connect(self, address):
            tried.append(address[0])
            raise OSError(111, "refused")

    addresses = [(f"127.0.0.{n}", 1) for n in (1, 2, 3)] + [("::1", 1), ("::2", 1)]

    async def body(case):
        loop = asyncio.get_running_loop()
        resolve_to(loop, *addresses)
        tried.clear()
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Refusing)
            patch.setattr(type(loop), "sock_connect", _connect_at_once, raising=False)
            with pytest.raises(OSError, match="refused"):
                await loop.create_connection(
                    asyncio.Protocol, "name", 1, interleave=interleave, happy_eyeballs_delay=delay
                )
        case(list(tried))

    async def _connect_at_once(self, sock, address):
        sock.connect(address)

    recorded, _ = parity(body)
    assert sorted(recorded[0]) == sorted(host for host, _ in addresses)
