"""`call_soon_threadsafe`: from other threads, from signal handlers, while the loop sleeps, ends, or is gone."""

import asyncio
import contextvars
import os
import signal
import threading
import weakref

import pytest
from support.case import Case
from support.loops import turn, until_asleep, while_asleep

pytestmark = pytest.mark.every_door


def test_wakes_a_loop_that_sleeps(loop, events):
    """No timer, no descriptor: nothing else would end the wait."""

    def wake():
        loop.call_soon_threadsafe(events.append, "called")
        loop.call_soon_threadsafe(loop.stop)

    thread = while_asleep(wake)
    loop.run_forever()
    thread.join()
    assert events == ["called"]


def test_the_order_is_that_of_time(loop, events):
    """What another thread hands over while a callback runs is before what the callback queues afterwards."""

    def callback():
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(events.append, "thread"))
        loop.call_soon(events.append, "before")
        thread.start()
        thread.join()
        loop.call_soon(events.append, "after")
        loop.call_soon(loop.stop)

    loop.call_soon(callback)
    loop.run_forever()
    assert events == ["before", "thread", "after"]


def test_wakes_a_loop_that_sleeps_many_times(loop, events):
    """Each call meets a loop that has gone to sleep again."""
    rounds = 50
    sleeper = threading.get_native_id()
    called = threading.Event()

    def wake():
        for number in range(rounds):
            until_asleep(sleeper)
            loop.call_soon_threadsafe(events.append, number)
            loop.call_soon_threadsafe(called.set)
            called.wait()
            called.clear()
        until_asleep(sleeper)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=wake)
    thread.start()
    loop.run_forever()
    thread.join()
    assert events == list(range(rounds))


def test_wakes_before_a_timer_that_is_far_away(loop, events):
    timer = loop.call_later(1e6, events.append, "timer")
    thread = while_asleep(lambda: loop.call_soon_threadsafe(loop.stop))
    loop.run_forever()
    thread.join()
    timer.cancel()
    assert events == []


def test_order_is_kept_for_each_thread(loop, events):
    threads, calls = 4, 200
    barrier = threading.Barrier(threads)

    def body(name):
        barrier.wait()
        for number in range(calls):
            loop.call_soon_threadsafe(events.append, (name, number))
        loop.call_soon_threadsafe(ended, name)

    def ended(name):
        running.discard(name)
        if not running:
            loop.stop()

    running = set(range(threads))
    workers = [threading.Thread(target=body, args=(name,)) for name in range(threads)]
    for worker in workers:
        worker.start()
    loop.run_forever()
    for worker in workers:
        worker.join()
    assert len(events) == threads * calls
    for name in range(threads):
        assert [number for owner, number in events if owner == name] == list(range(calls))


def test_order_with_call_soon_on_the_own_thread(parity):
    """On the loop's own thread it is `call_soon`, as far as the order goes."""

    def body(case):
        def callback():
            case.loop.call_soon(case, "a")
            case.loop.call_soon_threadsafe(case, "b")
            case.loop.call_soon(case, "c")
            case.loop.call_soon_threadsafe(case, "d")

        case.loop.call_soon_threadsafe(case, "before the loop runs 1")
        case.loop.call_soon(case, "before the loop runs 2")
        case.loop.call_soon_threadsafe(callback)
        turn(case.loop, 2)

    assert parity(body)[0] == ["before the loop runs 1", "before the loop runs 2", "a", "b", "c", "d"]


def test_before_the_loop_runs(parity):
    """What another thread hands over first comes first, whether or not the loop runs."""

    def body(case):
        def other():
            case.loop.call_soon_threadsafe(case, "thread")

        case.loop.call_soon(case, "first")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        case.loop.call_soon(case, "last")
        turn(case.loop)

    assert parity(body)[0] == ["first", "thread", "last"]


def test_runs_in_the_next_turn_from_a_thread(parity):
    """A callback that waits for a thread finds what the thread handed over in the next turn, not in its own."""

    def body(case):
        def hand_over():
            thread = threading.Thread(target=case.loop.call_soon_threadsafe, args=(case, "handed over"))
            thread.start()
            thread.join()
            case("callback")

        case.loop.call_soon(hand_over)
        case.loop.call_soon(case, "same turn")
        turn(case.loop)
        case("turn ended")
        turn(case.loop)

    assert parity(body)[0] == ["callback", "same turn", "turn ended", "handed over"]


def test_handle_can_be_cancelled(parity):
    def body(case):
        def other():
            handles.append(case.loop.call_soon_threadsafe(case, "never"))

        handles = []
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        handles[0].cancel()
        case(handles[0].cancelled(), isinstance(handles[0], asyncio.Handle))
        turn(case.loop, 2)

    assert parity(body)[0] == [(True, True)]


def test_cancelled_by_the_thread_while_the_loop_runs(loop, events):
    """The handle is cancelled before the loop can come to it: the loop's thread is held by a callback meanwhile."""

    def callback():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    def other():
        loop.call_soon_threadsafe(events.append, "never").cancel()
        loop.call_soon_threadsafe(events.append, "always")
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(callback)
    loop.run_forever()
    assert events == ["always"]


def test_after_close(loop):
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.call_soon_threadsafe(print)


def test_after_close_from_a_thread(loop, events):
    def other():
        case.raised(loop.call_soon_threadsafe, print)

    case = Case("", loop, events)
    loop.close()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert events == [("RuntimeError", "Event loop is closed")]


def test_from_threads_while_the_loop_closes(loop):
    """Each call is either taken or refused: none fails otherwise, and none hangs."""
    threads = 4
    started = threading.Barrier(threads + 1)
    outcomes = []

    def body():
        started.wait()
        while True:
            try:
                loop.call_soon_threadsafe(int)
            except BaseException as error:
                outcomes.append((type(error), str(error)))
                return

    workers = [threading.Thread(target=body) for _ in range(threads)]
    for worker in workers:
        worker.start()
    started.wait()
    turn(loop, 20)
    loop.close()
    for worker in workers:
        worker.join()
    assert outcomes == [(RuntimeError, "Event loop is closed")] * threads


def test_what_it_was_given_is_dropped_by_close(loop):
    """Work that was handed over and never ran is let go by `close()`, without being run."""

    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(print, argument))
    thread.start()
    thread.join()
    del argument, thread
    assert gone() is not None
    loop.close()
    assert gone() is None


def test_from_a_signal_handler(loop, events):
    """A plain handler of the interpreter, which runs wherever the main thread happens to be."""

    def handler(number, frame):
        loop.call_soon_threadsafe(events.append, "called")
        loop.call_soon_threadsafe(loop.stop)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        killer = while_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        loop.run_forever()
        killer.join()
        assert events == ["called"]
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_forever()
        assert events == ["called", "called"]
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_run_coroutine_threadsafe(loop, events):
    async def body():
        await asyncio.sleep(0)
        events.append("ran")
        return "result"

    def other():
        future = asyncio.run_coroutine_threadsafe(body(), loop)
        events.append(future.result())
        loop.call_soon_threadsafe(loop.stop)

    thread = while_asleep(other)
    loop.run_forever()
    thread.join()
    assert events == ["ran", "result"]


def test_context(parity):
    """The caller's context is copied, in the thread that calls."""
    variable = contextvars.ContextVar("variable", default="none")

    def body(case):
        def other():
            variable.set("thread")
            case.loop.call_soon_threadsafe(lambda: case(variable.get()))
            variable.set("later")
            given = contextvars.copy_context()
            case.loop.call_soon_threadsafe(lambda: case(variable.get()), context=given)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        turn(case.loop)

    assert parity(body)[0] == ["thread", "later"]
