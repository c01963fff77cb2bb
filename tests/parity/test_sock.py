"""`sock_*`: receiving, sending, connecting and accepting on sockets that the program owns."""

import array
import asyncio
import contextlib
import gc
import os
import socket
import time

import pytest
from support.case import describe
from support.loops import turn

pytestmark = pytest.mark.every_door


@contextlib.contextmanager
def connected(kind=socket.SOCK_STREAM):
    """Two connected sockets, non-blocking."""
    ours, theirs = socket.socketpair(type=kind)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@contextlib.contextmanager
def listening(**options):
    with socket.create_server(("127.0.0.1", 0), **options) as server:
        server.setblocking(False)
        yield server


@contextlib.contextmanager
def bound_udp():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock


@contextlib.contextmanager
def client():
    with socket.socket() as sock:
        sock.setblocking(False)
        yield sock


def fill(sock):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += sock.send(bytes(1 << 16))
    return count


async def outcome(awaitable):
    """What an await comes to: its result, or the description of its error."""
    try:
        return await awaitable
    except Exception as error:
        return describe(error)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


class TestReceiving:
    def test_what_is_there(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"abcdef")
                case(await loop.sock_recv(ours, 2))
                buffer = bytearray(3)
                case(await loop.sock_recv_into(ours, buffer), bytes(buffer))
                case(await loop.sock_recv(ours, 100))
                theirs.close()
                case(await loop.sock_recv(ours, 100), await loop.sock_recv_into(ours, buffer))

        assert parity(body)[0] == [b"ab", (3, b"cde"), b"f", (b"", 0)]

    def test_what_comes_later(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                loop.call_soon(loop.call_soon, theirs.send, b"later")
                case(await loop.sock_recv(ours, 100))
                buffer = bytearray(10)
                loop.call_soon(loop.call_soon, theirs.send, b"again")
                case(await loop.sock_recv_into(ours, memoryview(buffer)[3:]), bytes(buffer))

        assert parity(body)[0] == [b"later", (5, b"\0\0\0again\0\0")]

    def test_nothing_is_begun_before_the_await(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"x")
                coroutine = loop.sock_recv(ours, 1)
                case(asyncio.iscoroutine(coroutine), ours.recv(1, socket.MSG_PEEK))
                case(await coroutine)

        assert parity(body)[0] == [(True, b"x"), b"x"]

    @pytest.mark.parametrize("size", [0, 1, 1 << 20], ids=str)
    def test_sizes(self, parity, size):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"xyz")
                case(await loop.sock_recv(ours, size))

        parity(body)

    @pytest.mark.parametrize("wrong", [-1, "1", None, 1.5])
    def test_what_is_no_size(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"x")
                found = await outcome(loop.sock_recv(ours, wrong))
                case(found[0])

        parity(body)

    @pytest.mark.parametrize("wrong", [b"read-only", 7, None, "text"], ids=repr)
    def test_what_is_no_buffer(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"x")
                found = await outcome(loop.sock_recv_into(ours, wrong))
                case(found[0], ours.recv(1))

        assert parity(body)[0][0][1] == b"x"

    def test_an_error_of_the_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with client() as sock:
                case(await outcome(loop.sock_recv(sock, 1)))
                case(await outcome(loop.sock_recv_into(sock, bytearray(1))))

        assert parity(body)[0][0][0] == "OSError"


class TestSending:
    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
    def test_all_of_it(self, parity, make):
        """More than fits into the socket: it goes on as the other side reads."""
        data = bytes(range(256)) * (1 << 13)

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                sending = asyncio.create_task(loop.sock_sendall(ours, make(data)))
                received = bytearray()
                while len(received) < len(data):
                    received += await loop.sock_recv(theirs, 1 << 20)
                case(received == data, await sending)

        assert parity(body)[0] == [(True, None)]

    def test_nothing(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await loop.sock_sendall(ours, b""))
                fill(ours)
                case(await loop.sock_sendall(ours, b""))
                theirs.close()

        assert parity(body)[0] == [None, None]

    @pytest.mark.ferrio_only("asyncio mixes up items and bytes")
    def test_items_of_more_than_one_byte(self, parity):
        """A buffer counts in bytes, whatever it is made of."""
        numbers = array.array("q", range(100_000))

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                sending = asyncio.create_task(loop.sock_sendall(ours, numbers))
                received = bytearray()
                while len(received) < len(numbers) * 8:
                    received += await loop.sock_recv(theirs, 1 << 20)
                await sending
                case(received == numbers.tobytes())

        assert parity(body)[0] == [True]

    def test_to_who_has_gone(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.close()
                case(await outcome(loop.sock_sendall(ours, b"x")))
            with connected() as (ours, theirs):
                fill(ours)
                loop.call_later(0.001, theirs.close)
                case((await outcome(loop.sock_sendall(ours, b"x")))[0])

        assert parity(body)[0][0] == ("BrokenPipeError", "[Errno 32] Broken pipe")

    @pytest.mark.parametrize("wrong", ["text", 7, None], ids=repr)
    def test_what_is_no_data(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, _):
                case((await outcome(loop.sock_sendall(ours, wrong)))[0])

        assert parity(body)[0] == ["TypeError"]


class TestConnecting:
    def test_connect_and_accept(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server, client() as sock:
                accepting = asyncio.create_task(loop.sock_accept(server))
                case(await loop.sock_connect(sock, server.getsockname()))
                conn, address = await accepting
                with conn:
                    case(address == sock.getsockname(), conn.gettimeout(), conn.getpeername() == sock.getsockname())
                    await loop.sock_sendall(conn, b"hello")
                    case(await loop.sock_recv(sock, 100))

        assert parity(body)[0] == [None, (True, 0.0, True), b"hello"]

    def test_refused(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server:
                address = server.getsockname()
            with client() as sock:
                kind, text = await outcome(loop.sock_connect(sock, address))
                case(kind, text.split("(")[0])
            with client() as sock:
                with pytest.raises(ConnectionRefusedError) as raised:
                    await loop.sock_connect(sock, address)
                case(raised.value.errno)

        assert parity(body)[0] == [("ConnectionRefusedError", "[Errno 111] Connect call failed "), 111]

    def test_a_name_is_resolved(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server, client() as sock:
                accepting = asyncio.create_task(loop.sock_accept(server))
                await loop.sock_connect(sock, ("localhost", server.getsockname()[1]))
                conn, _ = await accepting
                conn.close()
                case(sock.getpeername() == server.getsockname())

        assert parity(body)[0] == [True]

    def test_unix(self, parity, tmp_path):
        async def body(case):
            loop = asyncio.get_running_loop()
            path = str(tmp_path / f"{case.name}.sock")
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as sock:
                server.setblocking(False)
                sock.setblocking(False)
                case(await outcome(loop.sock_connect(sock, path)))
                server.bind(path)
                server.listen()
                await loop.sock_connect(sock, path)
                conn, address = await loop.sock_accept(server)
                conn.close()
                case(address)
            os.unlink(path)

        events, _ = parity(body)
        assert events[0][0] == "FileNotFoundError"

    @pytest.mark.parametrize("wrong", [None, 7, (), ("127.0.0.1",), ("127.0.0.1", "port", 3, 4, 5, 6)], ids=repr)
    def test_what_is_no_address(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with client() as sock:
                found = await outcome(loop.sock_connect(sock, wrong))
                case(isinstance(found, tuple))

        assert parity(body)[0] == [True]

    def test_many_accepted_in_order(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening(backlog=64) as server, contextlib.ExitStack() as stack:
                names = []
                for _ in range(20):
                    sock = stack.enter_context(client())
                    await loop.sock_connect(sock, server.getsockname())
                    names.append(sock.getsockname())
                accepted = [await loop.sock_accept(server) for _ in names]
                case([address for _, address in accepted] == names)
                for conn, _ in accepted:
                    conn.close()

        assert parity(body)[0] == [True]


class TestDatagrams:
    def test_to_and_from(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours, bound_udp() as theirs:
                receiving = asyncio.create_task(loop.sock_recvfrom(theirs, 100))
                await asyncio.sleep(0)
                case(await loop.sock_sendto(ours, b"datagram", theirs.getsockname()))
                data, address = await receiving
                case(data, address == ours.getsockname())
                buffer = bytearray(100)
                receiving = asyncio.create_task(loop.sock_recvfrom_into(theirs, buffer))
                await asyncio.sleep(0)
                await loop.sock_sendto(ours, b"another", theirs.getsockname())
                count, address = await receiving
                case(bytes(buffer[:count]), address == ours.getsockname())

        assert parity(body)[0] == [8, (b"datagram", True), (b"another", True)]

    def test_limits(self, parity):
        """What does not fit is cut off; an empty datagram is one."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours, bound_udp() as theirs:
                for data in (b"0123456789", b"", b"0123456789", b"abc"):
                    await loop.sock_sendto(ours, data, theirs.getsockname())
                case((await loop.sock_recvfrom(theirs, 4))[0])
                case((await loop.sock_recvfrom(theirs, 4))[0])
                buffer = bytearray(10)
                case((await loop.sock_recvfrom_into(theirs, buffer, 3))[0], bytes(buffer))
                case((await loop.sock_recvfrom_into(theirs, buffer))[0], bytes(buffer))

        assert parity(body)[0] == [b"0123", b"", (3, b"012" + bytes(7)), (3, b"abc" + bytes(7))]

    @pytest.mark.parametrize("nbytes", [-1, 11, 0, None])
    def test_counts(self, parity, nbytes):
        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours, bound_udp() as theirs:
                await loop.sock_sendto(ours, b"xyz", theirs.getsockname())
                found = await outcome(loop.sock_recvfrom_into(theirs, bytearray(10), nbytes))
                case(found[0])

        parity(body)

    def test_too_big(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours:
                case(await outcome(loop.sock_sendto(ours, bytes(1 << 17), ours.getsockname())))

        assert parity(body)[0] == [("OSError", "[Errno 90] Message too long")]

    def test_unix(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected(socket.SOCK_DGRAM) as (ours, theirs):
                theirs.send(b"one")
                theirs.send(b"two")
                case(await loop.sock_recvfrom(ours, 10), await loop.sock_recv(ours, 10))

        assert parity(body)[0] == [((b"one", None), b"two")]


OPERATIONS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, bytes(1 << 22)),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
}
WAITING = [name for name in OPERATIONS if name not in ("sock_sendto", "sock_connect")]
operation = pytest.mark.parametrize("name", OPERATIONS)


@operation
@pytest.mark.parametrize("debug", [True, False])
def test_blocking_sockets(parity, name, debug):
    """Debug mode refuses them; otherwise that is not looked at."""

    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_debug(debug)
        for timeout in (None, 0.001) if debug else ():
            with socket.socket() as sock:
                sock.settimeout(timeout)
                case(await outcome(OPERATIONS[name](loop, sock)))

    events, _ = parity(body)
    assert events == [("ValueError", "the socket must be non-blocking")] * (2 if debug else 0)


@operation
def test_closed_sockets(parity, name):
    async def body(case):
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        case((await outcome(OPERATIONS[name](loop, sock)))[0])

    events, _ = parity(body)
    assert events == ["OSError"]


@operation
@pytest.mark.parametrize("wrong", [None, 7, "socket"], ids=repr)
def test_what_is_no_socket(parity, name, wrong):
    async def body(case):
        found = await outcome(OPERATIONS[name](asyncio.get_running_loop(), wrong))
        case(found[0] in ("AttributeError", "TypeError", "ValueError"))

    assert parity(body)[0] == [True]


def idle(name, stack):
    """A socket on which that operation has to wait."""
    if name == "sock_accept":
        return stack.enter_context(listening())
    kind = socket.SOCK_DGRAM if "from" in name else socket.SOCK_STREAM
    return stack.enter_context(connected(kind))[0]


@pytest.mark.parametrize("name", WAITING)
def test_cancelled(parity, name):
    """The registration is gone when the cancellation is, and the socket works as before."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            sock = idle(name, stack)
            task = asyncio.create_task(OPERATIONS[name](loop, sock))
            await turns(2)
            task.cancel("enough")
            try:
                await task
            except asyncio.CancelledError as error:
                case(describe(error))
            case(loop.remove_reader(sock), loop.remove_writer(sock), sock.fileno() >= 0)

    assert parity(body)[0] == [("CancelledError", "enough"), (False, False, True)]


@pytest.mark.parametrize("name", WAITING)
def test_cancelled_in_the_turn_in_which_it_became_ready(parity, name):
    """The cancellation wins, and what was there can be read by the next."""

    async def body(case):
        loop = asyncio.get_running_loop()
        if name in ("sock_sendall", "sock_accept"):
            return
        with connected(socket.SOCK_DGRAM if "from" in name else socket.SOCK_STREAM) as (ours, theirs):
            task = asyncio.create_task(OPERATIONS[name](loop, ours))
            await turns(2)
            theirs.send(b"x")
            loop.call_soon(task.cancel)
            try:
                await task
            except asyncio.CancelledError:
                case("cancelled")
            case(await loop.sock_recv(ours, 10))

    parity(body)


def test_cancelled_while_it_connects(parity):
    """A listener whose queue is full keeps the connect waiting."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with listening(backlog=0) as server, contextlib.ExitStack() as stack:
            tasks = []
            for _ in range(8):
                sock = stack.enter_context(client())
                tasks.append(asyncio.create_task(loop.sock_connect(sock, server.getsockname())))
            await turns(3)
            waiting = [task for task in tasks if not task.done()]
            case(len(waiting) > 0)
            for task in waiting:
                task.cancel()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            case({type(result).__name__ for result in results})

    assert parity(body)[0] == [True, {"CancelledError"}]


def test_many_on_different_sockets(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            pairs = [stack.enter_context(connected()) for _ in range(50)]
            receiving = [asyncio.create_task(loop.sock_recv(ours, 10)) for ours, _ in pairs]
            await turns(1)
            for number, (_, theirs) in enumerate(pairs):
                await loop.sock_sendall(theirs, b"%d" % number)
            case(await asyncio.gather(*receiving))

    assert parity(body)[0] == [[b"%d" % number for number in range(50)]]


def test_reading_and_writing_at_once(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        with connected() as (ours, theirs):
            fill(ours)
            sending = asyncio.create_task(loop.sock_sendall(ours, b"end"))
            receiving = asyncio.create_task(loop.sock_recv(ours, 10))
            await turns(3)
            case(sending.done(), receiving.done())
            theirs.send(b"x")
            case(await receiving, sending.done())
            received = b""
            while not received.endswith(b"end"):
                received = (received + await loop.sock_recv(theirs, 1 << 20))[-3:]
            case(await sending)

    assert parity(body)[0] == [(False, False), (b"x", False), None]


@pytest.mark.ferrio_only("asyncio has one place for each direction, and the first waits for ever")
def test_two_that_wait_for_the_same_socket(loop):
    """Both get their turn: what one leaves is the other's."""

    async def main():
        with connected() as (ours, theirs):
            tasks = [asyncio.create_task(loop.sock_recv(ours, 1)) for _ in range(3)]
            await turns(2)
            theirs.send(b"abc")
            return sorted(await asyncio.gather(*tasks))

    assert loop.run_until_complete(main()) == [b"a", b"b", b"c"]


def test_a_socket_that_is_closed_while_something_waits(parity):
    """Whoever waits is not woken by it, and can still be cancelled."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with connected() as (ours, theirs):
            task = asyncio.create_task(loop.sock_recv(ours, 1))
            await turns(2)
            ours.close()
            theirs.close()
            await turns(2)
            case(task.done())
            task.cancel()
            await asyncio.wait([task])
            case(task.cancelled())

    assert parity(body)[0] == [False, True]


def test_a_reader_takes_the_place(loop):
    """`add_reader` on a socket that a coroutine waits for: both are served."""
    events = []

    async def main():
        with connected() as (ours, theirs):
            task = asyncio.create_task(loop.sock_recv(ours, 1))
            await turns(2)
            loop.add_reader(ours, events.append, "reader")
            theirs.send(b"xy")
            await turns(4)
            loop.remove_reader(ours)
            task.cancel()
            await asyncio.wait([task])

    loop.run_until_complete(main())
    assert "reader" in events


def test_a_loop_that_stops_in_between(loop):
    with connected() as (ours, theirs):
        task = loop.create_task(loop.sock_recv(ours, 10))
        turn(loop, 3)
        assert not task.done()
        theirs.send(b"after")
        assert loop.run_until_complete(task) == b"after"


async def wait_and_receive(loop, ours, theirs):
    """A receive that has to wait first, and what it gets."""
    receiving = asyncio.create_task(loop.sock_recv(ours, 10))
    await turns(2)
    theirs.send(b"waited")
    return await receiving


class TestAfterAWait:
    """A wait may leave the kernel watching the descriptor for the next one; nobody must notice."""

    @pytest.mark.parametrize("again", [1, 2, 5])
    def test_another_wait(self, parity, again):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                for _ in range(again):
                    case(await wait_and_receive(loop, ours, theirs))
                    theirs.send(b"there")
                    await turns(3)
                    case(await loop.sock_recv(ours, 10))

        parity(body)

    def test_the_number_has_another_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs), connected() as (first, second):
                case(await wait_and_receive(loop, ours, theirs))
                number = ours.fileno()
                ours.close()
                os.dup2(first.fileno(), number)
                with socket.socket(fileno=number) as reused:
                    case(await wait_and_receive(loop, reused, second))
                    case(await wait_and_receive(loop, reused, second))

        assert parity(body)[0] == [b"waited"] * 3

    @pytest.mark.parametrize("watched", [False, True])
    def test_the_object_goes_when_its_number_has_another_socket(self, parity, watched):
        """What is undone with it is not the other's, be that watched already or not."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (first, second):
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                with theirs:
                    case(await wait_and_receive(loop, ours, theirs))
                    number = ours.fileno()
                    ours.close()
                    os.dup2(first.fileno(), number)
                    with socket.socket(fileno=number) as reused:
                        if watched:
                            receiving = asyncio.create_task(loop.sock_recv(reused, 10))
                            await turns(2)
                        del ours
                        gc.collect()
                        if watched:
                            second.send(b"x")
                            case(await receiving)
                        case(await wait_and_receive(loop, reused, second))

        parity(body)

    def test_another_object_has_the_descriptor(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                with socket.socket(fileno=ours.detach()) as other:
                    case(await wait_and_receive(loop, other, theirs))

        parity(body)

    def test_a_transport_takes_the_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                reader, writer = await asyncio.open_connection(sock=ours)
                theirs.send(b"to the reader")
                case(await reader.readexactly(13))
                writer.close()
                await writer.wait_closed()

        parity(body)

    def test_a_reader(self, parity):
        """It is told in every turn, and the next coroutine is told too."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                calls = []
                loop.add_reader(ours, calls.append, 1)
                theirs.send(b"x")
                await turns(5)
                case(len(calls) > 2, loop.remove_reader(ours), loop.remove_reader(ours))
                case(ours.recv(10))
                case(await wait_and_receive(loop, ours, theirs))

        assert parity(body)[0] == [b"waited", (True, True, False), b"x", b"waited"]

    def test_the_other_direction(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                filled = fill(ours)
                sending = asyncio.create_task(loop.sock_sendall(ours, b"end"))
                await turns(3)
                case(sending.done(), len(theirs.recv(filled, socket.MSG_WAITALL)) > 0)
                await sending
                case(await wait_and_receive(loop, ours, theirs))

        parity(body)

    def test_a_duplicate_lives_on(self, loop_factory):
        """What comes there is not told to a loop that has nothing to do with it any more, or once."""
        loop = loop_factory()

        async def main():
            with connected() as (ours, theirs):
                await wait_and_receive(loop, ours, theirs)
                with ours.dup():
                    ours.close()
                    theirs.send(b"x")
                    begin = time.thread_time()
                    await asyncio.sleep(0.2)
                    return time.thread_time() - begin

        try:
            spent = min(loop.run_until_complete(main()) for _ in range(3))
        finally:
            loop.close()
        assert spent < 0.1, "the loop was awake while it slept"


class Stubborn(socket.socket):
    """A socket whose methods do less than they could."""

    def send(self, data, *args):
        return super().send(data[:3], *args)

    def recv(self, size, *args):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked % 3:
            raise BlockingIOError
        return super().recv(size, *args)


def test_methods_that_do_a_part_or_nothing(parity):
    """The kernel has nothing new to tell, and the coroutine must not wait for that."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with connected() as (ours, theirs), Stubborn(fileno=ours.detach()) as sock:
            sock.setblocking(False)
            case(await loop.sock_sendall(sock, b"0123456789"))
            case(theirs.recv(100))
            theirs.send(b"abc")
            case(await loop.sock_recv(sock, 1))
            case(await loop.sock_recv(sock, 1))

    assert parity(body)[0] == [None, b"0123456789", b"a", b"b"]
