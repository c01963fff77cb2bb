"""`wait_for`. How it meets cancellations in one turn is in parity/test_scopes.py."""

import asyncio
import inspect
import warnings

import pytest
from support.case import describe
from support.loops import STEPPED, turn

import ferrio

pytestmark = pytest.mark.asyncio_since("3.12", "a wait_for that makes no task")


async def forever():
    await asyncio.get_running_loop().create_future()


async def value(result):
    await asyncio.sleep(0)
    return result


async def outcome(case, awaitable):
    try:
        case(await awaitable)
    except BaseException as error:
        chain = describe(error.__cause__), describe(error.__context__), error.__suppress_context__
        case(describe(error), *chain, asyncio.current_task().cancelling())


@pytest.mark.parametrize("timeout", [None, 60, 60.0, True, 0, -1, 0.0])
def test_each_kind_of_awaitable(parity, timeout):
    async def body(case):
        class Awaitable:
            def __await__(self):
                return (yield from value("awaitable").__await__())

        done, failed = case.loop.create_future(), case.loop.create_future()
        done.set_result("future")
        failed.set_exception(ValueError("future"))
        for awaitable in (value("coroutine"), case.loop.create_task(value("task")), Awaitable(), done, failed):
            await outcome(case, case.classes.wait_for(awaitable, timeout))

    parity(body)


def test_a_coroutine_runs_in_the_task_that_waits(parity):
    async def body(case):
        async def who():
            return asyncio.current_task()

        case(await case.classes.wait_for(who(), 60) is asyncio.current_task())
        case(await case.classes.wait_for(who(), None) is asyncio.current_task())

    parity(body)


@pytest.mark.parametrize("name", STEPPED)
def test_the_time_that_it_takes(name):
    package = {"asyncio": asyncio, "ferrio": ferrio}[name]
    loop = STEPPED[name]()

    async def main():
        with pytest.raises(TimeoutError):
            await package.wait_for(forever(), 5)
        assert loop.time() == 5
        assert await package.wait_for(asyncio.sleep(3, "result"), 5) == "result"
        await asyncio.sleep(60)
        assert loop.time() == 68

    loop.run_until_complete(main())
    loop.close()


def test_with_no_time_a_coroutine_does_not_begin(parity):
    async def body(case):
        async def begins():
            case("begins")

        await outcome(case, case.classes.wait_for(begins(), 0))
        await outcome(case, case.classes.wait_for(begins(), -1))

    parity(body)


@pytest.mark.asyncio_since("3.13", "the context of an error that comes instead of the cancellation")
@pytest.mark.parametrize("timeout", [0, 0.0001])
@pytest.mark.parametrize("ends", ["result", "failure", "cancellation"])
def test_who_takes_its_time_to_be_cancelled(parity, timeout, ends):
    async def body(case):
        async def stubborn():
            try:
                await forever()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                case("is cancelled")
                if ends == "failure":
                    raise ValueError("on the way out") from None
                if ends == "cancellation":
                    raise
                return "result"

        task = case.loop.create_task(stubborn())
        await asyncio.sleep(0)
        await outcome(case, case.classes.wait_for(task, timeout))
        case(task.done(), task.cancelled())

    parity(body)


@pytest.mark.parametrize("timeout", [None, 60, 0])
def test_a_cancellation_from_outside(parity, timeout):
    def body(case):
        async def stubborn():
            while True:
                try:
                    await forever()
                except asyncio.CancelledError as error:
                    case("asked", error.args)
                    if error.args != ("again",):
                        await asyncio.sleep(0)
                        raise

        inner = case.loop.create_task(stubborn())
        turn(case.loop)
        outer = case.loop.create_task(case.classes.wait_for(inner, timeout))
        turn(case.loop)
        case(outer.cancel("outside"), outer.cancelling())
        turn(case.loop, 5)
        case(outer.done() and outer.cancelled(), inner.cancelled())

    parity(body)


def test_the_future_forgets_who_no_longer_waits(parity):
    def body(case):
        class Reluctant(case.classes.Future):
            def cancel(self, *args, **keywords):
                case("cancel")
                return False

        future = Reluctant(loop=case.loop)
        task = case.loop.create_task(case.classes.wait_for(future, 0))
        turn(case.loop)
        case(len(future._callbacks))
        task.cancel()
        turn(case.loop, 3)
        case(future._callbacks, task.cancelled())

    parity(body)


def test_outside_of_a_task(parity):
    def body(case):
        with warnings.catch_warnings(action="ignore"):
            case.raised(case.classes.wait_for(case.loop.create_future(), 1).send, None)
            coroutine = case.classes.wait_for(case.loop.create_future(), 1)
            case.loop.call_soon(lambda: case.raised(coroutine.send, None))
            turn(case.loop)

    parity(body)


def test_wrong_timeouts(parity):
    async def body(case):
        future = case.loop.create_future()
        for timeout in ("1", b"", [], object()):
            with pytest.raises(TypeError):
                await case.classes.wait_for(future, timeout)
        case(future.done())

    parity(body)


def test_on_the_loop_and_in_the_task_of_asyncio():
    async def main():
        assert await ferrio.wait_for(value(1), 60) == 1
        for timeout in (0, 0.0001):
            with pytest.raises(TimeoutError):
                await ferrio.wait_for(forever(), timeout)
            with pytest.raises(TimeoutError):
                await ferrio.wait_for(asyncio.get_running_loop().create_future(), timeout)
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_what_inspect_says_of_it():
    assert inspect.iscoroutinefunction(ferrio.wait_for)
    assert str(inspect.signature(ferrio.wait_for)) == "(fut, timeout)"
