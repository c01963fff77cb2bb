"""TCP transports: what a protocol is told, in which order, and what reaches the peer."""

import array
import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import socket
import weakref

import pytest
from support.peers import (
    MUCH,
    Recording,
    connect,
    receive_all,
    receive_exactly,
    reset,
    shrink,
    tcp_pair,
    turns,
)

pytestmark = pytest.mark.every_door


class Failure(Exception):
    pass


def fail(protocol):
    raise Failure("in a protocol")


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


def test_a_reset_by_the_peer(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            _, protocol = await connect(ours, case)
            reset(theirs)
            case(type(await protocol.lost))
            await turns()

    recorded, errors = parity(body)
    lost = ("connection_lost", "ConnectionResetError", "[Errno 104] Connection reset by peer")
    assert recorded == ["connection_made", lost, ConnectionResetError]
    assert not errors


def test_a_reset_while_output_waits(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            transport.pause_reading()
            transport.write(bytes(MUCH))
            reset(theirs)
            case(isinstance(await protocol.lost, ConnectionError), transport.get_write_buffer_size())

    parity(body)


@pytest.mark.asyncio_since("3.14", "writelines that looks")
def test_writing_to_a_connection_that_is_lost(parity, caplog):
    """It is ignored, and from the fifth time on logged."""

    async def body(case):
        with tcp_pair() as (ours, theirs), caplog.at_level(logging.WARNING, "asyncio"):
            caplog.clear()
            transport, protocol = await connect(ours, case)
            transport.abort()
            for _ in range(7):
                transport.write(b"x")
                transport.writelines([b"x"])
                case(len(caplog.records))
            transport.write(b"")
            await protocol.lost
            transport.write(b"x")
            case([record.message for record in caplog.records])

    recorded, _ = parity(body)
    assert recorded[-1] == ["socket.send() raised exception."] * 11


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


# Closing


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_ending_it_from_inside(parity, how, where):
    """connection_lost comes once, through the ready queue and so never from inside the call."""

    async def body(case):
        def end(protocol):
            case("begin")
            for _ in range(2):
                getattr(protocol.transport, how)()
            case("end", protocol.transport.is_closing())

        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello")
            _, protocol = await connect(ours, case, **{where: end})
            with contextlib.suppress(OSError):  # it may be gone
                theirs.shutdown(socket.SHUT_WR)
            await protocol.lost
            await turns()
            case(ours.fileno())

    recorded, _ = parity(body)
    begin = recorded.index("begin")
    assert recorded[begin + 1] == ("end", True)
    assert recorded.count(("connection_lost", "NoneType", "None")) == 1


def test_what_was_written_before_close_is_delivered(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            data = bytes(range(256)) * 4000
            transport.write(data)
            transport.close()
            case(transport.is_closing(), transport.get_write_buffer_size() > 0)
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(received == data, await protocol.lost, transport.get_write_buffer_size())

    recorded, _ = parity(body)
    assert recorded[-1] == (True, None, 0)


def test_abort_drops_what_waits(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.write(bytes(MUCH))
            transport.abort()
            case(transport.get_write_buffer_size(), await protocol.lost)

    recorded, _ = parity(body)
    assert recorded[-1] == (0, None)


def test_aborting_while_closing_ends_it_once(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.write(bytes(MUCH))
            transport.close()
            transport.abort()
            await protocol.lost
            await turns()

    recorded, _ = parity(body)
    assert recorded.count(("connection_lost", "NoneType", "None")) == 1


@pytest.mark.asyncio_since("3.14", "one end for it")
def test_closing_while_resumed(parity):
    """resume_writing that ends the connection, called when the last byte has gone."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case, resume_writing=lambda p: p.transport.abort())
            transport.set_write_buffer_limits(0)
            transport.write(bytes(MUCH))
            await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, MUCH)
            await protocol.lost
            await turns()

    recorded, _ = parity(body)
    assert recorded == ["connection_made", "pause_writing", "resume_writing", ("connection_lost", "NoneType", "None")]


# Half-close


@pytest.mark.parametrize("keep", [True, False, None])
def test_end_of_input(parity, keep):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case, eof_received=lambda p: keep)
            theirs.sendall(b"last words")
            theirs.shutdown(socket.SHUT_WR)
            await protocol.until("eof_received")
            await turns()
            case(transport.is_closing(), transport.is_reading())
            if keep:
                transport.write(b"answer")
                case(receive_exactly(theirs, 6))
                transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1:3] == [("data_received", "bytes", b"last words"), "eof_received"]


@pytest.mark.ferrio_only("asyncio tells of it again")
def test_the_end_of_input_is_told_once(loop, events):
    """Also to who pauses and resumes afterwards."""

    async def body():
        with tcp_pair() as (ours, theirs):
            record = lambda *event: events.append(event[0])  # noqa: E731
            transport, protocol = await connect(ours, record, eof_received=lambda p: True)
            theirs.shutdown(socket.SHUT_WR)
            await protocol.until("eof_received")
            transport.pause_reading()
            transport.resume_reading()
            await turns()
            transport.close()
            await protocol.lost

    loop.run_until_complete(body())
    assert events == ["connection_made", "eof_received", "connection_lost"]


@pytest.mark.asyncio_since("3.12", "the same for writelines")
def test_write_eof_comes_behind_what_waits(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            case(transport.can_write_eof())
            transport.write(bytes(MUCH))
            transport.write_eof()
            transport.write_eof()
            case.raised(transport.write, b"more")
            case.raised(transport.writelines, [b"more"])
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(len(received), transport.is_closing())
            theirs.sendall(b"still here")
            await protocol.until("data_received")
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert (MUCH, False) in recorded
    assert ("RuntimeError", "Cannot call write() after write_eof()") in recorded


# Reading


def test_pausing_inside_data_received(parity):
    async def body(case):
        def record(*event):
            if event[0] != "data_received":  # how much comes at once is the kernel's choice
                case(*event)

        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, record, data_received=lambda p: p.transport.pause_reading())
            theirs.sendall(bytes(125_000))
            await protocol.until("data_received")
            first = len(protocol.data)
            theirs.sendall(b"more")
            await turns(10)
            case(len(protocol.data) == first, transport.is_reading())
            # No new event: what is left is in the kernel already.
            while len(protocol.data) < 125_004:
                transport.resume_reading()
                await protocol.until("data_received")
            case(bytes(protocol.data[-4:]))
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded == ["connection_made", (True, False), b"more", ("connection_lost", "NoneType", "None")]


def test_pausing_before_the_beginning(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"early")
            transport, protocol = await connect(ours, case, connection_made=lambda p: p.transport.pause_reading())
            await turns()
            case(transport.is_reading())
            transport.resume_reading()
            transport.resume_reading()
            await protocol.until("data_received")
            transport.pause_reading()
            transport.pause_reading()
            transport.close()
            transport.resume_reading()
            case(transport.is_reading())
            await protocol.lost

    parity(body)


def test_resuming_inside_connection_made(parity):
    async def body(case):
        def there_and_back(protocol):
            protocol.transport.pause_reading()
            protocol.transport.resume_reading()

        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"early")
            transport, protocol = await connect(ours, case, connection_made=there_and_back)
            await protocol.until("data_received")
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[:2] == ["connection_made", ("data_received", "bytes", b"early")]


def test_messages_of_all_sizes(loop, events):
    """Nothing is lost or doubled when the room for a read grows and shrinks."""
    sizes = [1, 70_000, 400_000, 3, 1_000_000, 20, 20, 20, 300_000, 1]

    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            send = asyncio.get_running_loop().run_in_executor
            sent = bytearray()
            for number, size in enumerate(sizes):
                message = bytes([number]) * size
                sent += message
                await send(None, theirs.sendall, message)
                while len(protocol.data) < len(sent):
                    await protocol.until("data_received")
            assert protocol.data == sent
            transport.close()
            await protocol.lost

    loop.run_until_complete(body())


class Buffered(asyncio.BufferedProtocol):
    """Gives a buffer of the size that it is told to."""

    def __init__(self, record, size=16, **on):
        self.record = record
        self.on = on
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.record("get_buffer", sizehint)
        if "get_buffer" in self.on:
            return self.on["get_buffer"](self)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.record("buffer_updated", nbytes)
        self.data += self.buffer[:nbytes]
        if "buffer_updated" in self.on:
            self.on["buffer_updated"](self)

    def eof_received(self):
        self.record("eof_received")

    def connection_lost(self, exc):
        self.record("connection_lost", type(exc).__name__)
        self.lost.set_result(exc)


def test_buffered_protocol(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(bytes(range(40)))
            theirs.shutdown(socket.SHUT_WR)
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_connection(lambda: Buffered(case), sock=ours)
            await protocol.lost
            case(bytes(protocol.data))

    recorded, _ = parity(body)
    assert recorded[-1] == bytes(range(40))
    assert recorded[:2] == [("get_buffer", -1), ("buffer_updated", 16)]


@pytest.mark.parametrize(
    "on",
    [
        pytest.param({"get_buffer": fail}, id="get_buffer"),
        pytest.param({"buffer_updated": fail}, id="buffer_updated"),
        pytest.param({"get_buffer": lambda p: bytearray()}, id="empty"),
    ],
)
def test_buffered_protocol_that_fails(parity, on):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello")
            loop = asyncio.get_running_loop()
            _, protocol = await loop.create_connection(lambda: Buffered(case, **on), sock=ours)
            case(type(await protocol.lost))

    parity(body)


def released():
    view = memoryview(bytearray(16))
    view.release()
    return view


@pytest.mark.parametrize(
    "buffer",
    [
        pytest.param(lambda: b"constant", id="bytes"),
        pytest.param(lambda: "text", id="str"),
        pytest.param(lambda: None, id="None"),
        pytest.param(released, id="released"),
        pytest.param(lambda: memoryview(bytearray(16)).toreadonly(), id="read-only"),
        pytest.param(lambda: memoryview(bytearray(16))[::2], id="strided"),
        pytest.param(lambda: memoryview(bytearray(12)).cast("B", [3, 4]), id="two dimensions"),
        pytest.param(lambda: array.array("i", [0, 0]), id="array"),
        pytest.param(lambda: bytearray(1), id="one byte"),
    ],
)
def test_buffers_of_all_kinds(parity, buffer):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello, world")
            theirs.shutdown(socket.SHUT_WR)
            make = lambda: Buffered(case, get_buffer=lambda p: buffer())  # noqa: E731
            _, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
            case(type(await protocol.lost).__name__)

    parity(body)


@pytest.mark.ferrio_only("asyncio goes on with it")
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_connection_that_get_buffer_ends(loop, events, how):
    """Nothing is received any more."""

    def get_buffer(protocol):
        getattr(protocol.transport, how)()
        return bytearray(16)

    async def body():
        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello")
            make = lambda: Buffered(lambda *event: events.append(event[0]), get_buffer=get_buffer)  # noqa: E731
            _, protocol = await asyncio.get_running_loop().create_connection(make, sock=ours)
            await protocol.lost

    loop.run_until_complete(body())
    assert events == ["get_buffer", "connection_lost"]


@pytest.mark.ferrio_only("asyncio tells another protocol of the bytes")
def test_a_protocol_whose_get_buffer_puts_another_in_its_place(loop, events):
    """Who gave the buffer is told what is in it; what comes then is the other one's."""

    def get_buffer(protocol):
        protocol.transport.set_protocol(other)
        return bytearray(5)

    async def body():
        nonlocal other
        with tcp_pair() as (ours, theirs):
            other = Recording(lambda *event: events.append(event[0]))
            theirs.sendall(b"hello, world")
            theirs.shutdown(socket.SHUT_WR)
            make = lambda: Buffered(lambda *event: events.append(event[0]), get_buffer=get_buffer)  # noqa: E731
            await asyncio.get_running_loop().create_connection(make, sock=ours)
            await other.lost
            assert bytes(other.data) == b", world"

    other = None
    loop.run_until_complete(body())
    assert events == ["get_buffer", "buffer_updated", "data_received", "eof_received", "connection_lost"]


def test_changing_protocols(parity):
    """Also from inside data_received, to one of the other kind and back."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            buffered = Buffered(case, buffer_updated=lambda p: p.transport.set_protocol(first))
            first = Recording(case, data_received=lambda p: p.transport.set_protocol(buffered))
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: first, sock=ours)
            buffered.transport = transport
            for message in (b"one", b"two", b"three"):
                before = len(first.data) + len(buffered.data)
                theirs.sendall(message)
                while len(first.data) + len(buffered.data) == before:
                    await asyncio.sleep(0)
            transport.set_protocol(first)
            transport.close()
            await first.lost
            case(bytes(first.data), bytes(buffered.data), transport.get_protocol())

    recorded, _ = parity(body)
    assert recorded[-1] == (b"onethree", b"two", None)


# Writing


@pytest.mark.ferrio_only("asyncio sends what it has become")
@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
def test_mutable_data_is_sent_as_it_was(loop, kind, method):
    async def body():
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            data = kind(b"\1" * MUCH)
            last = kind(b"\1" * 1000)
            for chunk in (data, last):
                transport.write(chunk) if method == "write" else transport.writelines([chunk])
            data[:] = b"\2" * len(data)
            last[:] = b"\2" * len(last)
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            assert received == b"\1" * (MUCH + 1000)
            await protocol.lost

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio tries to send with every writelines, and chokes on empty chunks")
def test_writes_are_sent_in_order(loop):
    """More chunks than the kernel takes in one call, empty ones among them, by both methods."""
    chunks = [bytes([n % 251]) * (n % 7) for n in range(5000)]

    async def body():
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            transport.write(bytes(MUCH))
            waiting = transport.get_write_buffer_size()
            assert waiting > 0
            for chunk in chunks:
                transport.write(chunk)
            transport.writelines(iter(chunks))
            transport.writelines([])
            transport.writelines([b"", bytearray(), memoryview(b"")])
            total = sum(map(len, chunks))
            assert transport.get_write_buffer_size() == waiting + 2 * total
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            assert received == bytes(MUCH) + b"".join(chunks) * 2
            await protocol.lost
            assert transport.get_write_buffer_size() == 0

    loop.run_until_complete(body())


def test_a_hundred_thousand_writes(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            chunks = [b"%06d" % number for number in range(100_000)]
            for chunk in chunks:
                transport.write(chunk)
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(received == b"".join(chunks), await protocol.lost)

    parity(body)


def test_a_hundred_thousand_chunks(parity):
    """Some of them are empty."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            chunks = [b"%06d" % number if number % 3 else b"" for number in range(100_000)]
            transport.writelines(chunks)
            for nothing in ([], [b""], [b"", bytearray()]):
                transport.writelines(nothing)
            transport.writelines(chunk for chunk in (b"the", b"", b"end"))
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(received == b"".join(chunks) + b"theend", await protocol.lost)

    parity(body)


def test_writelines_goes_out_at_once(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three "), b"", b"four"])
            case(receive_exactly(theirs, 18), transport.get_write_buffer_size())
            transport.writelines([b"alone"])
            case(receive_exactly(theirs, 5))
            transport.close()
            await protocol.lost

    parity(body)


@pytest.mark.asyncio_since("3.14", "this text")
@pytest.mark.parametrize("data", ["text", None, 7, ["list"]], ids=repr)
def test_what_is_no_data(parity, data):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            case.raised(transport.write, data)
            transport.abort()
            case.raised(transport.write, data)
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1][0] == recorded[2][0] == "TypeError"


@pytest.mark.ferrio_only("asyncio keeps the chunks before the wrong one, and sends them some day")
def test_writelines_with_a_wrong_chunk_writes_nothing(loop):
    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
                transport.writelines([b"one", "two"])
            assert transport.get_write_buffer_size() == 0
            transport.close()
            assert receive_all(await _after(protocol.lost, theirs)) == b""

    loop.run_until_complete(body())


async def _after(future, value):
    await future
    return value


def test_flow_control(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            case(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(high=1000)
            case(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(low=100)
            case(transport.get_write_buffer_limits())
            case.raised(transport.set_write_buffer_limits, high=1, low=2)
            case.raised(transport.set_write_buffer_limits, high=-1)
            transport.write(bytes(MUCH))
            transport.write(b"more")
            # Lower marks: it is paused already.
            transport.set_write_buffer_limits(high=0)
            case(transport.get_write_buffer_limits())
            await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, MUCH + 4)
            await protocol.until("resume_writing")
            case(transport.get_write_buffer_size())
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded.count("pause_writing") == recorded.count("resume_writing") == 1
    assert ("ValueError", "high (1) must be >= low (2) must be >= 0") in recorded


def test_lower_limits_pause_at_once(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.set_write_buffer_limits(high=100_000_000)
            transport.write(bytes(MUCH))
            case("lower")
            transport.set_write_buffer_limits(high=1)
            transport.abort()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1:3] == ["lower", "pause_writing"]


@pytest.mark.patience(120)
def test_more_than_two_gib(loop):
    """The kernel takes at most 2 GiB less a page in one call; numbers must not be cut to 32 bits."""
    size = (2 << 30) + 12345
    try:
        data = bytes(size)
    except MemoryError:
        pytest.skip("not enough memory")

    def receive(sock):
        buffer = bytearray(1 << 20)
        received = 0
        while count := sock.recv_into(buffer):
            received += count
        return received

    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            transport.write(data)
            assert 0 < transport.get_write_buffer_size() < size
            transport.close()
            assert await asyncio.get_running_loop().run_in_executor(None, receive, theirs) == size
            await protocol.lost

    loop.run_until_complete(body())


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


# Who keeps whom


@pytest.mark.ferrio_only("asyncio leaves some of it to the collector")
def test_nothing_is_left_for_the_collector(loop):
    """The protocol is released with the loss, and the transport when nobody keeps it."""

    class Plain(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.set()

    async def body(how):
        with tcp_pair() as (ours, theirs):
            lost.clear()
            transport, protocol = await loop.create_connection(Plain, sock=ours)
            if how == "reset":
                reset(theirs)
            elif how == "end":
                theirs.close()
            else:
                getattr(transport, how)()
            references = weakref.ref(transport), weakref.ref(protocol)
            del protocol
            await lost.wait()
            await turns()
            assert references[1]() is None, f"the protocol is kept after {how}"
            del transport
            assert references[0]() is None, f"the transport is kept after {how}"

    lost = asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        for how in ("close", "abort", "reset", "end"):
            loop.run_until_complete(body(how))
    finally:
        gc.enable()


def test_an_unclosed_transport_complains(loop):
    async def body():
        with tcp_pair() as (ours, theirs):
            transport, _ = await connect(ours, lambda *event: None)
            transport.pause_reading()
            # What has been paused for long is not watched any more.
            theirs.sendall(b"x")
            await turns()
            text = f"unclosed transport {transport!r}"
            with pytest.warns(ResourceWarning) as warnings:  # noqa: PT031
                del transport, _
                gc.collect()
            assert [str(warning.message) for warning in warnings] == [text]
            assert ours.fileno() == -1

    loop.run_until_complete(body())


def test_a_loop_that_is_closed_with_a_transport_open(loop):
    async def body():
        return await connect(ours, lambda *event: None)

    with tcp_pair() as (ours, theirs):
        transport, _ = loop.run_until_complete(body())
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        with pytest.warns(ResourceWarning, match="unclosed transport"):  # noqa: PT031
            del transport, _
            gc.collect()


def test_a_number_that_changes_hands(loop):
    """A descriptor that its user closes while it is watched harms nobody, and its next owner gets its own events."""

    async def body():
        with tcp_pair() as (ours, theirs), tcp_pair() as (second, peer):
            transport, protocol = await connect(ours, lambda *event: None)
            number = ours.detach()
            os.dup2(second.fileno(), number)
            moved = socket.socket(fileno=number)
            moved.setblocking(False)
            transport.abort()
            await protocol.lost
            await turns()
            new, its_protocol = await connect(moved, lambda *event: None)
            peer.sendall(b"for the new owner")
            await its_protocol.until("data_received")
            assert its_protocol.data == b"for the new owner"
            new.close()
            await its_protocol.lost

    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.12", "a server that waits for its connections")
def test_methods_can_be_replaced(loop):
    """Tests of other projects put doubles in the place of a transport's methods."""
    written = []

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write = written.append
        transport.write(b"data")
        transport.itself = transport
        transport.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)
        return weakref.ref(transport)

    reference = loop.run_until_complete(main())
    gc.collect()
    assert reference() is None
    assert written == [b"data"]
