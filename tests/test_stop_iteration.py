"""The exceptions by which results reach an `await`, for those who drive what is awaited by hand."""

import copy
import gc
import sys
import weakref

import pytest
from support.scripts import run_script

import ferrio


class Value:
    """A value that can be waited out."""


def ended(loop, value):
    """What a future with this result ends an `await` with: one of ferrio's is its own iterator there."""
    future = loop.create_future()
    future.set_result(value)
    try:
        next(future if hasattr(future, "__next__") else future.__await__())
    except StopIteration as stop:
        return stop.with_traceback(None)
    raise AssertionError("a future that is done has been waited for")


@pytest.mark.parametrize(
    "value", [1, (), (1, 2), ValueError("v"), StopIteration(3), [1], True, b"bytes", "text"], ids=repr
)
def test_all_that_one_has(loop, value):
    stop = ended(loop, value)
    assert isinstance(stop, StopIteration)
    assert type(stop).__name__ == "StopIteration"
    assert stop.value is value
    assert stop.args == (value,)
    assert stop.args[0] is value
    assert str(stop) == str(StopIteration(value))
    assert repr(stop) == repr(StopIteration(value))
    assert stop.__cause__ is stop.__context__ is None


def test_kept(loop):
    """One that somebody keeps stays as it is."""
    kept = [ended(loop, number) for number in range(100)]
    assert [stop.value for stop in kept] == list(range(100))
    assert len(set(map(id, kept))) == 100


@pytest.mark.parametrize("make", [lambda number: [number], lambda number: number, str, lambda number: b"%d" % number])
def test_used_again(loop, make):
    """What one is changed into by hand, the next one is not."""
    for number in range(100):
        assert ended(loop, make(number)).args == (make(number),)
        stop = ended(loop, make(number))
        stop.note = number
        stop.add_note("a note")
        stop.__cause__ = ValueError(number)
        stop.value = "changed"
        stop.args = ("changed",)
        del stop
        stop = ended(loop, make(number))
        assert not hasattr(stop, "note")
        assert not hasattr(stop, "__notes__")
        assert (stop.value, stop.args, stop.__cause__) == (make(number), (make(number),), None)
        assert stop.__suppress_context__ is False


def test_changed_arguments(loop):
    """The tuple of arguments that somebody keeps stays as it is, and one that was replaced is not used again."""
    kept = ended(loop, 1).args
    assert ended(loop, 2).args == (2,)
    assert kept == (1,)
    for arguments in [(), (1, 2), (Value(),)]:
        stop = ended(loop, 3)
        stop.args = arguments
        del stop
        assert ended(loop, 4).args == (4,)
    for value in (5, [5]):
        stop = ended(loop, value)
        stop.__suppress_context__ = True
        del stop
        assert ended(loop, value).__suppress_context__ is False


def test_keeps_little(loop):
    """A large result goes with whoever has it, too."""
    data = bytes(100_000)
    before = sys.getrefcount(data)
    assert ended(loop, data).value is data
    assert sys.getrefcount(data) == before


def test_keeps_nothing_alive(loop):
    """The value goes with whoever has it, and not with the exception's memory."""

    async def main():
        queue = ferrio.Queue()
        for _ in range(3):
            value = Value()
            reference = weakref.ref(value)
            queue.put_nowait(value)
            del value
            value = await queue.get()
            assert reference() is value
            del value
            assert reference() is None

    loop.run_until_complete(main())


def test_arguments_that_are_kept(loop):
    """A tuple of arguments that somebody has does not change."""
    arguments = [ended(loop, number).args for number in range(10)]
    assert arguments == [(number,) for number in range(10)]


def test_value_whose_end_awaits(loop):
    """The end of a value comes back for the next exception."""

    class Awaits:
        def __init__(self, depth):
            self.depth = depth

        def __del__(self):
            seen.append(self.depth)
            if self.depth:
                ended(loop, Awaits(self.depth - 1))

    seen = []
    ended(loop, Awaits(50))
    assert seen[:40] == list(range(50, 10, -1))


def test_circle(loop):
    """An exception in a circle is found by the collector."""
    value = Value()
    reference = weakref.ref(value)
    stop = ended(loop, value)
    stop.circle = stop
    del stop, value
    gc.collect()
    assert reference() is None
    holder = []
    holder.append(ended(loop, holder))
    value = Value()
    holder.append(value)
    reference = weakref.ref(value)
    del holder, value
    gc.collect()
    assert reference() is None


def test_raised_again(loop):
    stop = ended(loop, 1)
    with pytest.raises(StopIteration) as stopped:
        raise stop from ValueError()
    assert stopped.value is stop
    del stopped, stop
    assert ended(loop, 2).__cause__ is None


def test_copies(loop):
    stop = ended(loop, 5)
    assert copy.copy(stop).args == (5,)


def test_all_objects():
    """Who looks through all objects that the collector knows finds none that is not whole."""
    script = """
    async def main():
        future = asyncio.get_running_loop().create_future()
        future.set_result([1])
        assert await future == [1]

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    print(sum(len(list(found)) > 0 for found in gc.get_objects() if type(found) is tuple) > 0)
    """
    assert run_script("ferrio", script) == (["True"], "", 0)
