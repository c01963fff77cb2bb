"""The handles of `call_soon_threadsafe`, which another thread has."""

import asyncio
import threading

import pytest
from support.loops import turn

pytestmark = pytest.mark.asyncio_since("3.14", "handles that wait")


@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_another_thread_waits_for_a_callback_that_runs(loop, method):
    """When cancel() has returned, the callback is not in the middle of what it uses."""
    began, asking, order = threading.Event(), threading.Event(), []

    def callback():
        began.set()
        asking.wait()
        # The other thread has a handle that it asks, and every occasion to get an answer.
        for _ in range(1000):
            threading.Event().wait(0)
        order.append("callback")

    def thread():
        handle = loop.call_soon_threadsafe(callback)
        began.wait()
        asking.set()
        order.append((method, getattr(handle, method)(), handle.cancelled()))
        loop.call_soon_threadsafe(loop.stop)

    other = threading.Thread(target=thread)
    loop.call_soon(other.start)
    loop.run_forever()
    other.join()
    assert order == ["callback", (method, None, True) if method == "cancel" else (method, False, False)]


def test_several_threads_wait(loop):
    began, handles, answers = threading.Event(), [], []
    ready = threading.Barrier(4)

    def callback():
        began.set()
        ready.wait()
        for _ in range(1000):
            threading.Event().wait(0)
        answers.append("callback")

    def ask():
        began.wait()
        ready.wait()
        answers.append(handles[0].cancelled())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    handles.append(loop.call_soon_threadsafe(callback))
    for thread in threads:
        thread.start()
    turn(loop)
    for thread in threads:
        thread.join()
    assert answers == ["callback", False, False, False]


def test_the_callback_itself_does_not_wait(loop):
    handles, answers = [], []

    def callback():
        handles[0].cancel()
        answers.append(handles[0].cancelled())

    handles.append(loop.call_soon_threadsafe(callback))
    turn(loop)
    assert answers == [True]


def test_a_callback_that_raises_lets_them_go(loop, exceptions):
    began, asking, answers = threading.Event(), threading.Event(), []

    def callback():
        began.set()
        asking.wait()
        raise ZeroDivisionError

    def thread():
        handle = loop.call_soon_threadsafe(callback)
        began.wait()
        asking.set()
        answers.append(handle.cancelled())
        loop.call_soon_threadsafe(loop.stop)

    other = threading.Thread(target=thread)
    loop.call_soon(other.start)
    loop.run_forever()
    other.join()
    assert answers == [False]
    assert [error for _, error in exceptions.take()] == [("ZeroDivisionError", "")]


def test_taken_back_before_it_runs(loop):
    handle = loop.call_soon_threadsafe(pytest.fail)
    thread = threading.Thread(target=handle.cancel)
    thread.start()
    thread.join()
    turn(loop)
    assert handle.cancelled()


def test_its_class(loop):
    handle = loop.call_soon_threadsafe(print)
    assert isinstance(handle, asyncio.Handle)
    if shared := getattr(asyncio.events, "_ThreadSafeHandle", None):
        assert isinstance(handle, shared)
        assert not isinstance(loop.call_soon(print), shared)
