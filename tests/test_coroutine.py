"""What a coroutine whose body is Rust has in common with one of an `async def` function: `sleep` is the example."""

import asyncio
import collections.abc
import gc
import inspect
import io
import socket
import traceback
import types
import warnings
import weakref

import pytest
from support.case import describe, outcome
from support.loops import turn
from support.traces import package

from ferrio import _ferrio


@pytest.fixture(params=[asyncio.sleep, _ferrio.sleep], ids=["asyncio", "ferrio"])
def sleep(request):
    """asyncio's `sleep`, then ferrio's."""
    return request.param


def raised(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return describe(error)
    return None


class TestByHand:
    def test_zero(self, sleep):
        coroutine = sleep(0, "result")
        assert coroutine.send(None) is None
        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)
        assert stopped.value.value == "result"
        assert raised(coroutine.send, None) == ("RuntimeError", "cannot reuse already awaited coroutine")
        assert raised(coroutine.throw, ValueError()) == ("RuntimeError", "cannot reuse already awaited coroutine")
        assert coroutine.close() is None

    def test_a_value_before_the_begin(self, sleep):
        coroutine = sleep(0)
        expected = ("TypeError", "can't send non-None value to a just-started coroutine")
        assert raised(coroutine.send, 1) == expected
        coroutine.close()

    def test_thrown_into(self, sleep):
        for steps in (0, 1):
            coroutine = sleep(0)
            for _ in range(steps):
                coroutine.send(None)
            assert raised(coroutine.throw, ValueError("thrown")) == ("ValueError", "thrown")
            assert raised(coroutine.send, None) == ("RuntimeError", "cannot reuse already awaited coroutine")

    def test_thrown_nonsense(self, sleep):
        coroutine = sleep(0)
        for wrong in [1, None, int]:
            with pytest.raises(TypeError):
                coroutine.throw(wrong)
        coroutine.close()

    def test_closed(self, sleep):
        for steps in (0, 1):
            coroutine = sleep(0)
            for _ in range(steps):
                coroutine.send(None)
            assert coroutine.close() is None
            assert raised(coroutine.send, None) == ("RuntimeError", "cannot reuse already awaited coroutine")

    def test_awaited_by_an_iterator(self, sleep):
        iterator = sleep(0, (1, 2)).__await__()
        assert next(iterator) is None
        with pytest.raises(StopIteration) as stopped:
            next(iterator)
        assert stopped.value.value == (1, 2)

    def test_what_is_returned_by_await(self, sleep):
        """An iterator with the coroutine's methods."""
        for method, argument in [("send", None), ("throw", ValueError("no"))]:
            coroutine = sleep(0)
            iterator = coroutine.__await__()
            assert iter(iterator) is iterator
            assert next(iterator) is None
            assert raised(getattr(iterator, method), argument)[0] in ("StopIteration", "ValueError")
            assert raised(coroutine.send, None)[1] == "cannot reuse already awaited coroutine"
        iterator = sleep(0).__await__()
        iterator.close()
        assert raised(next, iterator)[0] == "RuntimeError"


class TestKind:
    def test_is_no_iterable(self, sleep):
        """Who forgets an `await` is told, and what takes lists apart leaves it whole."""
        coroutine = sleep(0)
        for consume in (iter, list, tuple, dict, sorted, set):
            assert raised(consume, coroutine) == ("TypeError", "'coroutine' object is not iterable")
        with pytest.raises(TypeError):
            for _ in coroutine:
                pass
        with pytest.raises(TypeError):
            _, _ = coroutine
        assert not isinstance(coroutine, collections.abc.Iterable)
        assert not isinstance(coroutine, collections.abc.Iterator)
        assert not hasattr(coroutine, "__iter__")
        coroutine.close()

    def test_not_in_a_coroutine_either(self, loop, sleep):
        async def main():
            coroutine = sleep(0)
            with pytest.raises(TypeError, match="not iterable"):
                list(coroutine)
            return await coroutine

        assert loop.run_until_complete(main()) is None

    def test_yielded_from(self, loop, sleep):
        """By a generator that is a coroutine, and by a plain one that goes through `__await__`."""

        @types.coroutine
        def generator():
            return (yield from sleep(0, "generator"))

        class Awaitable:
            def __await__(self):
                return (yield from sleep(0, "awaitable").__await__())

        def plain():
            coroutine = sleep(0)
            try:
                yield from coroutine
            finally:
                coroutine.close()

        async def main():
            assert raised(next, plain())[0] == "TypeError"
            return await generator(), await Awaitable()

        assert loop.run_until_complete(main()) == ("generator", "awaitable")

    def test_is_a_coroutine(self, sleep):
        coroutine = sleep(0)
        assert asyncio.iscoroutine(coroutine)
        assert isinstance(coroutine, collections.abc.Coroutine)
        assert inspect.isawaitable(coroutine)
        assert inspect.iscoroutinefunction(sleep)
        coroutine.close()

    def test_states(self, sleep):
        """As `inspect` tells them apart: by whether it runs, is suspended, or has a frame."""
        states = []
        coroutine = sleep(0)
        states.append(inspect.getcoroutinestate(coroutine))
        coroutine.send(None)
        states.append(inspect.getcoroutinestate(coroutine))
        assert set(inspect.getcoroutinelocals(coroutine)) <= {"delay", "result"}
        coroutine.close()
        states.append(inspect.getcoroutinestate(coroutine))
        assert states == [inspect.CORO_CREATED, inspect.CORO_SUSPENDED, inspect.CORO_CLOSED]
        assert coroutine.cr_frame is None

    def test_code_and_frame(self, sleep):
        """What debuggers show: the name, and a place that can be printed."""
        coroutine = sleep(0)
        frame, code = coroutine.cr_frame, coroutine.cr_code
        assert (code.co_name, code.co_qualname) == ("sleep", "sleep")
        assert code is coroutine.cr_code is frame.f_code
        assert code.co_flags & inspect.CO_COROUTINE
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame))
        assert [(entry.name, entry.lineno) for entry in stack] == [("sleep", code.co_firstlineno)]
        assert inspect.getframeinfo(frame).function == "sleep"
        assert frame.f_back is None
        coroutine.close()
        assert coroutine.cr_code is code

    def test_weak_references_and_names(self, sleep):
        coroutine = sleep(0)
        reference = weakref.ref(coroutine)
        assert (coroutine.__name__, coroutine.__qualname__) == ("sleep", "sleep")
        assert "coroutine" in repr(coroutine)
        coroutine.close()
        del coroutine
        gc.collect()
        assert reference() is None

    def test_never_awaited(self, sleep):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sleep(0)
            gc.collect()
        assert [str(warning.message) for warning in caught] == ["coroutine 'sleep' was never awaited"]

    def test_closed_is_not_never_awaited(self, sleep):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sleep(0).close()


class TestInATask:
    def test_stack(self, loop, sleep):
        task = loop.create_task(sleep(1000))
        turn(loop)
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["sleep"]
        file = io.StringIO()
        task.print_stack(file=file)
        assert ", in sleep" in file.getvalue()
        assert "coro=<sleep() running at " in repr(task)
        task.cancel()
        turn(loop, 2)
        assert task.get_stack() == []
        assert "coro=<sleep() done, defined at " in repr(task)

    def test_of_a_task(self, loop, sleep):
        assert loop.run_until_complete(loop.create_task(sleep(0, "direct"))) == "direct"

    def test_cancelled(self, loop, sleep):
        task = loop.create_task(sleep(1000))
        turn(loop)
        assert task._coro.cr_await is not None
        task.cancel("message")
        turn(loop, 2)
        assert task.cancelled()
        assert raised(task.result) == ("CancelledError", "message")

    def test_awaited_twice_at_once(self, loop, sleep):
        async def both():
            coroutine = sleep(0.001)
            first = loop.create_task(coroutine)
            second = loop.create_task(coroutine)
            return await asyncio.gather(first, second, return_exceptions=True)

        _, second = loop.run_until_complete(both())
        assert isinstance(second, (RuntimeError, ValueError))


#: Before, a generator goes through what `__await__` returns.
AWAITED = pytest.mark.asyncio_since("3.12", "the await of any awaitable by the await statement")


class Lacking:
    """What is often forgotten: `yield from`, or `.__await__()`."""

    def __init__(self, returned):
        self.returned = returned

    def __await__(self):
        return self.returned


@AWAITED
@pytest.mark.parametrize(
    "returned", [None, [1], 5, object(), "generator"], ids=lambda returned: type(returned).__name__
)
def test_await_that_returns_no_iterator(parity, returned):
    """The error says what is wrong, and not that something has no `send`."""

    @types.coroutine
    def generator():
        yield

    async def body(case):
        value = generator() if returned == "generator" else returned
        for wait in (package(case).shield, lambda awaitable: package(case).wait_for(awaitable, 1)):
            case(await outcome(wait(Lacking(value))))

    parity(body)


def stop(*_):
    return next(iter(()))


class Stops:
    """Whatever is asked of it raises StopIteration."""

    def __getattr__(self, _):
        stop()

    def __float__(self):
        stop()

    def __le__(self, _):
        stop()

    def __await__(self):
        stop()


async def predicate(case):
    condition = package(case).Condition()
    async with condition:
        await condition.wait_for(stop)


async def protocol_factory(case):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await case.loop.create_connection(stop, sock=ours)


async def queue_put(case):
    queue = type("Queue", (package(case).Queue,), {"_put": stop})()
    await queue.put(1)


async def queue_get(case):
    queue = type("Queue", (package(case).Queue,), {"_get": stop, "empty": lambda _: False})()
    await queue.get()


@pytest.mark.parametrize(
    "wait",
    [
        predicate,
        protocol_factory,
        queue_put,
        queue_get,
        lambda case: package(case).sleep(Stops()),
        pytest.param(lambda case: package(case).wait_for(Stops(), 1), marks=AWAITED),
        pytest.param(lambda case: package(case).wait_for(Stops(), None), marks=AWAITED),
        pytest.param(lambda case: package(case).shield(Stops()), marks=AWAITED),
        lambda case: case.loop.sock_recv(Stops(), 1),
        lambda case: case.loop.create_server(asyncio.Protocol, sock=Stops()),
    ],
)
def test_stop_iteration_is_no_result(parity, wait):
    """What a coroutine calls raises StopIteration, as `next` on an empty iterator does: it returned None, all well."""

    async def body(case):
        try:
            case("returned", await wait(case))
        except RuntimeError as error:
            case(str(error), describe(error.__cause__), describe(error.__context__))
        gc.collect()

    events, _ = parity(body)
    assert events == [("coroutine raised StopIteration", ("StopIteration", ""), ("StopIteration", ""))]


def chain(error):
    """The error, and all that was being handled when it was raised."""
    errors = []
    while error is not None:
        errors.append(describe(error))
        error = error.__context__
    return errors


def failed(case):
    future = case.loop.create_future()
    future.set_exception(ValueError("failed"))
    return future


def cancelled(case):
    future = case.loop.create_future()
    future.cancel("message")
    return future


def fails_later(case):
    future = case.loop.create_future()
    case.loop.call_soon(future.set_exception, ValueError("later"))
    return future


async def through_a_coroutine(case):
    return await failed(case)


async def result(case):
    return failed(case).result()


async def with_context(case):
    try:
        raise IndexError
    except IndexError:
        await package(case).wait_for(failed(case), 1)


async def refused(case):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        await case.loop.create_connection(asyncio.Protocol, *nobody.getsockname())


@pytest.mark.parametrize(
    "wait",
    [
        failed,
        cancelled,
        fails_later,
        through_a_coroutine,
        result,
        with_context,
        refused,
        lambda case: package(case).gather(failed(case)),
        lambda case: package(case).wait_for(failed(case), 1),
        lambda case: package(case).wait_for(fails_later(case), None),
        lambda case: package(case).wait_for(case.loop.create_future(), 0),
        lambda case: package(case).shield(fails_later(case)),
        lambda case: package(case).to_thread(int, "no number"),
        lambda case: package(case).StreamReader(loop=case.loop).readexactly(-1),
    ],
)
def test_context_of_what_is_awaited(parity, wait):
    """'During handling of the above exception, another exception occurred': in an `except` block, what was handled."""

    async def body(case):
        for _ in range(2):
            try:
                try:
                    raise KeyError("handled")
                except KeyError:
                    await wait(case)
            except (Exception, asyncio.CancelledError) as error:
                # What timed out is chained otherwise before Python 3.12.
                case(type(error).__name__, chain(error)[-1])

    events, _ = parity(body)
    assert [last for _, last in events] == [("KeyError", "'handled'")] * 2
