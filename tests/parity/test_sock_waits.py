"""`sock_*` that have to wait: cancelled, several at once, and with sockets that are no good."""

import asyncio
import contextlib
import socket

import pytest
from support.case import describe, outcome
from support.loops import turn
from support.peers import turns
from support.socks import client, connected, fill, listening

pytestmark = pytest.mark.every_door

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
def test_blocking_sockets_in_debug_mode(parity, name):
    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        for timeout in (None, 0.001):
            with socket.socket() as sock:
                sock.settimeout(timeout)
                case(await outcome(OPERATIONS[name](loop, sock)))

    assert parity(body)[0] == [("ValueError", "the socket must be non-blocking")] * 2


def test_blocking_sockets(parity):
    """Outside of debug mode they are not refused, and do where nothing has to be waited for."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with connected() as (ours, theirs):
            ours.setblocking(True)
            theirs.send(b"x")
            case(await outcome(loop.sock_sendall(ours, b"y")), await outcome(loop.sock_recv(ours, 1)))

    assert parity(body)[0] == [(None, b"x")]


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


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "recv" in name])
def test_cancelled_in_the_turn_in_which_it_became_ready(parity, name):
    """The cancellation wins, and what was there can be read by the next."""

    async def body(case):
        loop = asyncio.get_running_loop()
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
