"""TCP transports: what a protocol is told, what can be asked, and in which context."""

import asyncio
import contextlib
import contextvars
import gc
import socket

import pytest
from support.peers import (
    MUCH,
    Failure,
    connect,
    fail,
    receive_all,
    receive_exactly,
    shrink,
    tcp_pair,
    turns,
)

pytestmark = pytest.mark.every_door


# What protocols are told


def test_a_connection_from_begin_to_end(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case, data_received=lambda p: p.transport.write(p.data))
            case(protocol.transport is transport, transport.get_protocol() is protocol)
            theirs.sendall(b"hello")
            await protocol.until("data_received")
            case(receive_exactly(theirs, 5))
            theirs.shutdown(socket.SHUT_WR)
            await protocol.lost
            case(receive_all(theirs))

    recorded, errors = parity(body)
    assert recorded[0] == "connection_made"
    assert recorded[-2:] == [("connection_lost", "NoneType", "None"), b""]
    assert not errors


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_an_exception_of_the_protocol_closes(parity, method):
    """It is reported, and what connection_lost is given."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case, **{method: fail})
            theirs.sendall(b"hello") if method == "data_received" else theirs.shutdown(socket.SHUT_WR)
            case(isinstance(await protocol.lost, Failure), transport.is_closing())

    recorded, errors = parity(body)
    assert ("connection_lost", "Failure", "in a protocol") in recorded
    assert errors == [(f"Fatal error: protocol.{method}() call failed.", ("Failure", "in a protocol"))]


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_an_exception_at_either_end_is_reported(loop, exceptions, events, method):
    """The connection goes on after connection_made, and is closed after connection_lost."""

    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: events.append(event[0]), **{method: fail})
            theirs.sendall(b"hello")
            await protocol.until("data_received")
            transport.close()
            await protocol.lost
            await turns()
            assert ours.fileno() == -1

    loop.run_until_complete(body())
    assert events == ["connection_made", "data_received", "connection_lost"]
    assert [error for _, error in exceptions.take()] == [("Failure", "in a protocol")]


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_exception_in_flow_control_is_only_reported(parity, method):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case, **{method: fail})
            transport.write(bytes(MUCH))
            transport.close()
            await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(await protocol.lost)

    _, errors = parity(body)
    assert errors == [(f"protocol.{method}() failed", ("Failure", "in a protocol"))]


@pytest.mark.parametrize("method", ["connection_made", "data_received", "connection_lost"])
@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_leaves_it(loop, method, exception):
    """At once, and the loop can go on."""

    def leave(protocol):
        raise exception

    async def body(ours, theirs):
        transport, protocol = await connect(ours, lambda *event: None, **{method: leave})
        theirs.sendall(b"hello")
        if method == "connection_lost":
            transport.close()
        await asyncio.sleep(3600)

    with tcp_pair() as (ours, theirs):
        task = loop.create_task(body(ours, theirs))
        with pytest.raises(exception):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
        # Whoever interrupts a program leaves its transports to it.
        del task
        with pytest.warns(ResourceWarning) if ours.fileno() != -1 else contextlib.nullcontext():
            loop.close()
            gc.collect()


CALLS = {
    "abort": lambda transport: transport.abort(),
    "close": lambda transport: transport.close(),
    "write": lambda transport: transport.write(b"x" * 10),
    "write_eof": lambda transport: transport.write_eof(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
    "limits": lambda transport: transport.set_write_buffer_limits(0),
    "protocol": lambda transport: transport.set_protocol(transport.get_protocol()),
}


def _inside(where, name):
    # Before, asyncio ends the connection twice.
    marks = pytest.mark.asyncio_since("3.14", "one end for it") if name in ("abort", "close") else ()
    marks = marks if where == "resume_writing" else ()
    return pytest.param(where, CALLS[name], id=f"{where}-{name}", marks=marks)


WHERE = ["connection_made", "data_received", "eof_received", "pause_writing", "resume_writing", "connection_lost"]


@pytest.mark.parametrize(("where", "call"), [_inside(where, name) for where in WHERE for name in CALLS])
def test_calls_from_inside(parity, where, call):
    async def body(case):
        def act(protocol):
            # To lower the limit pauses again.
            if not called:
                called.append(where)
                case.raised(call, protocol.transport)
                case(protocol.transport.is_closing(), protocol.transport.is_reading())

        called = []
        in_thread = asyncio.get_running_loop().run_in_executor
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: case(event[0]), **{where: act})
            if where in ("pause_writing", "resume_writing"):
                transport.write(bytes(MUCH))
                reading = in_thread(None, receive_all, theirs)
                if where == "resume_writing":
                    await protocol.until("resume_writing")
                transport.close()
                await asyncio.wait([reading])
                await protocol.lost
            else:
                with contextlib.suppress(OSError):  # it may be gone
                    theirs.sendall(b"hello")
                    theirs.shutdown(socket.SHUT_WR)
                await turns(20)
            if not protocol.lost.done():
                transport.abort()
            await protocol.lost
            await turns()

    recorded, _ = parity(body)
    assert recorded.count("connection_made") == recorded.count("connection_lost") == 1


# What can be asked


def test_extra_info(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            sockname, peername = ours.getsockname(), ours.getpeername()
            transport, protocol = await connect(ours, case)
            sock = transport.get_extra_info("socket")
            case(type(sock).__name__, sock.fileno() == ours.fileno(), transport.get_extra_info("socket") is sock)
            case(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
            case(transport.get_extra_info("nothing"), transport.get_extra_info("nothing", 7))
            for _ in range(2):
                case(transport.get_extra_info("sockname") == sockname)
                case(transport.get_extra_info("peername", "default") == peername)
                transport.abort()
                await protocol.lost
            case(transport.get_extra_info("socket") is sock, sock.fileno())
            case(isinstance(transport, asyncio.Transport), issubclass(type(transport), object))

    parity(body)


def test_the_socket_is_asked_for_when_the_connection_is_lost(parity):
    """It is a socket that is closed, and not None."""

    async def body(case):
        unix = socket.socketpair()
        with tcp_pair() as pair, unix[0], unix[1]:
            for ours in (pair[0], unix[0]):
                ours.setblocking(False)
                transport, protocol = await connect(ours, case)
                transport.abort()
                await protocol.lost
                await turns()
                sock = transport.get_extra_info("socket", "default")
                case(type(sock).__name__, sock.fileno(), sock.family, sock.type)
                case(transport.get_extra_info("socket") is sock)
                case.raised(sock.setsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    parity(body)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_extra_info_of_ipv6(parity):
    async def body(case):
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")
        with listener:
            ours = socket.create_connection(listener.getsockname()[:2])
            theirs, _ = listener.accept()
        ours.setblocking(False)
        with ours, theirs:
            names = ours.getsockname(), ours.getpeername()
            transport, protocol = await connect(ours, case)
            case((transport.get_extra_info("sockname"), transport.get_extra_info("peername")) == names)
            transport.abort()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1] is True


def test_transports_of_unix_sockets(parity):
    async def body(case):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            transport, protocol = await connect(ours, case)
            case(transport.get_extra_info("sockname"), transport.get_extra_info("peername"))
            theirs.sendall(b"hello")
            await protocol.until("data_received")
            transport.close()
            await protocol.lost

    parity(body)


def test_repr(loop):
    async def body():
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            name, fd = type(transport).__name__, ours.fileno()
            assert repr(transport) == f"<{name} fd={fd} read=polling write=<idle, bufsize=0>>"
            transport.pause_reading()
            assert repr(transport) == f"<{name} fd={fd} read=idle write=<idle, bufsize=0>>"
            transport.write(bytes(MUCH))
            size = transport.get_write_buffer_size()
            assert repr(transport) == f"<{name} fd={fd} read=idle write=<polling, bufsize={size}>>"
            transport.close()
            assert repr(transport) == f"<{name} closing fd={fd} read=idle write=<polling, bufsize={size}>>"
            transport.abort()
            await protocol.lost
            await turns()
            assert repr(transport).startswith(f"<{name} closed fd={fd}")

    loop.run_until_complete(body())


def test_what_is_not_read_any_more_is_not_watched(loop):
    """The kernel would tell of it again and again."""

    async def body():
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None, eof_received=lambda protocol: True)
            theirs.shutdown(socket.SHUT_WR)
            await protocol.until("eof_received")
            assert " read=idle " in repr(transport)
            transport.abort()
            await protocol.lost
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            transport.write(bytes(MUCH))
            transport.close()
            assert " closing " in repr(transport)
            assert " read=idle " in repr(transport)
            transport.abort()
            await protocol.lost

    loop.run_until_complete(body())


def test_a_descriptor_has_one_owner(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            for method in (loop.add_reader, loop.add_writer):
                try:
                    method(ours.fileno(), print)
                except RuntimeError as error:
                    case("is used by transport" in str(error))
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(ours, 1)
            transport.close()
            await protocol.lost

    parity(body)


# Contexts

variable = contextvars.ContextVar("variable", default=None)


@pytest.mark.asyncio_since("3.15", "a context of their own for transports")
def test_the_context_is_the_creators(parity):
    async def body(case):
        def note(protocol):
            case("seen", variable.get())
            variable.set(variable.get() + 1)

        with tcp_pair() as (ours, theirs):
            variable.set(1)
            names = ["connection_made", "data_received", "eof_received", "connection_lost"]
            _, protocol = await connect(ours, lambda *event: None, **dict.fromkeys(names, note))
            variable.set(100)
            theirs.sendall(b"hello")
            await protocol.until("data_received")
            theirs.shutdown(socket.SHUT_WR)
            await protocol.lost
            case(variable.get())

    recorded, _ = parity(body)
    assert recorded == [("seen", 1), ("seen", 2), ("seen", 3), ("seen", 4), 100]


def test_no_task_is_current_in_a_protocol(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            note = lambda p: case(asyncio.current_task() is None)  # noqa: E731
            names = ["connection_made", "data_received", "connection_lost"]
            transport, protocol = await connect(ours, case, **dict.fromkeys(names, note))
            theirs.sendall(b"hello")
            await protocol.until("data_received")
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded.count(True) == 3
