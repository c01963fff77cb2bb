"""`wait`."""

import asyncio
import inspect

import pytest
from support.case import describe

import ferrio


def module(case):
    return ferrio if case.name == "ferrio" else asyncio


async def waited(case, *args, **kwargs):
    """Records what `wait` raises."""
    try:
        await module(case).wait(*args, **kwargs)
    except BaseException as error:
        case(describe(error))


def test_it_is_a_coroutine_function():
    assert inspect.iscoroutinefunction(ferrio.wait)
    assert inspect.signature(ferrio.wait) == inspect.signature(asyncio.wait)


def test_what_cannot_be_waited_for(parity):
    async def body(case):
        async def coroutine():
            pass

        await waited(case, [])
        await waited(case, case.loop.create_future())
        await waited(case, [case.loop.create_future()], return_when="SOMETIME")
        await waited(case, [[]])
        await waited(case, [1])
        given = coroutine()
        await waited(case, [given])
        await waited(case, given)
        given.close()

    assert len(parity(body)[0]) == 7


@pytest.mark.asyncio_since("3.12", "generators of futures")
def test_an_iterator_of_nothing(parity):
    """It is true, as an empty list is not, and would be waited for in vain."""

    async def body(case):
        await waited(case, iter([]))

    assert parity(body)[0] == [("AssertionError", "Set of Futures is empty.")]


@pytest.mark.asyncio_since("3.12", "generators of futures")
def test_a_generator_that_raises(parity):
    async def body(case):
        def generator():
            yield case.loop.create_future()
            raise KeyError("in the middle")

        await waited(case, generator())

    assert parity(body)[0] == [("KeyError", "'in the middle'")]


def test_all_completed(parity):
    async def body(case):
        futures = [case.loop.create_future() for _ in range(3)]
        futures[0].set_result(None)
        case.loop.call_soon(futures[1].cancel)
        case.loop.call_soon(futures[2].set_exception, ValueError())
        done, pending = await module(case).wait([*futures, futures[0]])
        case(type(done), done == set(futures), pending)
        futures[2].exception()

    assert parity(body)[0] == [(set, True, set())]


@pytest.mark.parametrize("when", [asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION])
def test_the_first(parity, when):
    async def body(case):
        futures = [case.loop.create_future() for _ in range(4)]
        waiting = case.loop.create_task(module(case).wait(futures, return_when=when))
        await asyncio.sleep(0)
        for index, settle in enumerate(
            [lambda f: f.set_result(1), lambda f: f.cancel(), lambda f: f.set_exception(OSError())]
        ):
            settle(futures[index])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            case(waiting.done())
        done, pending = await waiting
        case([future in done for future in futures], [future in pending for future in futures])
        case([len(future._callbacks or ()) for future in pending])
        futures[2].exception()

    parity(body)


def test_timeout(parity):
    async def body(case):
        future = case.loop.create_future()
        for timeout in (0, 0.001, -1):
            done, pending = await module(case).wait([future], timeout=timeout)
            case(done, pending == {future}, future._callbacks)

    assert parity(body)[0] == [(set(), True, None)] * 3


def test_cancelled(parity):
    async def body(case):
        future = case.loop.create_future()
        waiting = case.loop.create_task(module(case).wait([future], timeout=60))
        await asyncio.sleep(0)
        waiting.cancel("stop")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        case(future.done(), future._callbacks)

    assert parity(body)[0] == [(False, None)]


def test_a_result_and_a_cancellation_in_one_turn(parity):
    async def body(case):
        future = case.loop.create_future()
        waiting = case.loop.create_task(module(case).wait([future]))
        await asyncio.sleep(0)
        future.set_result(None)
        await asyncio.sleep(0)
        waiting.cancel()
        try:
            case(await waiting == ({future}, set()))
        except asyncio.CancelledError:
            case("cancelled")

    parity(body)


def test_order_of_callbacks(parity):
    async def body(case):
        future = case.loop.create_future()
        waiting = case.loop.create_task(module(case).wait([future]))
        waiting.add_done_callback(lambda _: case("waited"))
        await asyncio.sleep(0)
        future.add_done_callback(lambda _: case("after"))
        future.set_result(None)
        for turn in range(4):
            case(turn)
            await asyncio.sleep(0)

    parity(body)
