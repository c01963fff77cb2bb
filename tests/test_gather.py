"""`gather` and the future it returns."""

import asyncio
import weakref

import pytest
from support.case import describe
from support.guard import without_collector

import ferrio


def module(case):
    """The functions under test: asyncio's on asyncio's loop, ferrio's on ferrio's."""
    return ferrio if case.name == "ferrio" else asyncio


async def value(result):
    return result


async def fail(error):
    raise error


async def forever():
    await asyncio.get_running_loop().create_future()


def test_results_are_in_the_order_of_the_arguments(parity):
    async def body(case):
        futures = [case.loop.create_future() for _ in range(3)]
        outer = module(case).gather(*futures)
        for index in (2, 0, 1):
            futures[index].set_result(index)
        case(await outer)

    assert parity(body)[0] == [[0, 1, 2]]


def test_nothing_gives_an_empty_list(parity):
    async def body(case):
        outer = module(case).gather()
        case(outer.done(), await outer)

    assert parity(body)[0] == [(True, [])]


def test_duplicates_run_once(parity):
    async def body(case):
        coroutine = value("once")
        case(await module(case).gather(coroutine, coroutine))
        future = case.loop.create_future()
        future.set_result("done")
        case(await module(case).gather(future, future, future))

    assert parity(body)[0] == [["once", "once"], ["done", "done", "done"]]


def test_the_first_exception_is_raised_and_the_others_go_on(parity):
    async def body(case):
        gather = module(case).gather
        sleeper = case.loop.create_task(forever())
        with pytest.raises(ValueError, match="first"):
            await gather(sleeper, fail(ValueError("first")), fail(KeyError("second")))
        case(sleeper.done())
        sleeper.cancel()
        case(await gather(sleeper, return_exceptions=True) != [])

    parity(body)


def test_exceptions_as_results(parity):
    async def body(case):
        cancelled = case.loop.create_future()
        cancelled.cancel("why")
        children = [value(1), fail(ValueError("x")), cancelled]
        results = await module(case).gather(*children, return_exceptions=True)
        case([describe(result) if isinstance(result, BaseException) else result for result in results])

    assert parity(body)[0] == [[1, ("ValueError", "x"), ("CancelledError", "why")]]


def test_order_of_callbacks(parity):
    """A child's completion takes its turn among the callbacks that were queued before and after it."""

    async def body(case):
        future = case.loop.create_future()
        future.add_done_callback(lambda _: case("before"))
        outer = module(case).gather(future)
        future.add_done_callback(lambda _: case("after", outer.done()))
        outer.add_done_callback(lambda _: case("outer"))
        case.loop.call_soon(case, "soon")
        future.set_result(None)
        case.loop.call_soon(case, "later")
        await outer
        case("awaited")

    assert parity(body)[0] == ["soon", "before", ("after", True), "later", "outer", "awaited"]


def test_cancelling_the_outer_cancels_the_children(parity):
    async def body(case):
        children = [case.loop.create_task(forever()) for _ in range(3)]
        outer = module(case).gather(*children, return_exceptions=True)
        await asyncio.sleep(0)
        case(outer.cancel("enough"), outer.done())
        with pytest.raises(asyncio.CancelledError) as caught:
            await outer
        case(str(caught.value), [child.cancelled() for child in children], outer.cancelled(), outer.cancel())

    parity(body)


def test_a_cancelled_child_is_an_exception_of_the_outer(parity):
    async def body(case):
        child, other = case.loop.create_future(), case.loop.create_future()
        outer = module(case).gather(child, other)
        child.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        case(outer.cancelled(), other.done(), describe(outer.exception()))

    parity(body)


def test_a_child_that_cancels_its_parent(parity):
    async def body(case):
        async def parent():
            task = asyncio.current_task()

            async def child():
                task.cancel("from below")
                await forever()

            await module(case).gather(child(), forever())

        with pytest.raises(asyncio.CancelledError) as caught:
            await case.loop.create_task(parent())
        case(str(caught.value))

    parity(body)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(parity, kind):
    def body(case):
        async def main():
            await module(case).gather(fail(kind("out")), forever())

        task = case.loop.create_task(main())
        with pytest.raises(kind):
            case.loop.run_until_complete(task)
        for left in asyncio.all_tasks(case.loop):
            left.cancel()
        with pytest.raises((kind, asyncio.CancelledError)) as caught:
            case.loop.run_until_complete(task)
        case(type(caught.value).__name__)

    parity(body)


def test_futures_of_different_loops(parity):
    def body(case):
        other = type(case.loop)()
        first, second = case.loop.create_future(), other.create_future()
        case.raised(module(case).gather, first, second)
        first.set_exception(ValueError("nobody asks"))
        case.loop.run_until_complete(asyncio.sleep(0))
        other.close()

    # What gather had begun with before it failed is not reported as never retrieved.
    events, errors = parity(body)
    assert events[0][0] == "ValueError"
    assert errors == []


def test_what_cannot_be_gathered(parity):
    class Unhashable:
        __hash__ = None

        def __await__(self):
            return iter(())

    async def body(case):
        case.raised(module(case).gather, 1)
        case.raised(module(case).gather, Unhashable())

    assert [event[0] for event in parity(body)[0]] == ["TypeError", "TypeError"]


def test_any_awaitable(parity):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    async def body(case):
        case(await module(case).gather(Awaitable(), value(2)))

    assert parity(body)[0] == [["awaited", 2]]


def test_a_subclass_is_asked_by_its_methods(parity):
    async def body(case):
        class Loud((ferrio if case.name == "ferrio" else asyncio).Future):
            def result(self):
                case("result")
                return super().result()

        future = Loud(loop=case.loop)
        outer = module(case).gather(future)
        future.set_result(3)
        case(await outer)

    assert parity(body)[0] == ["result", [3]]


def test_the_standard_librarys_futures():
    """ferrio's gather takes futures of any make, on any loop."""

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 1)
        return await ferrio.gather(future, value(2), ferrio.Future(loop=loop), return_exceptions=True)

    async def limited():
        return await asyncio.wait_for(main(), 0.01)

    for factory in (asyncio.new_event_loop, ferrio.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner, pytest.raises(TimeoutError):
            runner.run(limited())


def test_it_is_asyncios_class():
    async def main():
        outer = ferrio.gather(value(1))
        assert isinstance(outer, asyncio.Future)
        assert type(outer).__name__ == "_GatheringFuture"
        assert repr(outer) == "<_GatheringFuture pending>"
        await outer

    ferrio.run(main())


def test_nothing_is_left():
    """A gathering and its children are freed without the collector."""

    async def main():
        outer = ferrio.gather(*[value(n) for n in range(3)])
        references = [weakref.ref(outer), *map(weakref.ref, outer._children)]
        await outer
        del outer
        await asyncio.sleep(0)
        return [reference() for reference in references]

    with without_collector():
        assert ferrio.run(main()) == [None] * 4


def test_a_deep_chain_is_a_recursion_error():
    async def main():
        innermost = outer = asyncio.get_running_loop().create_future()
        for _ in range(20_000):
            outer = ferrio.gather(outer)
        with pytest.raises(RecursionError):
            outer.cancel()
        innermost.set_result(None)

    ferrio.run(main())
