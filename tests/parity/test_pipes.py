"""Pipe transports: what a protocol is told, in which order, what arrives at the other end, and what is refused."""

import asyncio
import contextlib
import contextvars
import gc
import os
import socket
import sys
import warnings
import weakref

import pytest
from support.case import describe

pytestmark = pytest.mark.every_door

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")

MUCH = bytes(range(256)) * 4096
"""More than a pipe holds."""


class Failure(Exception):
    pass


def fail(*args):
    raise Failure("in a protocol")


class Recording(asyncio.Protocol):
    """Records every call, and lets a coroutine wait for one. What a method does besides is in `on`, by its name."""

    def __init__(self, record, **on):
        self.record = record
        self.on = on
        self.transport = None
        self.data = bytearray()
        self.calls = asyncio.Queue()

    def _called(self, name, *arguments):
        self.record(name, *arguments)
        self.calls.put_nowait(name)
        return self.on[name](self) if name in self.on else None

    async def until(self, name):
        """Returns once the method has been called, again if it was waited for before."""
        while await self.calls.get() != name:
            pass

    def connection_made(self, transport):
        self.transport = transport
        self._called("connection_made")

    def data_received(self, data):
        self.data += data
        self._called("data_received", type(data).__name__, bytes(data[:20]))

    def eof_received(self):
        return self._called("eof_received")

    def pause_writing(self):
        self._called("pause_writing")

    def resume_writing(self):
        self._called("resume_writing")

    def connection_lost(self, exc):
        self._called("connection_lost", describe(exc))


@contextlib.contextmanager
def pipe():
    """The two ends of a pipe, unbuffered files."""
    read, write = os.pipe()
    with open(read, "rb", 0) as reader, open(write, "wb", 0) as writer:
        yield reader, writer


async def connect_read(file, record, **on):
    loop = asyncio.get_running_loop()
    return await loop.connect_read_pipe(lambda: Recording(record, **on), file)


async def connect_write(file, record, **on):
    loop = asyncio.get_running_loop()
    return await loop.connect_write_pipe(lambda: Recording(record, **on), file)


async def turns(count=5):
    """As many turns of the loop, in which whatever is ready by itself has run."""
    for _ in range(count):
        await asyncio.sleep(0)


def nothing(*event):
    pass


# Reading


def test_reading_from_begin_to_end(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case)
            case(protocol.transport is transport, transport.get_protocol() is protocol, transport.is_reading())
            writer.write(b"hello")
            await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")
            await turns()
            case(transport.is_closing(), transport.is_reading(), reader.closed, transport.get_protocol())

    assert parity(body) == (
        [
            "connection_made",
            (True, True, True),
            ("data_received", "bytes", b"hello"),
            "eof_received",
            ("connection_lost", None),
            (True, False, True, None),
        ],
        [],
    )


def test_what_was_there_before_is_read_after_connection_made(parity):
    async def body(case):
        with pipe() as (reader, writer):
            writer.write(b"early")
            writer.close()
            _, protocol = await connect_read(reader, case)
            await protocol.until("connection_lost")

    recorded, _ = parity(body)
    assert recorded == [
        "connection_made",
        ("data_received", "bytes", b"early"),
        "eof_received",
        ("connection_lost", None),
    ]


def test_much_arrives_whole(loop):
    async def body():
        with pipe() as (reader, writer):
            _, source = await connect_write(writer, nothing)
            _, sink = await connect_read(reader, nothing)
            source.transport.write(MUCH)
            source.transport.write(MUCH)
            source.transport.close()
            await sink.until("connection_lost")
            return sink.data

    assert loop.run_until_complete(body()) == MUCH + MUCH


def test_an_exception_of_data_received_is_reported_and_the_pipe_goes_on(loop, exceptions, events):
    async def body():
        with pipe() as (reader, writer):
            _, protocol = await connect_read(reader, lambda *event: events.append(event), data_received=fail)
            for _ in range(2):
                writer.write(b"x")
                await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())
    assert [error for _, error in exceptions.take()] == [("Failure", "in a protocol")] * 2
    assert events[-1] == ("connection_lost", None)


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
def test_an_exception_at_either_end_is_reported(loop, exceptions, events, method):
    async def body():
        with pipe() as (reader, writer):
            _, protocol = await connect_read(reader, lambda *event: events.append(event[0]), **{method: fail})
            writer.write(b"x")
            await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")
            await turns()
            assert reader.closed

    loop.run_until_complete(body())
    assert events == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert [error for _, error in exceptions.take()] == [("Failure", "in a protocol")]


@pytest.mark.parametrize("method", ["connection_made", "data_received", "connection_lost"])
def test_system_exit_leaves_the_loop(loop, method):
    """At once, and the loop can go on."""

    def leave(protocol):
        transports.append(protocol.transport)
        raise SystemExit

    async def body():
        _, protocol = await connect_read(reader, nothing, **{method: leave})
        transports.append(protocol.transport)
        writer.write(b"x")
        if method == "connection_lost":
            transports[0].close()
        await asyncio.sleep(3600)

    async def end():
        transports[0].close()
        await turns()

    transports = []
    with pipe() as (reader, writer):
        task = loop.create_task(body())
        with pytest.raises(SystemExit):
            loop.run_forever()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(end())
        assert reader.closed


def test_pause_stops_delivery_at_once(parity):
    """And resume_reading() delivers what is left, with nothing new."""

    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case, data_received=lambda p: p.transport.pause_reading())
            writer.write(b"first")
            await protocol.until("data_received")
            case(transport.is_reading())
            writer.write(b"second")
            await turns()
            case("resumes")
            transport.resume_reading()
            await protocol.until("data_received")
            transport.pause_reading()
            transport.resume_reading()
            transport.resume_reading()
            case(transport.is_reading())
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            case(transport.is_reading())
            await protocol.until("connection_lost")

    recorded, _ = parity(body)
    assert recorded.index("resumes") < recorded.index(("data_received", "bytes", b"second"))


def test_paused_before_it_has_begun(parity):
    async def body(case):
        with pipe() as (reader, writer):
            writer.write(b"early")
            transport, protocol = await connect_read(
                reader, case, connection_made=lambda p: p.transport.pause_reading()
            )
            await turns()
            case("resumes")
            transport.resume_reading()
            await protocol.until("data_received")
            transport.close()
            await protocol.until("connection_lost")

    recorded, _ = parity(body)
    assert recorded[:2] == ["connection_made", "resumes"]


def test_close_is_told_in_a_later_turn_and_once(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case)
            transport.close()
            transport.close()
            case("closed", transport.is_closing(), reader.closed)
            await protocol.until("connection_lost")
            await turns()
            transport.close()
            await turns()
            case(reader.closed)

    assert parity(body)[0] == ["connection_made", ("closed", True, False), ("connection_lost", None), True]


def test_close_in_connection_made(parity):
    async def body(case):
        with pipe() as (reader, writer):
            writer.write(b"never read")
            _, protocol = await connect_read(reader, case, connection_made=lambda p: p.transport.close())
            await protocol.until("connection_lost")

    assert parity(body)[0] == ["connection_made", ("connection_lost", None)]


def test_another_protocol_gets_what_comes(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, first = await connect_read(reader, case)
            second = Recording(lambda *event: case("second", *event))
            transport.set_protocol(second)
            case(transport.get_protocol() is second)
            writer.write(b"x")
            await second.until("data_received")
            transport.close()
            await second.until("connection_lost")

    recorded, _ = parity(body)
    assert [event[0] for event in recorded[2:]] == ["second", "second"]


# Writing


def test_writing_from_begin_to_end(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            case(transport.can_write_eof(), transport.get_write_buffer_limits(), transport.get_write_buffer_size())
            changed = bytearray(b"bytearray ")
            transport.write(b"bytes ")
            transport.write(changed)
            transport.write(memoryview(b"memoryview "))
            transport.write(b"")
            transport.writelines([b"several ", bytearray(b"pieces")])
            changed[:] = b"something "
            case(reader.read(1000))
            transport.write_eof()
            case("ended", transport.is_closing())
            await protocol.until("connection_lost")
            await turns()
            case(writer.closed, reader.read(1000))

    assert parity(body)[0] == [
        "connection_made",
        (True, (16384, 65536), 0),
        b"bytes bytearray memoryview several pieces",
        ("ended", True),
        ("connection_lost", None),
        (True, b""),
    ]


@pytest.mark.ferrio_only("asyncio asserts, which -O leaves out")
@pytest.mark.parametrize("data", ["text", None, 3, [b"x"]], ids=repr)
def test_what_is_no_bytes_is_refused(loop, data):
    async def body():
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, nothing)
            with pytest.raises(TypeError, match="data argument must be a bytes, bytearray, or memoryview object, not"):
                transport.write(data)
            transport.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())


def test_flow_control(loop, events):
    """The producer is paused above the high mark and goes on at the low one; what is buffered is of the call's time."""

    async def body():
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, lambda *event: events.append(event[0]))
            data = bytearray(MUCH)
            transport.write(data)
            size = transport.get_write_buffer_size()
            assert 0 < size < len(MUCH)
            data[:] = bytes(len(data))
            transport.write(MUCH)
            assert transport.get_write_buffer_size() == size + len(MUCH)
            transport.close()
            _, sink = await connect_read(reader, nothing)
            await sink.until("connection_lost")
            assert sink.data == MUCH + MUCH
            await protocol.until("connection_lost")

    loop.run_until_complete(body())
    assert events == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


def test_limits(parity):
    async def body(case):
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, nothing)
            for limits in [{}, {"high": 400}, {"low": 3}, {"high": 0}, {"high": 5, "low": 5}]:
                transport.set_write_buffer_limits(**limits)
                case(transport.get_write_buffer_limits())
            case.raised(transport.set_write_buffer_limits, high=1, low=2)
            case.raised(transport.set_write_buffer_limits, high=-1)
            transport.close()
            await protocol.until("connection_lost")

    parity(body)


def test_the_reader_goes_away(parity):
    """It is noticed although nothing is written."""

    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            reader.close()
            await protocol.until("connection_lost")
            await turns()
            case(transport.is_closing(), writer.closed)

    assert parity(body)[0] == ["connection_made", ("connection_lost", None), (True, True)]


def test_the_reader_goes_away_from_what_is_buffered(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            transport.write(MUCH)
            reader.close()
            await protocol.until("connection_lost")
            case(transport.get_write_buffer_size())

    assert parity(body)[0][-2:] == [("connection_lost", ("BrokenPipeError", "")), 0]


def test_writes_to_nobody_are_counted(parity, caplog):
    async def body(case):
        caplog.clear()
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            reader.close()
            for _ in range(7):
                transport.write(b"x")
            await protocol.until("connection_lost")
            case([record.getMessage() for record in caplog.records if record.name == "asyncio"])

    recorded, _ = parity(body)
    assert recorded[1] == ("connection_lost", ("BrokenPipeError", "[Errno 32] Broken pipe"))
    assert recorded[2] == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2


def test_abort_drops_what_is_buffered(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            transport.write(MUCH)
            transport.abort()
            case("aborted", transport.is_closing(), transport.get_write_buffer_size())
            await protocol.until("connection_lost")
            case(len(reader.read(len(MUCH))) < len(MUCH), writer.closed)

    assert parity(body)[0][2:] == [("aborted", True, 0), ("connection_lost", None), (True, True)]


@pytest.mark.ferrio_only("asyncio calls connection_lost twice, the second time of None")
def test_abort_after_close_is_told_once(loop, events):
    async def body():
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, lambda *event: events.append(event[0]))
            transport.close()
            transport.abort()
            await protocol.until("connection_lost")
            await turns()

    loop.run_until_complete(body())
    assert events == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_exception_in_flow_control_is_only_reported(parity, method):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, nothing, **{method: fail})
            transport.write(MUCH)
            transport.close()
            _, sink = await connect_read(reader, nothing)
            await sink.until("connection_lost")
            await protocol.until("connection_lost")
            case(sink.data == MUCH)

    assert parity(body) == ([True], [(f"protocol.{method}() failed", ("Failure", "in a protocol"))])


# What is a pipe


def test_sockets_are_pipes(parity):
    async def body(case):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            _, protocol = await connect_read(ours, case)
            theirs.send(b"hello")
            await protocol.until("data_received")
            theirs.close()
            await protocol.until("connection_lost")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            transport, protocol = await connect_write(ours, case)
            transport.write(b"hello")
            case(theirs.recv(100))
            theirs.close()
            await protocol.until("connection_lost")

    parity(body)


def test_fifos_are_pipes(parity, tmp_path):
    async def body(case):
        path = tmp_path / case.name
        os.mkfifo(path)
        read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        write = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with open(read, "rb", 0) as reader, open(write, "wb", 0) as writer:
            _, sink = await connect_read(reader, case)
            transport, source = await connect_write(writer, nothing)
            transport.write(b"hello")
            await sink.until("data_received")
            transport.close()
            await sink.until("connection_lost")
            await source.until("connection_lost")
        os.unlink(path)

    parity(body)


def test_a_terminal_ends_with_an_error(parity):
    """EIO, of which only debug mode speaks."""

    async def body(case):
        master, slave = os.openpty()
        with open(master, "rb", 0) as master, open(slave, "wb", 0) as slave:
            _, protocol = await connect_read(master, case)
            slave.write(b"hello")
            await protocol.until("data_received")
            slave.close()
            await protocol.until("connection_lost")

    recorded, errors = parity(body)
    assert recorded[-1] == ("connection_lost", ("OSError", "[Errno 5] Input/output error"))
    assert not errors


def test_both_sides_of_one_terminal(loop):
    """Two transports of one descriptor; asyncio can do it while the writer never has to wait."""

    async def body():
        master, slave = os.openpty()
        with (
            open(master, "rb", 0) as reading,
            open(master, "wb", 0, closefd=False) as writing,
            open(slave, "r+b", 0) as far,
        ):
            _, sink = await connect_read(reading, nothing)
            transport, source = await connect_write(writing, nothing)
            transport.write(b"to the slave\n")
            assert far.read(100) == b"to the slave\n"
            far.write(b"to the master")
            while b"to the master" not in sink.data:
                await sink.until("data_received")
            transport.close()
            await source.until("connection_lost")
            sink.transport.close()
            await sink.until("connection_lost")

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio has one place for a descriptor, and the second transport takes it")
def test_both_sides_of_one_socket(loop):
    async def body():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with ours, theirs:
            _, sink = await connect_read(ours, nothing)
            transport, source = await connect_write(ours, nothing)
            transport.write(MUCH)
            received = bytearray()
            while len(received) < len(MUCH):
                received += await asyncio.get_running_loop().sock_recv(theirs, len(MUCH))
            assert received == MUCH
            theirs.close()
            await sink.until("connection_lost")
            await source.until("connection_lost")

    loop.run_until_complete(body())


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_files_are_refused(parity, method, tmp_path):
    """And stay open."""

    async def body(case):
        with open(tmp_path / "file", "w+b") as file:
            try:
                await getattr(asyncio.get_running_loop(), method)(lambda: Recording(nothing), file)
            except ValueError as error:
                case(describe(error))
            case(file.closed)

    parity(body)


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_factory_that_fails(parity, method):
    async def body(case):
        with pipe() as files:
            for file in files:
                try:
                    await getattr(asyncio.get_running_loop(), method)(fail, file)
                except Failure:
                    case(file.closed)

    assert parity(body)[0] == [False, False]


@pytest.mark.ferrio_only("asyncio leaves half a transport, which fails in its __del__")
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_a_closed_file_is_refused(loop, method):
    async def body():
        with pipe() as (reader, _):
            reader.close()
            with pytest.raises(ValueError, match="closed file"):
                await getattr(asyncio.get_running_loop(), method)(lambda: Recording(nothing), reader)

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio lets the descriptor be taken from the transport")
def test_the_descriptor_is_the_transports(loop):
    async def body():
        with pipe() as (reader, _):
            transport, protocol = await connect_read(reader, nothing)
            with pytest.raises(RuntimeError, match="is used by transport"):
                asyncio.get_running_loop().add_reader(reader, nothing)
            transport.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())


def test_a_cancelled_connect_closes_the_pipe(parity):
    async def body(case):
        with pipe() as (reader, writer):
            task = asyncio.ensure_future(connect_read(reader, case))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            case(task.cancelled())
            await turns()
            case(reader.closed)

    assert parity(body)[0][-2:] == [True, True]


# What is known of a transport


def test_classes_and_info(parity):
    async def body(case):
        with pipe() as (reader, writer):
            source, first = await connect_write(writer, nothing)
            sink, second = await connect_read(reader, nothing)
            case(isinstance(source, asyncio.WriteTransport), isinstance(source, asyncio.ReadTransport))
            case(isinstance(sink, asyncio.ReadTransport), isinstance(sink, asyncio.WriteTransport))
            source.close()
            await first.until("connection_lost")
            await second.until("connection_lost")
            for transport, file in [(source, writer), (sink, reader)]:
                case(transport.get_extra_info("pipe") is file, transport.get_extra_info("socket"))
                case(transport.get_extra_info("socket", 3), weakref.ref(transport)() is transport)

    parity(body)


def test_repr(loop):
    """As asyncio's, but for the class."""

    async def body():
        with pipe() as (reader, writer):
            source, first = await connect_write(writer, nothing)
            sink, second = await connect_read(reader, nothing)
            await turns(1)
            shown = []
            for transport, file in [(source, writer), (sink, reader)]:
                shown.append((repr(transport).split(" ", 1)[1]).replace(f"fd={file.fileno()}", "fd=N"))
            source.write(MUCH)
            assert " polling bufsize=" in repr(source)
            source.close()
            assert " closing fd=" in repr(source)
            await first.until("connection_lost")
            await second.until("connection_lost")
            await turns(1)
            for transport in (source, sink):
                words = repr(transport).split()
                assert words[1] == "closed"
                assert words[-1] == "closed>"
            return shown

    assert loop.run_until_complete(body()) == ["fd=N idle bufsize=0>", "fd=N polling>"]


def test_context(loop, events):
    """The creator's, for every call."""

    def look(*event):
        events.append((event[0], VARIABLE.get()))

    async def body():
        with pipe() as (reader, writer):
            VARIABLE.set("creator's")
            _, protocol = await connect_read(reader, look)
            VARIABLE.set("later")
            writer.write(b"x")
            await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())
    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert events == [(name, "creator's") for name in names]


def test_nothing_is_kept(loop):
    """Neither transport nor protocol, without the collector."""

    async def body():
        with pipe() as (reader, writer):
            source, first = await connect_write(writer, nothing)
            sink, second = await connect_read(reader, nothing)
            source.write(MUCH)
            source.close()
            await first.until("connection_lost")
            await second.until("connection_lost")
            await turns()
            first.transport = second.transport = None
            return [weakref.ref(thing) for thing in (source, first, sink, second)]

    gc.disable()
    try:
        references = loop.run_until_complete(body())
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


def test_an_unclosed_transport_warns_and_closes(parity):
    async def body(case):
        with pipe() as (reader, writer):
            source, first = await connect_write(writer, nothing)
            sink, second = await connect_read(reader, nothing)
            sink.pause_reading()
            await turns()
            sinks = weakref.ref(sink)
            case(sinks() is sink)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                writer.write(b"x")  # what is watched lazily is no longer
                await turns()
                second.transport = sink = None
                gc.collect()
            case([(w.category.__name__, str(w.message).startswith("unclosed transport <")) for w in caught])
            case(reader.closed)
            source.close()
            await first.until("connection_lost")

    parity(body)


def test_the_loop_closes_before_the_transport(loop):
    async def body():
        read, write = os.pipe()
        return await connect_read(open(read, "rb", 0), nothing), write

    (transport, protocol), write = loop.run_until_complete(body())
    loop.close()
    assert " open>" in repr(transport)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()
    os.close(write)


@pytest.mark.ferrio_only("asyncio makes a transport, and fails then")
def test_a_closed_loop_connects_nothing(loop):
    with pipe() as (reader, _):
        connecting = loop.connect_read_pipe(lambda: Recording(nothing), reader)
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            connecting.send(None)
        assert not reader.closed


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_device_that_is_full(parity):
    async def body(case):
        with open("/dev/full", "wb", 0) as file:
            transport, protocol = await connect_write(file, case)
            transport.write(b"x")
            await protocol.until("connection_lost")

    recorded, errors = parity(body)
    assert recorded[-1] == ("connection_lost", ("OSError", "[Errno 28] No space left on device"))
    assert not errors
