"""Re-entry: loops in loops, loops in threads, callbacks that turn on their own loop."""

import asyncio
import logging
import threading

import pytest
from support.case import Case, describe
from support.loops import turn

pytestmark = pytest.mark.every_door


@pytest.mark.asyncio_since("3.14", "loops that go on after a run was refused (3.13 has none)")
def test_nested_runs_are_refused(parity):
    def body(case):
        other = type(case.loop)()

        def callback():
            coroutine = asyncio.sleep(0)
            case.raised(case.loop.run_forever)
            case.raised(case.loop.run_until_complete, coroutine)
            case.raised(other.run_forever)
            case.raised(other.run_until_complete, coroutine)
            case.raised(case.loop.close)
            coroutine.close()
            case(case.loop.is_running(), other.is_running(), other.is_closed())

        case.loop.call_soon(callback)
        turn(case.loop, 2)
        case(other.run_until_complete(asyncio.sleep(0, "other")))
        other.close()

    recorded, _ = parity(body)
    assert recorded[:5] == [
        ("RuntimeError", "This event loop is already running"),
        ("RuntimeError", "This event loop is already running"),
        ("RuntimeError", "Cannot run the event loop while another loop is running"),
        ("RuntimeError", "Cannot run the event loop while another loop is running"),
        ("RuntimeError", "Cannot close a running event loop"),
    ]
    assert recorded[5:] == [(True, False, False), "other"]


def test_asyncio_run_inside_a_loop(parity):
    async def body(case):
        coroutine = asyncio.sleep(0)
        case.raised(asyncio.run, coroutine)
        coroutine.close()

    recorded, _ = parity(body)
    assert recorded == [("RuntimeError", "asyncio.run() cannot be called from a running event loop")]


@pytest.mark.asyncio_since("3.14", "loops that go on after a run was refused (3.13 has none)")
def test_run_from_another_thread_is_refused(loop, events):
    """A loop that runs is run by one thread."""

    def other():
        case.raised(loop.run_forever)
        case.raised(loop.close)
        loop.call_soon_threadsafe(loop.stop)

    case = Case("", loop, events)
    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert events == [
        ("RuntimeError", "This event loop is already running"),
        ("RuntimeError", "Cannot close a running event loop"),
    ]


def test_a_loop_moves_from_thread_to_thread(loop, events):
    """It belongs to whoever runs it."""

    async def body(name):
        await asyncio.sleep(0)
        events.append((name, asyncio.get_running_loop() is loop))

    def run(name):
        loop.run_until_complete(body(name))

    run("main")
    for name in ("first", "second"):
        thread = threading.Thread(target=run, args=(name,))
        thread.start()
        thread.join()
    run("main")
    assert events == [("main", True), ("first", True), ("second", True), ("main", True)]


def test_another_loop_in_another_thread_inside_a_callback(loop_factory, loop, events):
    """The callback waits for it: neither loop sees the other."""

    async def inner():
        await asyncio.sleep(0)
        events.append(asyncio.get_running_loop() is not loop)
        events.append(asyncio.current_task().get_name())

    def run():
        other = loop_factory()
        other.run_until_complete(other.create_task(inner(), name="inner"))
        other.close()

    async def outer():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        events.append(asyncio.get_running_loop() is loop)
        events.append(asyncio.current_task().get_name())

    loop.run_until_complete(loop.create_task(outer(), name="outer"))
    assert events == [True, "inner", True, "outer"]


def test_many_loops_in_many_threads(loop_factory):
    """Each runs its own tasks, and hands over to the next."""
    count = 8
    loops = [loop_factory() for _ in range(count)]
    ended = [loop.create_future() for loop in loops]
    results = []

    def run(number):
        results.append((number, loops[number].run_until_complete(ended[number])))

    def hand_over(number, value):
        if number + 1 < count:
            loops[number + 1].call_soon_threadsafe(hand_over, number + 1, value + 1)
        ended[number].set_result(value)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    loops[0].call_soon_threadsafe(hand_over, 0, 100)
    for thread in threads:
        thread.join()
    for loop in loops:
        loop.close()
    assert sorted(results) == [(number, 100 + number) for number in range(count)]


def test_loops_one_after_the_other_inside_each_other(loop_factory, events):
    """A loop that was taken out of its place, as nest_asyncio does, and one that is run in it."""
    outer, inner = loop_factory(), loop_factory()

    async def body(name):
        events.append((name, asyncio.current_task().get_name()))
        await asyncio.sleep(0)
        events.append((name, asyncio.current_task().get_name()))

    def callback():
        asyncio._set_running_loop(None)
        try:
            inner.run_until_complete(inner.create_task(body("inner"), name="inner"))
        finally:
            asyncio._set_running_loop(outer)

    task = outer.create_task(body("outer"), name="outer")
    outer.call_soon(callback)
    outer.run_until_complete(task)
    outer.close()
    inner.close()
    assert events == [("outer", "outer"), ("inner", "inner"), ("inner", "inner"), ("outer", "outer")]


def test_a_handle_that_is_run_by_hand(parity):
    """`Handle._run()`, from another callback: before the loop comes to it, and once more by the loop."""

    def body(case):
        case.loop.call_soon(lambda: handle._run())
        handle = case.loop.call_soon(case, "called")
        turn(case.loop)
        handle._run()
        handle.cancel()

    assert parity(body) == (["called"] * 3, [])


@pytest.mark.asyncio_since("3.12", "the handler called in the handle's context")
def test_a_handle_that_runs_itself(parity, caplog):
    """Its context is entered already: neither the callback nor the exception handler can be run in it once more."""
    caplog.set_level(logging.ERROR, "asyncio")

    def body(case):
        def callback():
            case("called")
            handle._run()
            case("returned")

        handle = case.loop.call_soon(callback)
        turn(case.loop)
        case([(record.getMessage().splitlines()[0], describe(record.exc_info[1])) for record in caplog.records])
        caplog.clear()

    events, errors = parity(body)
    text = "cannot enter context: <_contextvars.Context object at 0x> is already entered"
    assert events == ["called", "returned", [("Unhandled error in exception handler", ("RuntimeError", text))]]
    assert errors == []


def test_a_task_that_steps_itself(parity):
    """A coroutine that runs already is not run again: who asks for it gets the error."""

    def body(case):
        async def main():
            coroutine = task.get_coro()
            case.raised(coroutine.send, None)
            case.raised(coroutine.throw, ValueError)
            case(await asyncio.sleep(0, "goes on"))

        task = case.loop.create_task(main())
        case.loop.run_until_complete(task)

    assert parity(body)[0] == [("ValueError", "coroutine already executing")] * 2 + ["goes on"]


def test_a_coroutine_in_two_tasks(parity):
    def body(case):
        async def main():
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        coroutine = main()
        tasks = [case.loop.create_task(coroutine) for _ in range(2)]
        done, _ = case.loop.run_until_complete(asyncio.wait(tasks))
        for task in tasks:
            case(type(task.exception()).__name__)

    parity(body)


def test_a_future_that_is_settled_by_its_own_callbacks(parity):
    def body(case):
        def callback(future):
            case.raised(future.set_result, "again")
            case(future.cancel())
            future.add_done_callback(lambda future: case("added by a callback"))

        future = case.loop.create_future()
        future.add_done_callback(callback)
        future.set_result("first")
        turn(case.loop, 2)
        case(future.result())

    assert parity(body)[0] == [("InvalidStateError", "invalid state"), False, "added by a callback", "first"]


def test_greenlets(loop_factory, events):
    """Each greenlet has a stack and a context of its own, and the thread one loop."""
    greenlet = pytest.importorskip("greenlet", reason="greenlet is not installed")

    async def body():
        await asyncio.sleep(0)
        events.append("task")
        here = greenlet.getcurrent()
        other = greenlet.greenlet(lambda: (events.append("other"), here.switch(), events.append("resumed")))
        other.switch()
        await asyncio.sleep(0)
        other.switch()
        events.append("end")

    loop = loop_factory()
    greenlet.greenlet(lambda: loop.run_until_complete(body())).switch()
    loop.close()
    assert events == ["task", "other", "resumed", "end"]


def test_greenlets_that_wait_for_the_loop(loop_factory, events):
    """What SQLAlchemy does: synchronous code in a greenlet hands awaitables to the task below it."""
    greenlet = pytest.importorskip("greenlet", reason="greenlet is not installed")

    def await_only(awaitable):
        return greenlet.getcurrent().parent.switch(awaitable)

    async def spawn(function):
        worker = greenlet.greenlet(function)
        result = worker.switch()
        while not worker.dead:
            result = worker.switch(await result)
        return result

    def synchronous():
        events.append(await_only(asyncio.sleep(0, "slept")))
        events.append(await_only(asyncio.sleep(0.0001, "slept again")))
        return "result"

    loop = loop_factory()
    events.append(loop.run_until_complete(spawn(synchronous)))
    loop.close()
    assert events == ["slept", "slept again", "result"]
