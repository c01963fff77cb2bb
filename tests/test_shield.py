"""`shield`."""

import asyncio

import pytest
from support.case import describe

import ferrio


def module(case):
    return ferrio if case.name == "ferrio" else asyncio


async def value(result):
    return result


def test_the_result_goes_through(parity):
    async def body(case):
        case(await module(case).shield(value(1)))
        future = case.loop.create_future()
        outer = module(case).shield(future)
        future.set_exception(OSError("x"))
        with pytest.raises(OSError, match="x"):
            await outer

    assert parity(body)[0] == [1]


def test_what_is_done_is_returned(parity):
    async def body(case):
        future = case.loop.create_future()
        future.set_result(None)
        case(module(case).shield(future) is future)

    assert parity(body)[0] == [True]


def test_the_inner_goes_on(parity):
    async def body(case):
        inner = case.loop.create_future()

        async def waiter():
            await module(case).shield(inner)

        task = case.loop.create_task(waiter())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        case(inner.done())
        inner.set_result(1)
        await asyncio.sleep(0)

    assert parity(body)[0] == [False]


def test_cancelling_the_inner_cancels_the_outer(parity):
    async def body(case):
        inner = case.loop.create_future()
        outer = module(case).shield(inner)
        inner.cancel("inner")
        try:
            await outer
        except asyncio.CancelledError as error:
            case(describe(error), outer.cancelled())

    parity(body)


def test_order_of_callbacks(parity):
    async def body(case):
        inner = case.loop.create_future()
        inner.add_done_callback(lambda _: case("before"))
        outer = module(case).shield(inner)
        inner.add_done_callback(lambda _: case("after", outer.done()))
        outer.add_done_callback(lambda _: case("outer"))
        inner.set_result(None)
        await outer
        case("awaited")

    assert parity(body)[0] == ["before", ("after", True), "outer", "awaited"]


def test_an_outer_that_somebody_settles(parity):
    async def body(case):
        inner = case.loop.create_future()
        outer = module(case).shield(inner)
        outer.set_result("mine")
        case(await outer)
        inner.set_result("late")
        await asyncio.sleep(0)
        # The message says where asyncio has the callback.
        case([describe(context["exception"]) for context in case.errors.contexts])
        case.errors.contexts.clear()

    assert parity(body)[0] == ["mine", [("InvalidStateError", "invalid state")]]


@pytest.mark.asyncio_since("3.14", "an outer future that lets go")
def test_a_cancelled_outer_leaves_nothing(parity):
    async def body(case):
        inner = case.loop.create_future()
        outer = module(case).shield(inner)
        outer.cancel()
        await asyncio.sleep(0)
        case(inner._callbacks)

    assert parity(body)[0] == [None]


def test_of_a_foreign_future():
    async def main():
        inner = asyncio.Future()
        outer = ferrio.shield(inner)
        outer.cancel()
        await asyncio.sleep(0)
        assert not inner._callbacks
        outer = ferrio.shield(inner)
        inner.set_result("through")
        return await outer

    assert ferrio.run(main()) == "through"
