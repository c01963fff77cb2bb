"""StreamReader, StreamWriter, StreamReaderProtocol, FlowControlMixin: what they do without a connection."""

import asyncio
import gc
import inspect
import re
import warnings
import weakref

import pytest
from hypothesis import example, given, strategies as st
from support.case import describe, neutral
from support.traces import package, property_test

import ferrio
from ferrio._ferrio import FlowControlMixin

READERS = ["read", "readexactly", "readline", "readuntil"]
SEPARATORS = pytest.mark.asyncio_since("3.13", "tuples of separators")


class Transport(asyncio.Transport):
    """A transport in memory, which records what it is asked for."""

    def __init__(self, record=lambda *event: None):
        super().__init__()
        self.record = record
        self.closing = False

    def __repr__(self):
        return "<Transport>"

    def pause_reading(self):
        self.record("pause")

    def resume_reading(self):
        self.record("resume")

    def write(self, data):
        self.record("write", bytes(data))

    def is_closing(self):
        return self.closing

    def close(self):
        self.record("close")
        self.closing = True


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def outcome(awaitable):
    """What it returns, or what it raises, with what a reader's exceptions know."""
    try:
        return await awaitable
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return describe(error), getattr(error, "partial", None), getattr(error, "consumed", None)
    except (Exception, asyncio.CancelledError) as error:
        return describe(error)


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


# Reading


def refuses(case, separator):
    async def body():
        reader = package(case).StreamReader()
        reader.feed_data(b"data")
        coroutine = reader.readuntil(separator)  # raises nothing yet
        name, text = await outcome(coroutine)
        case(name, text if name == "ValueError" else None)

    return body()


@pytest.mark.parametrize("separator", [b"", "text", 3, None, [b"a"]])
def test_what_is_no_separator(parity, separator):
    async def body(case):
        await refuses(case, separator)

    parity(body)


@SEPARATORS
@pytest.mark.parametrize("separator", [(), (b"", b"a"), ("text",), (b"a", None)])
def test_tuples_of_what_are_no_separators(parity, separator):
    async def body(case):
        await refuses(case, separator)

    parity(body)


@SEPARATORS
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    "separators",
    [
        (b"\r\n", b"\n"),
        (b"\n", b"\r\n"),
        (b"aa", b"aaa"),
        (b"aaa", b"aa"),
        (b"ab", b"bc", b"abc"),
        (b"xyz", b"yz", b"z"),
    ],
    ids=repr,
)
def test_separators_that_overlap(parity, separators, limit):
    """However what comes is cut."""

    async def body(case):
        async def read(reader):
            while True:
                try:
                    case(await reader.readuntil(separators))
                except asyncio.LimitOverrunError as error:
                    case(error.consumed, str(error), await reader.read(max(error.consumed, 1)))
                except asyncio.IncompleteReadError as error:
                    case(error.partial, error.expected)
                    if not error.partial:
                        return

        for data in (b"aab\r\naaabc", b"aaaa", b"xxyz\r\n", b"abcabc", b"\r\n\n\r\n"):
            for step in (1, 2, 3, 100):
                reader = package(case).StreamReader(limit=limit)
                reading = asyncio.ensure_future(read(reader))
                for start in range(0, len(data), step):
                    reader.feed_data(data[start : start + step])
                    await asyncio.sleep(0)
                reader.feed_eof()
                await reading

    parity(body)


def test_numbers(parity):
    async def body(case):
        reader = package(case).StreamReader()
        reader.feed_data(b"0123456789")
        case(await outcome(reader.read(True)), await outcome(reader.read(0)), await outcome(reader.readexactly(0)))
        case(await outcome(reader.readexactly(-1)), (await outcome(reader.read("1")))[0])
        case(await outcome(reader.read(2**70)))
        reader.feed_eof()
        case(
            await outcome(reader.readexactly(2**60)), await outcome(reader.read(-(2**70))), await outcome(reader.read())
        )

    parity(body)


def test_what_can_be_fed(parity):
    """Anything with bytes, or an iterable of numbers; what is changed afterwards has been read already."""

    async def body(case):
        reader = package(case).StreamReader()
        mutable = bytearray(b"abc")
        for data in (b"xyz", mutable, memoryview(mutable)[1:], [1, 2, 3], b"", mutable, ()):
            reader.feed_data(data)
        mutable[:] = b"???"
        mutable.clear()
        for data in ("text", [256], 7):
            case.raised(reader.feed_data, data) if data != 7 else case(type(data).__name__)
        reader.feed_eof()
        case(await reader.read())
        case.raised(reader.feed_data, b"more")

    parity(body)


def test_limits(parity):
    """A line of the limit's length is no longer than the limit; the newline does not count."""

    async def body(case):
        transport = Transport(case)
        reader = package(case).StreamReader(limit=8)
        reader.set_transport(transport)
        case.raised(reader.set_transport, transport)
        for data in (b"12345678\n", b"123456789\nab\n", b"123456789", b"1234567", b"8", b"9\n", b"\n"):
            reader.feed_data(data)
            case(data, await outcome(asyncio.wait_for(reader.readline(), 0.01)) if len(data) > 1 else None)
            case(bytes(reader._buffer))
        reader.feed_data(b"1234567890;")
        case(await outcome(reader.readuntil(b";")), await outcome(reader.readuntil(b"::")), bytes(reader._buffer))
        reader.feed_data(b"1234567890")
        case(repr(reader), await outcome(reader.read(3)), await outcome(reader.readexactly(10)), repr(reader))
        reader.feed_eof()
        case(await outcome(reader.readuntil(b"::")), await outcome(reader.readuntil(b"::")), reader.at_eof())

    parity(body)


def test_a_separator_across_the_limit_of_64_kib(parity):
    async def body(case):
        reader = package(case).StreamReader()
        for length in (65535, 65536, 65537):
            for cut in (length - 1, length, length + 1, length + 2):
                message = b"x" * length + b"\r\n"
                reader.feed_data(message[:cut])
                waiting = asyncio.ensure_future(outcome(reader.readuntil(b"\r\n")))
                await turns()
                reader.feed_data(message[cut:])
                result = await waiting
                case(length, cut, len(result) if isinstance(result, bytes) else result, len(reader._buffer))
                case(len(await reader.read(100_000)) if reader._buffer else None)

    parity(body)


def test_pause_and_resume(parity):
    async def body(case):
        reader = package(case).StreamReader(limit=10)
        reader.set_transport(Transport(case))
        reader.feed_data(b"x" * 20)
        case("full")
        reader.feed_data(b"x")
        reader.feed_data(b"x" * 20)
        case(repr(reader))
        await reader.read(30)
        case("one more")
        await reader.read(1)
        reader.feed_data(b"x" * 11)
        case("waits for more than the limit")
        waiting = asyncio.ensure_future(reader.readexactly(25))
        await turns()
        reader.feed_data(b"x" * 4)
        case(await waiting)

    parity(body)


def test_a_transport_that_cannot_pause(parity):
    class Unstoppable(Transport):
        def pause_reading(self):
            self.record("refuses")
            raise NotImplementedError

    async def body(case):
        reader = package(case).StreamReader(limit=1)
        reader.set_transport(Unstoppable(case))
        reader.feed_data(b"xxx")
        reader.feed_data(b"xxx")
        case(reader._transport, await reader.read(10))

    parity(body)


def test_only_one_can_wait(parity):
    async def body(case):
        reader = package(case).StreamReader()
        waiting = asyncio.ensure_future(reader.read(5))
        await turns()
        for coroutine in (
            reader.read(1),
            reader.readexactly(1),
            reader.readline(),
            reader.readuntil(b"x"),
            reader.read(),
        ):
            case(await outcome(coroutine))
        reader.feed_data(b"abc")
        case(await waiting)

    parity(body)


@pytest.mark.parametrize("method", READERS)
def test_cancelled(parity, method):
    """It loses nothing, whether it was woken before or not."""

    async def body(case):
        for woken in (False, True):
            reader = package(case).StreamReader()
            reader.feed_data(b"first ") if method != "read" else None
            arguments = {"read": (100,), "readexactly": (100,), "readuntil": (b"\n",)}.get(method, ())
            waiting = asyncio.ensure_future(getattr(reader, method)(*arguments))
            await turns()
            if woken:
                reader.feed_data(b"second")
            waiting.cancel()
            case(await outcome(waiting), reader._waiter)
            reader.feed_eof()
            case(await reader.read())

    parity(body)


@pytest.mark.parametrize("second", [b"", b"XYZ"])
@pytest.mark.parametrize("after", ["read", "readline", "readuntil", "readexactly", "cancel", "look", "eof"])
def test_what_comes_for_a_read_that_waits(parity, second, after):
    """Whether it is more than the read wants or less, and whoever reads it in the end."""

    async def body(case):
        for first in (b"ab\n", b"abcde\n", b"abcdefgh"):
            reader = package(case).StreamReader(limit=3)
            reader.set_transport(Transport(case))
            waiting = asyncio.ensure_future(outcome(reader.read(6)))
            await turns()
            reader.feed_data(first)
            reader.feed_data(second)
            case(repr(reader))
            if after == "cancel":
                waiting.cancel()
            elif after == "look":
                case(bytes(reader._buffer))
            elif after == "eof":
                reader.feed_eof()
            elif after == "readuntil":
                case(await outcome(reader.readuntil(b"b")))
            elif after == "readexactly":
                case(await outcome(reader.readexactly(2)))
            elif after == "readline":
                waiting.cancel()
                case(await outcome(reader.readline()))
            case(await waiting)
            reader.feed_eof()
            case(await outcome(reader.readexactly(3)), await reader.read())

    parity(body)


@pytest.mark.ferrio_only("asyncio loses what a cancelled read() had collected")
def test_a_cancelled_read_of_everything_loses_nothing(parity):
    async def body(case):
        reader = package(case).StreamReader(limit=4)
        reader.set_transport(Transport(case))
        waiting = asyncio.ensure_future(reader.read())
        for data in (b"one ", b"two ", b"three "):
            await turns()
            reader.feed_data(data)
        await turns()
        waiting.cancel()
        reader.feed_data(b"four")
        case(await outcome(waiting))
        reader.feed_eof()
        case(await reader.read())

    recorded, _ = parity(body)
    assert recorded[-1] == b"one two three four"


@pytest.mark.ferrio_only("asyncio returns b'', as at the end of file")
def test_another_was_quicker(parity):
    async def body(case):
        reader = package(case).StreamReader()
        waiting = asyncio.ensure_future(reader.read(5))
        await turns()
        reader.feed_data(b"abc")
        case(await reader.read(5))
        await turns()
        case(waiting.done())
        reader.feed_data(b"def")
        case(await waiting)

    recorded, _ = parity(body)
    assert recorded == [b"abc", False, b"def"]


@pytest.mark.ferrio_only("asyncio forgets the second one's waiter, and it waits for ever")
def test_another_waits_before_the_first_goes_on(parity):
    async def body(case):
        reader = package(case).StreamReader()
        first = asyncio.ensure_future(reader.readexactly(1))
        await turns()
        reader.feed_data(b"a")
        # Waits before the first has come back from its wait.
        second = reader.readexactly(2)
        waiter = second.send(None)
        case(await first, reader._waiter is waiter)
        reader.feed_data(b"bc")
        case(waiter.done())
        second.close()

    recorded, _ = parity(body)
    assert recorded == [(b"a", True), True]


@pytest.mark.ferrio_only("asyncio waits for ever")
@pytest.mark.parametrize("method", ["readexactly", "readuntil", "readline", "read"])
def test_reset_behind_data_that_is_not_enough(parity, method):
    """The data wakes who waits, and the exception is there when it runs."""

    async def body(case):
        reader = package(case).StreamReader()
        arguments = {"readexactly": (10,)}.get(method, ())
        waiting = asyncio.ensure_future(getattr(reader, method)(*arguments))
        await turns()
        reader.feed_data(b"abc")
        reader.set_exception(ConnectionResetError("reset"))
        case(await outcome(waiting))

    recorded, _ = parity(body)
    assert recorded == [("ConnectionResetError", "reset")]


@pytest.mark.parametrize("method", READERS)
def test_exception(parity, method):
    async def body(case):
        reader = package(case).StreamReader()
        error = ValueError("set")
        arguments = {"readexactly": (10,)}.get(method, ())
        waiting = asyncio.ensure_future(getattr(reader, method)(*arguments))
        await turns()
        reader.set_exception(error)
        case(await outcome(waiting), reader.exception() is error)
        reader.feed_data(b"0123456789\n")
        case(await outcome(getattr(reader, method)(*arguments)))
        reader.set_exception(None)
        case(reader.exception())
        reader.feed_eof()
        case(await outcome(getattr(reader, method)(*arguments)))

    parity(body)


def test_lines(parity):
    async def body(case):
        reader = package(case).StreamReader()
        reader.feed_data(b"one\ntwo\n\nthr")
        case.loop.call_soon(reader.feed_data, b"ee")
        case.loop.call_soon(reader.feed_eof)
        async for line in reader:
            case(line)
        case(reader.at_eof())

    parity(body)


ALPHABET = st.sampled_from(b"ab\n")
DATA = st.lists(ALPHABET, max_size=12).map(bytes)
SEPARATOR = st.lists(ALPHABET, min_size=1, max_size=3).map(bytes)
NUMBER = st.sampled_from([-1, 0, 1, 2, 3, 5, 8, 13])
STEP = st.one_of(
    st.tuples(st.just("feed"), DATA),
    st.tuples(st.just("feed"), DATA),
    st.tuples(st.just("read"), NUMBER),
    st.tuples(st.just("readexactly"), NUMBER),
    st.tuples(st.just("readuntil"), SEPARATOR),
    st.sampled_from([("readline",), ("cancel",), ("feed_eof",), ("set_exception",), ("look",)]),
)


@property_test
@given(st.lists(STEP, max_size=40), st.integers(1, 12), st.booleans())
@example([("feed", b"aaa"), ("look",), ("feed", b"\n"), ("readline",)], 2, False)
def test_programs(parity, program, limit, derived):
    """One reader at a time, and everything that can come in between."""

    async def body(case):
        base = package(case).StreamReader
        reader = (
            type("Derived", (base,), {"readuntil": lambda *args: base.readuntil(*args)})(limit)
            if derived
            else base(limit)
        )
        reader.set_transport(Transport(case))
        waiting = []
        for name, *arguments in program:
            if name == "look":
                # From now on the bytes are in an object that Python has, too.
                buffer = reader._buffer
                case(bytes(buffer), reader._eof, reader._paused, reader._waiter is None)
            elif name == "cancel":
                # asyncio loses what a cancelled read() has collected.
                if waiting and waiting[0].get_name() != "read -1":
                    waiting[0].cancel()
            elif name == "feed":
                if not reader._eof:
                    reader.feed_data(*arguments)
            elif name == "feed_eof":
                reader.feed_eof()
            elif name == "set_exception":
                reader.set_exception(KeyError(len(program)))
            elif not waiting:
                task = asyncio.ensure_future(outcome(getattr(reader, name)(*arguments)))
                task.set_name(f"{name} {arguments[0]}" if arguments else name)
                waiting.append(task)
            await turns()
            if waiting and waiting[0].done():
                case(waiting[0].get_name(), waiting.pop().result())
        for task in waiting:
            task.cancel()
            await turns()
        if not derived and not waiting:
            case(repr(reader).replace("Derived", "StreamReader"))

    parity(body)


def test_looking_at_the_buffer(loop):
    """It is live: what is done to it is done to the reader."""

    async def body():
        reader = ferrio.StreamReader(limit=4)
        reader.feed_data(b"abcdef\nxyz")
        buffer = reader._buffer
        assert type(buffer) is bytearray
        assert reader._buffer is buffer
        assert await reader.read(2) == b"ab"
        assert buffer == b"cdef\nxyz"
        buffer += b"!"
        assert await reader.readline() == b"cdef\n"
        reader.feed_data(b"?")
        assert buffer == b"xyz!?"
        del buffer[:1]
        assert await reader.readexactly(2) == b"yz"
        with pytest.raises(BufferError), memoryview(buffer):
            await reader.read(1)
        del buffer
        # Nobody else has it any more.
        reader.feed_data(b"\n12345")
        assert await reader.readuntil(b"\n") == b"!?\n"
        with pytest.raises(ValueError, match="not found"):
            await reader.readline()
        reader._buffer = bytearray(b"mine")
        assert await reader.read(10) == b"mine"

    loop.run_until_complete(body())


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


# Writing


def test_writer(parity):
    class Other:
        def __getattr__(self, name):
            return lambda *args: (name, args)

        def is_closing(self):
            return True

    async def body(case):
        writer = package(case).StreamWriter(Other(), None, None, case.loop)
        case(writer.write(b"data"), writer.writelines([b"x"]), writer.write_eof(), writer.can_write_eof())
        case(writer.close(), writer.is_closing(), writer.get_extra_info("name"), writer.get_extra_info("name", 1))
        case(type(writer.transport).__name__, writer._complete_fut.done(), writer._complete_fut.result())

    parity(body)


def test_drain(parity):
    async def body(case):
        reader = package(case).StreamReader()
        protocol = package(case).StreamReaderProtocol(reader)
        transport = Transport(case)
        protocol.connection_made(transport)
        writer = package(case).StreamWriter(transport, protocol, reader, case.loop)
        case(await outcome(writer.drain()))
        protocol.pause_writing()
        case.raised(protocol.pause_writing)
        draining = [asyncio.ensure_future(outcome(writer.drain())) for _ in range(3)]
        await turns()
        case([task.done() for task in draining], len(protocol._drain_waiters))
        draining[1].cancel()
        await turns()
        case([task.done() for task in draining], len(protocol._drain_waiters))
        protocol.resume_writing()
        case.raised(protocol.resume_writing)
        case(await asyncio.gather(*draining), len(protocol._drain_waiters))
        protocol.pause_writing()
        draining = [asyncio.ensure_future(outcome(writer.drain())) for _ in range(3)]
        await turns()
        transport.closing = True
        protocol.connection_lost(ValueError("lost") if case else None)
        case(await asyncio.gather(*draining), await outcome(writer.drain()))
        writer._reader = None
        case(await outcome(writer.drain()), await outcome(writer.wait_closed()))

    parity(body)


def test_drain_of_a_closing_transport_gives_the_loop_a_turn(parity):
    async def body(case):
        protocol = package(case).StreamReaderProtocol(None)
        transport = Transport(case)
        transport.closing = True
        writer = package(case).StreamWriter(transport, protocol, None, case.loop)
        case.loop.call_soon(case, "between")
        case(await outcome(writer.drain()))

    recorded, _ = parity(body)
    assert recorded == ["between", None]


@pytest.mark.parametrize("name", ["FlowControlMixin", "StreamReaderProtocol"])
def test_overridden_drain_helper(loop, name):
    base = FlowControlMixin if name == "FlowControlMixin" else ferrio.StreamReaderProtocol

    class Derived(base):
        async def _drain_helper(self):
            calls.append("drain")

        def _get_close_waiter(self, stream):
            calls.append(stream)
            return asyncio.sleep(0)

    async def body():
        protocol = Derived(*(() if base is FlowControlMixin else (None,)))
        writer = ferrio.StreamWriter(Transport(), protocol, None, loop)
        await writer.drain()
        await writer.wait_closed()
        assert calls == ["drain", writer]
        writer.close()

    calls = []
    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.13", "a warning")
@pytest.mark.parametrize("closing", [False, True])
def test_a_writer_that_is_not_closed(parity, closing):
    async def body(case):
        transport = Transport(case)
        transport.closing = closing
        writer = package(case).StreamWriter(transport, None, None, case.loop)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del writer
            gc.collect()
        case([(warning.category.__name__, neutral(str(warning.message))) for warning in caught])

    parity(body)


# The protocol


def test_wait_closed(parity):
    async def body(case):
        for exc in (None, ValueError("lost")):
            for early in (False, True):
                protocol = package(case).StreamReaderProtocol(package(case).StreamReader())
                transport = Transport(case)
                protocol.connection_made(transport)
                writer = package(case).StreamWriter(transport, protocol, None, case.loop)
                waiting = asyncio.ensure_future(outcome(writer.wait_closed())) if early else None
                await turns()
                transport.closing = True
                protocol.connection_lost(exc)
                case(await waiting if waiting else await outcome(writer.wait_closed()))
                case(await outcome(writer.wait_closed()), protocol._closed.done())
                case(protocol._transport, protocol._task, protocol._stream_reader)

    parity(body)


def test_nobody_waits_for_an_end_that_failed(parity):
    """No exception is reported as never retrieved."""

    async def body(case):
        for ask in (False, True):
            protocol = package(case).StreamReaderProtocol(package(case).StreamReader())
            protocol.connection_made(Transport())
            if ask:
                protocol._closed.done()
            protocol.connection_lost(ValueError("lost"))
            del protocol
            gc.collect()
        await turns()

    _, errors = parity(body)
    assert errors == []


def test_a_connection_that_is_not_wanted(parity):
    async def body(case):
        class Aborted(Transport):
            def abort(self):
                case("abort")

        protocol = package(case).StreamReaderProtocol(package(case).StreamReader())
        protocol._reject_connection = True
        protocol.connection_made(Aborted(case))
        case(protocol._transport)

    _, errors = parity(body)
    assert len(errors) == 1


def test_reader_is_held_weakly(parity):
    async def body(case):
        reader = package(case).StreamReader()
        protocol = package(case).StreamReaderProtocol(reader)
        gone = weakref.ref(reader)
        transport = Transport(case)
        protocol.connection_made(transport)
        del reader
        gc.collect()
        case(gone(), protocol._stream_reader)
        protocol.data_received(b"for nobody")
        case(protocol.eof_received())
        protocol.connection_lost(None)

    parity(body)


@pytest.mark.asyncio_since("3.14", "_replace_transport, also of the reader")
def test_over_ssl(parity):
    class Encrypted(Transport):
        def get_extra_info(self, name, default=None):
            return "context" if name == "sslcontext" else default

    async def body(case):
        reader = package(case).StreamReader()
        protocol = package(case).StreamReaderProtocol(reader)
        protocol.connection_made(Transport(case))
        case(protocol._over_ssl)
        protocol._replace_transport(new := Encrypted(case))
        case(protocol._over_ssl, reader._transport is new, protocol._transport is new)
        case(protocol.eof_received(), reader.at_eof())

    parity(body)


@pytest.mark.asyncio_since("3.14", "all of it")
def test_callback_of_a_server(parity):
    async def body(case):
        class Escaping(BaseException):
            pass

        def plain(reader, writer):
            case("plain", type(reader).__name__, type(writer).__name__, writer.transport is transport)
            writer.transport.closing = True

        def failing(reader, writer):
            raise ValueError("failed")

        def escaping(reader, writer):
            writer.transport.closing = True
            raise Escaping

        async def served(reader, writer):
            case("served", await reader.readline())
            writer.close()

        async def failing_later(reader, writer):
            await asyncio.sleep(0)
            raise ValueError("failed later")

        async def cancelled(reader, writer):
            raise asyncio.CancelledError

        for callback in (plain, failing, escaping, served, failing_later, cancelled):
            transport = Transport(case)
            reader = package(case).StreamReader()
            gone = weakref.ref(reader)
            protocol = package(case).StreamReaderProtocol(reader, callback)
            del reader
            case(callback.__name__, gone() is not None, protocol._strong_reader is gone())
            try:
                protocol.connection_made(transport)
            except Escaping:
                case("escaped")
            else:
                case(protocol._strong_reader)
            protocol.data_received(b"line\n")
            await turns(5)
            case(transport.closing, type(protocol._task).__name__)
            del protocol
            gc.collect()
            case(gone() is None)

    parity(body)


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

    gc.disable()
    try:
        assert [gone() for gone in loop.run_until_complete(body())] == [None] * 3
    finally:
        gc.enable()


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
