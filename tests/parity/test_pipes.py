"""Pipe transports: what is a pipe, and what is known of a transport."""

import asyncio
import contextvars
import gc
import os
import socket
import sys
import warnings
import weakref

import pytest
from support.case import describe
from support.guard import without_collector
from support.peers import Failure, Recording, fail, nothing, turns
from support.pipes import MUCH, connect_read, connect_write, pipe

pytestmark = pytest.mark.every_door

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


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
    assert recorded[-1] == ("connection_lost", "OSError", "[Errno 5] Input/output error")
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

    with without_collector():
        references = loop.run_until_complete(body())
        assert [reference() for reference in references] == [None] * 4


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
        connecting = loop.connect_read_pipe(asyncio.Protocol, reader)
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
    assert recorded[-1] == ("connection_lost", "OSError", "[Errno 28] No space left on device")
    assert not errors
