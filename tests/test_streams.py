"""StreamReader, StreamWriter, StreamReaderProtocol, FlowControlMixin: what they are, and what they leave."""

import asyncio
import gc
import inspect
import re
import weakref

import pytest
from support.guard import without_collector
from support.peers import turns
from support.pipes import pipe
from support.streams import READERS, Transport, outcome
from support.traces import package

import ferrio
from ferrio._ferrio import FlowControlMixin

# What the classes are


@pytest.mark.parametrize("name", ["StreamReader", "StreamReaderProtocol", "StreamWriter"])
def test_class(loop, name):
    reader = ferrio.StreamReader(loop=loop)
    protocol = ferrio.StreamReaderProtocol(reader, loop=loop)
    transport = Transport()
    transport.closing = True
    writer = ferrio.StreamWriter(transport, protocol, reader, loop)
    ours = {"StreamReader": reader, "StreamReaderProtocol": protocol, "StreamWriter": writer}[name]
    assert type(ours) is getattr(ferrio, name)
    assert isinstance(ours, getattr(asyncio, name))
    assert weakref.ref(ours)() is ours
    ours.attribute = 1
    assert vars(ours)["attribute"] == 1
    assert isinstance(protocol, FlowControlMixin)
    assert isinstance(protocol, asyncio.Protocol)


def test_a_mixin_is_a_protocol(parity):
    """Programs that write to a pipe give it one; a class behind it in a list of bases has its own methods called."""

    async def body(case):
        mixin = asyncio.streams.FlowControlMixin if case.name == "asyncio" else FlowControlMixin
        with pipe() as (reading, written):
            transport, protocol = await case.loop.connect_write_pipe(mixin, written)
            writer = package(case).StreamWriter(transport, protocol, None, case.loop)
            writer.write(b"data")
            await writer.drain()
            case(type(protocol) is mixin, reading.read(10))
            case(protocol.data_received(b"data"), protocol.eof_received())
            transport.close()
            await turns()

        class Behind(asyncio.Protocol):
            def connection_made(self, transport):
                case("made", transport)

            def data_received(self, data):
                return data

        class Both(mixin, Behind):
            def connection_made(self, transport):
                super().connection_made(transport)

        both = Both()
        both.connection_made("a transport")
        case(both.data_received(b"data"), both.eof_received())

    recorded, errors = parity(body)
    assert recorded == [(True, b"data"), (None, None), ("made", "a transport"), (b"data", None)]
    assert errors == []


def test_coroutine_functions():
    for name in [*READERS, "__anext__", "_wait_for_data"]:
        assert inspect.iscoroutinefunction(getattr(ferrio.StreamReader, name))
        ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (ferrio.StreamReader, asyncio.StreamReader))
        assert ours == theirs
    for name in ["drain", "wait_closed", "start_tls"]:
        assert inspect.iscoroutinefunction(getattr(ferrio.StreamWriter, name))
    for name in ["open_connection", "open_unix_connection", "start_server", "start_unix_server"]:
        function = getattr(ferrio, name)
        assert inspect.iscoroutinefunction(function)
        assert inspect.signature(function) == inspect.signature(getattr(asyncio, name))


def test_limit(loop):
    for limit in (0, -1, -(10**30)):
        with pytest.raises(ValueError, match="^Limit cannot be <= 0$"):
            ferrio.StreamReader(limit, loop)
    with pytest.raises(TypeError):
        ferrio.StreamReader("many", loop)
    reader = ferrio.StreamReader(limit=10**30, loop=loop)
    reader.feed_data(b"line\n")
    assert loop.run_until_complete(reader.readline()) == b"line\n"


def test_repr(parity):
    async def body(case):
        reader = package(case).StreamReader()
        case(repr(reader))
        reader.set_transport(Transport())
        reader.feed_data(b"abc")
        case(repr(reader))
        reader = package(case).StreamReader(limit=5)
        waiting = asyncio.ensure_future(reader.read())
        await turns()
        case(re.sub(r"<Future.*>>", "<Future ...>>", repr(reader)))
        reader.set_exception(ValueError("no"))
        reader.feed_eof()
        case(repr(reader), await outcome(waiting))
        writer = package(case).StreamWriter(Transport(), asyncio.streams.FlowControlMixin(), reader, case.loop)
        case(repr(writer))
        writer.close()

    parity(body)


def test_classes_of_asyncio_work_with_ours(loop):
    async def body():
        loop = asyncio.get_running_loop()
        reader = ferrio.StreamReader()
        asyncio.StreamWriter(Transport(), asyncio.StreamReaderProtocol(reader), reader, loop).close()
        protocol = asyncio.StreamReaderProtocol(reader)
        protocol.connection_made(Transport())
        protocol.data_received(b"abc")
        assert await reader.read(10) == b"abc"
        theirs = asyncio.StreamReader()
        protocol = ferrio.StreamReaderProtocol(theirs)
        protocol.connection_made(Transport())
        protocol.data_received(b"abc")
        assert await theirs.read(10) == b"abc"
        writer = ferrio.StreamWriter(Transport(), protocol, theirs, loop)
        theirs.set_exception(ValueError("no"))
        assert await outcome(writer.drain()) == ("ValueError", "no")
        protocol.connection_lost(None)
        assert await outcome(writer.wait_closed()) is None
        writer.close()

    loop.run_until_complete(body())


def test_on_a_loop_that_is_not_ferrios():
    async def body():
        reader = ferrio.StreamReader()
        waiting = asyncio.ensure_future(reader.readline())
        await turns()
        reader.feed_data(b"line\n")
        assert await waiting == b"line\n"
        protocol = ferrio.StreamReaderProtocol(reader)
        writer = ferrio.StreamWriter(Transport(), protocol, reader, asyncio.get_running_loop())
        protocol.pause_writing()
        draining = asyncio.ensure_future(writer.drain())
        await turns()
        assert not draining.done()
        protocol.resume_writing()
        await draining
        writer.close()

    asyncio.run(body())


def test_reader_of_wrong_class(loop):
    with pytest.raises(AssertionError):
        ferrio.StreamWriter(Transport(), None, object(), loop)


# Subclasses


@pytest.mark.parametrize(
    "method", ["feed_data", "feed_eof", "set_exception", "readuntil", "readline", "read", "_wait_for_data", "exception"]
)
def test_overridden_methods_of_a_reader_are_called(parity, method):
    async def body(case):
        def wrapped(self, *args):
            case(method, *map(repr, args))
            return getattr(base, method)(self, *args)

        async def wrapped_async(self, *args):
            case(method, *map(repr, args))
            return await getattr(base, method)(self, *args)

        base = package(case).StreamReader
        is_async = inspect.iscoroutinefunction(getattr(base, method))
        reader = type("Derived", (base,), {method: wrapped_async if is_async else wrapped})(limit=4)
        protocol = package(case).StreamReaderProtocol(reader)
        transport = Transport(case)
        protocol.connection_made(transport)
        for data in (b"one\n", b"two\n", b"three", b"x" * 20 + b"\n"):
            case.loop.call_soon(protocol.data_received, data)
        case(await outcome(reader.readline()), await outcome(anext(reader)))
        case(await outcome(reader.readexactly(2)), await outcome(reader.readline()))
        case.loop.call_soon(protocol.eof_received)
        case(await outcome(reader.read()), await outcome(reader.readline()))
        protocol.connection_lost(ValueError("lost"))
        writer = package(case).StreamWriter(transport, protocol, reader, case.loop)
        case(await outcome(writer.drain()), await outcome(reader.read(1)))
        writer.close()

    parity(body)


def test_subclass_with_its_own_init(loop):
    class Reader(ferrio.StreamReader):
        def __init__(self, name):
            super().__init__(limit=7, loop=loop)
            self.name = name

    reader = Reader("mine")
    assert (reader.name, reader._limit, reader._loop) == ("mine", 7, loop)
    assert type(reader) is Reader
    assert isinstance(reader, Reader)


def test_before_init(loop):
    """A subclass that has not called __init__ fails as Python objects do."""
    Reader, Writer, Protocol, Flow = (
        type(base.__name__, (base,), {"__init__": lambda self: None})
        for base in (ferrio.StreamReader, ferrio.StreamWriter, ferrio.StreamReaderProtocol, FlowControlMixin)
    )
    for use in (
        lambda: loop.run_until_complete(Reader().read(1)),
        lambda: Writer().write(b"x"),
        lambda: loop.run_until_complete(Writer().drain()),
        lambda: loop.run_until_complete(Writer().wait_closed()),
        lambda: Writer()._complete_fut,
        lambda: Protocol()._closed,
        lambda: (
            Flow()._drain_waiters and None or loop.run_until_complete(Flow()._drain_helper()) or Flow().pause_writing()
        ),
    ):
        with pytest.raises(AttributeError):
            use()


# Memory


@pytest.mark.parametrize("method", READERS)
def test_no_cycles(loop, method):
    """What has read or drained goes without the collector."""

    async def body():
        reader = ferrio.StreamReader()
        protocol = ferrio.StreamReaderProtocol(reader)
        transport = Transport()
        protocol.connection_made(transport)
        writer = ferrio.StreamWriter(transport, protocol, reader, loop)
        arguments = {"readexactly": (2,)}.get(method, ())
        waiting = asyncio.ensure_future(getattr(reader, method)(*arguments))
        await turns()
        protocol.data_received(b"ab\n")
        protocol.eof_received()
        await waiting
        await writer.drain()
        transport.closing = True
        protocol.connection_lost(None)
        await writer.wait_closed()
        return [weakref.ref(thing) for thing in (reader, protocol, writer)]

    with without_collector():
        assert [gone() for gone in loop.run_until_complete(body())] == [None] * 3


def test_collected_in_a_cycle(loop):
    class Thing(Transport):
        pass

    def make():
        transport = Thing()
        transport.closing = True
        reader = ferrio.StreamReader(loop=loop)
        protocol = ferrio.StreamReaderProtocol(reader, lambda reader, writer: None, loop=loop)
        protocol.connection_made(transport)
        transport.writer = writer = ferrio.StreamWriter(transport, protocol, reader, loop)
        reader.coroutine = writer.drain()
        reader.coroutine.close()
        reader.waiting = reader.read(1)
        reader.waiting.send(None)
        protocol.pause_writing()
        draining = protocol._drain_helper()
        draining.send(None)
        protocol.draining = draining
        return weakref.ref(reader), weakref.ref(protocol), weakref.ref(writer), weakref.ref(transport)

    gone = make()
    gc.collect()
    assert [ref() for ref in gone] == [None] * 4


# What an await costs


def test_results_are_whose_who_has_them(loop):
    """The exception that carries a result out of a coroutine is used again, when nobody else has it."""

    def drive():
        with pytest.raises(StopIteration) as raised:
            reader.read(1).send(None)
        return raised.value

    def step(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value, stop.args

    reader = ferrio.StreamReader(loop=loop)
    reader.feed_data(b"abcdefghijklmnop")
    first, second = drive(), drive()
    assert (first.value, first.args, second.value, second.args) == (b"a", (b"a",), b"b", (b"b",))
    first.value = b"?"
    second.args = ("changed",)
    del first, second
    seen = [step(reader.read(1)) for _ in range(4)]
    assert seen == [(value, (value,)) for value in (b"c", b"d", b"e", b"f")]
    third = drive()
    third.attribute = 1
    del third
    fourth = drive()
    assert not hasattr(fourth, "attribute")
    fourth.__context__ = KeyError()
    del fourth
    assert drive().__context__ is None

    async def body():
        return [await reader.read(1) for _ in range(3)]

    assert loop.run_until_complete(body()) == [b"j", b"k", b"l"]
