"""StreamReader: what is fed, and what each way to read makes of it."""

import asyncio

import pytest
from hypothesis import example, given, strategies as st
from support.peers import turns
from support.streams import READERS, Transport, outcome
from support.traces import package, property_test

import ferrio


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


@pytest.mark.parametrize("limit", [None, "1", 0, -1, 1.5, 1 << 70, -(1 << 70)], ids=repr)
def test_what_a_limit_can_be(parity, limit):
    """None is no number: it does not stand for the default."""

    def body(case):
        case.raised(package(case).StreamReader, limit=limit, loop=case.loop)
        case.raised(package(case).StreamReader, limit, case.loop)

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
            # What asyncio's own base class does: readers are to live with it.
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


@pytest.mark.parametrize("sizes", [(0, 1), (1, 1, 1), (1, 70_000, 3), (5000,) * 40, (1 << 20, 1, 1 << 21)])
@pytest.mark.parametrize("looked_at", [False, True])
def test_everything_comes_in_pieces(parity, sizes, looked_at):
    async def body(case):
        reader = package(case).StreamReader()
        waiting = asyncio.ensure_future(reader.read())
        sent = bytearray()
        for number, size in enumerate(sizes):
            await turns()
            data = bytes([number]) * size
            sent += data
            reader.feed_data(data)
            # From then on what comes is in an object of Python's.
            case(looked_at and len(reader._buffer) == size)
        await turns()
        reader.feed_eof()
        case(await waiting == sent)

    recorded, _ = parity(body)
    assert recorded[-1] is True


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
