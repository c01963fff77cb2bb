"""A Rust task (`ferrio::spawn_on`) and coroutines on one loop, in one thread, that wake each other.

The task is `_NativeEcho` of the extension's `testing.rs`, which only debug builds have.
"""

import asyncio
import gc
import threading
import weakref

import pytest
from support.loops import STEPPED, turn, while_asleep

import ferrio
from ferrio import _ferrio

pytestmark = pytest.mark.skipif(not hasattr(_ferrio, "_NativeEcho"), reason="the extension is a release build")

UNIT = 1 / 512


@pytest.fixture
def loop():
    loop = ferrio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def log():
    return []


@pytest.fixture
def echo(loop, log):
    echo = _ferrio._NativeEcho(loop, log)
    yield echo
    if not loop.is_closed():
        echo.close()
        turn(loop, 2)


def steps(log):
    return [event[:2] for event in log]


def test_each_wakes_the_other(loop, echo, log):
    """A thousand times to and fro, in one thread."""

    async def main():
        return [await echo.ask(number) for number in range(1000)]

    assert loop.run_until_complete(main()) == list(range(1000))
    assert steps(log[:4]) == [("begins", 0), ("answers", 0), ("begins", 1), ("answers", 1)]
    assert {thread for _, _, thread in log} == {threading.get_ident()}


def test_they_share_one_queue(loop, echo, log):
    """The native task takes its turn where it was woken: behind the callback before, ahead of the one after."""

    def note(name):
        log.append((name, None, None))

    def callback():
        loop.call_soon(note, "before")
        echo.ask("question")
        loop.call_soon(note, "after")

    turn(loop)
    loop.call_soon(callback)
    turn(loop, 2)
    assert steps(log) == [("before", None), ("begins", "question"), ("answers", "question"), ("after", None)]


def test_they_share_one_clock(log):
    """Sleeps of both kinds end in the order of their deadlines, at the time that both agree on."""
    loop = STEPPED["ferrio"]()
    echo = _ferrio._NativeEcho(loop, log)

    async def sleeper(name, ticks):
        await asyncio.sleep(ticks * UNIT)
        log.append((name, loop.time() / UNIT, None))

    async def main():
        answers = [echo.ask("first", 3 * UNIT), echo.ask("second", 4 * UNIT)]
        sleepers = [asyncio.create_task(sleeper(f"sleeper {ticks}", ticks)) for ticks in (6, 2, 9, 5)]
        await asyncio.gather(*answers, *sleepers)
        return loop.time() / UNIT

    assert loop.run_until_complete(main()) == 9
    assert steps(log) == [
        ("begins", "first"),
        ("sleeper 2", 2),
        ("answers", "first"),
        ("begins", "second"),
        ("sleeper 5", 5),
        ("sleeper 6", 6),
        ("answers", "second"),
        ("sleeper 9", 9),
    ]
    loop.close()


def test_woken_from_another_thread(loop, echo, log):
    """The loop sleeps; who asks is elsewhere, and the answer is found here."""
    asked = []

    def ask():
        asked.append(echo.ask("from afar"))
        loop.call_soon_threadsafe(asked[0].add_done_callback, lambda _: loop.stop())

    thread = while_asleep(ask)
    loop.run_forever()
    thread.join()
    assert asked[0].result() == "from afar"
    assert {thread for _, _, thread in log} == {threading.get_ident()}


def test_an_answer_that_nobody_waits_for(loop, echo, log):
    """The coroutine is cancelled while the native task sleeps: that goes on, and answers the next."""

    async def main():
        task = asyncio.create_task(asyncio.wait_for(echo.ask("slow", 2 * UNIT), None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return await echo.ask("next")

    assert loop.run_until_complete(main()) == "next"
    assert steps(log) == [("begins", "slow"), ("answers", "slow"), ("begins", "next"), ("answers", "next")]


def test_the_loop_closes_with_the_task_unfinished(log):
    """The task is dropped by the loop, and what it held with it."""

    class Thing:
        pass

    loop = ferrio.new_event_loop()
    echo = _ferrio._NativeEcho(loop, log)
    thing = Thing()
    gone = weakref.ref(thing)
    answer = echo.ask(thing, 1000)
    del thing
    turn(loop)
    log.clear()
    assert gone() is not None
    loop.close()
    gc.collect()
    assert gone() is None
    assert not answer.done()


def test_it_is_no_task_of_pythons(loop, echo):
    """`all_tasks` and `current_task` are about coroutines."""

    async def main():
        own = asyncio.current_task()
        await echo.ask(None)
        assert asyncio.current_task() is own
        return asyncio.all_tasks() == {own}

    assert loop.run_until_complete(main())
