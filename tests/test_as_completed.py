"""`as_completed`, as an iterator and as an asynchronous one."""

import asyncio

import pytest
from support.case import describe

import ferrio

SINCE = pytest.mark.asyncio_since("3.13", "asynchronous iteration")


def module(case):
    return ferrio if case.name == "ferrio" else asyncio


async def after(turns, result):
    for _ in range(turns):
        await asyncio.sleep(0)
    if isinstance(result, Exception):
        raise result
    return result


def test_in_order_of_completion(parity):
    async def body(case):
        for earliest in module(case).as_completed([after(6, "c"), after(0, "a"), after(3, "b")]):
            case(await earliest)

    assert parity(body)[0] == ["a", "b", "c"]


@SINCE
def test_it_yields_what_it_was_given(parity):
    async def body(case):
        tasks = [case.loop.create_task(after(3 - n, n)) for n in range(3)]
        async for task in module(case).as_completed(tasks):
            case(tasks.index(task), task.done(), task.result())

    assert parity(body)[0] == [(2, True, 2), (1, True, 1), (0, True, 0)]


@SINCE
def test_coroutines_become_tasks(parity):
    async def body(case):
        async for task in module(case).as_completed([after(0, ValueError("x"))]):
            case(isinstance(task, asyncio.Task), describe(task.exception()))

    assert parity(body)[0] == [(True, ("ValueError", "x"))]


def test_exceptions_are_raised_by_the_one_that_is_awaited(parity):
    async def body(case):
        for earliest in module(case).as_completed([after(1, OSError("late")), after(0, 1)]):
            try:
                case(await earliest)
            except OSError as error:
                case(describe(error))

    assert parity(body)[0] == [1, ("OSError", "late")]


def test_nothing_and_duplicates(parity):
    async def body(case):
        case(list(module(case).as_completed([])))
        coroutine = after(0, 1)
        case(len([await earliest for earliest in module(case).as_completed([coroutine, coroutine])]))

    assert parity(body)[0] == [[], 1]


@pytest.mark.asyncio_since("3.15", "the text")
def test_what_is_no_iterable(parity):
    async def body(case):
        coroutine = after(0, 1)
        case.raised(module(case).as_completed, coroutine)
        coroutine.close()
        case.raised(module(case).as_completed, case.loop.create_future())
        case.raised(module(case).as_completed, 1)

    parity(body)


@pytest.mark.asyncio_since("3.12", "generators of futures")
def test_a_generator_that_raises(parity):
    async def body(case):
        def generator():
            yield case.loop.create_future()
            raise KeyError("in the middle")

        case.raised(lambda: list(module(case).as_completed(generator())))

    assert parity(body)[0] == [("KeyError", "'in the middle'")]


def test_outside_of_a_loop():
    future = asyncio.Future(loop=(loop := ferrio.new_event_loop()))
    with pytest.raises(RuntimeError):
        ferrio.as_completed([future])
    loop.close()


@SINCE
def test_timeout(parity):
    async def body(case):
        pending, done = case.loop.create_future(), case.loop.create_future()
        done.set_result("in time")
        try:
            async for future in module(case).as_completed([pending, done], timeout=0.001):
                case(future.result())
        except TimeoutError as error:
            case(describe(error))
        case(pending.done(), pending._callbacks)

    assert parity(body)[0] == ["in time", ("TimeoutError", ""), (False, None)]


@pytest.mark.asyncio_since("3.14", "that a cancelled one gives its turn back")
def test_several_wait_at_once(parity):
    """Those who wait are served in order; one that is cancelled gives its turn back."""

    async def body(case):
        futures = [case.loop.create_future() for _ in range(2)]
        iterator = aiter(module(case).as_completed(futures))

        async def take(name):
            case(name, (await anext(iterator)).result())

        takers = [case.loop.create_task(take(name)) for name in "ab"]
        await asyncio.sleep(0)
        futures[1].set_result(1)
        await asyncio.sleep(0)
        takers[0].cancel()
        futures[0].set_result(0)
        await asyncio.wait(takers)
        case([taker.cancelled() for taker in takers])
        case([future.result() async for future in iterator])

    parity(body)
