"""A closed loop: every method of it, what it raises, and in which words."""

import asyncio
import gc
import inspect
import signal
import socket
import threading
import weakref

import pytest
from support.case import describe
from support.loops import turn

pytestmark = pytest.mark.every_door

CLOSED = ("RuntimeError", "Event loop is closed")


def outcome(function, *args, **kwargs):
    """What a call gives: the description of its error, or its result."""
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        return describe(error)
    return result


def drive(coroutine):
    """What a coroutine comes to that never waits; one that waits is an error."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        return stopped.value
    except BaseException as error:
        return describe(error)
    finally:
        coroutine.close()
    return "it waits"


@pytest.fixture
def closed(loop_factory):
    """A loop that has run, and is closed."""
    loop = loop_factory()
    turn(loop)
    loop.close()
    return loop


CALLS = {
    "call_soon": lambda loop: loop.call_soon(int),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(int),
    "call_later": lambda loop: loop.call_later(0, int),
    "call_at": lambda loop: loop.call_at(0, int),
    "run_forever": lambda loop: loop.run_forever(),
    "run_in_executor": lambda loop: loop.run_in_executor(None, int),
    "add_signal_handler": lambda loop: loop.add_signal_handler(signal.SIGUSR1, int),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_needs_an_open_loop_says_so(closed, call):
    assert outcome(call, closed) == CLOSED


def test_what_needs_an_open_loop_says_so_with_a_descriptor(closed):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for thing in (ours, ours.fileno()):
            assert outcome(closed.add_reader, thing, int) == CLOSED
            assert outcome(closed.add_writer, thing, int) == CLOSED
            assert closed.remove_reader(thing) is False
            assert closed.remove_writer(thing) is False


def test_a_coroutine_that_cannot_be_run_is_left_to_its_owner(closed):
    """It is neither begun nor awaited; who made it closes it."""

    async def body():
        raise AssertionError

    coroutine = body()
    assert outcome(closed.create_task, coroutine) == CLOSED
    assert outcome(closed.run_until_complete, coroutine) == CLOSED
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
    coroutine.close()


def test_a_task_made_by_its_class(closed, loop_name):
    """The class asks the loop for a turn, which is refused; the task is nobody's then."""

    async def body():
        pass

    coroutine = body()
    task_class = asyncio.Task
    if loop_name == "ferrio":
        import ferrio

        task_class = ferrio.Task
    assert outcome(task_class, coroutine, loop=closed) == CLOSED
    coroutine.close()
    assert asyncio.all_tasks(closed) == set()


def test_futures_still_work(closed):
    """They can be made, settled and read; only callbacks need the loop."""
    future = closed.create_future()
    future.set_result(1)
    assert future.result() == 1
    assert outcome(future.add_done_callback, int) == CLOSED
    future = closed.create_future()
    future.add_done_callback(int)
    assert outcome(future.set_result, 2) == CLOSED
    assert future.result() == 2
    future = closed.create_future()
    future.add_done_callback(int)
    assert outcome(future.cancel) == CLOSED
    assert future.cancelled()


def test_what_asks_nothing_of_the_loop(closed):
    assert closed.is_closed() is True
    assert closed.is_running() is False
    assert closed.close() is None
    assert closed.stop() is None
    assert closed.time() > 0
    assert closed.get_debug() is False
    closed.set_debug(True)
    assert closed.get_debug() is True
    handler = print
    closed.set_exception_handler(handler)
    assert closed.get_exception_handler() is handler
    closed.set_task_factory(handler)
    assert closed.get_task_factory() is handler
    closed.slow_callback_duration = 1
    assert closed.slow_callback_duration == 1
    assert "running=False closed=True debug=True" in repr(closed)
    assert closed.remove_signal_handler(signal.SIGUSR1) is False


def test_errors_are_still_reported(closed):
    reports = []
    closed.set_exception_handler(lambda loop, context: reports.append((loop is closed, context)))
    context = {"message": "after the end"}
    closed.call_exception_handler(context)
    assert reports == [(True, context)]


def test_shutting_down_what_never_was(closed):
    """Neither waits, so neither needs the loop."""
    assert drive(closed.shutdown_asyncgens()) is None
    assert drive(closed.shutdown_default_executor()) is None
    assert outcome(closed.run_in_executor, None, int) == CLOSED


COROUTINES = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "getaddrinfo": lambda loop, sock: loop.getaddrinfo("localhost", 80),
    "getnameinfo": lambda loop, sock: loop.getnameinfo(("127.0.0.1", 80)),
}


@pytest.mark.parametrize("name", COROUTINES)
def test_coroutines_that_have_to_wait(closed, name):
    """What would have to wait for the descriptor, or for a thread, is refused by it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as listener:
        ours.setblocking(False)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock = listener if name == "sock_accept" else ours
        assert drive(COROUTINES[name](closed, sock)) == CLOSED


def test_what_was_pending_is_dropped(loop_factory, events):
    loop = loop_factory()
    loop.call_soon(events.append, "soon")
    loop.call_later(0, events.append, "later")
    loop.call_soon_threadsafe(events.append, "threadsafe")
    loop.close()
    assert outcome(loop.run_forever) == CLOSED
    assert events == []


def test_handles_of_a_closed_loop_can_be_cancelled(loop_factory):
    loop = loop_factory()
    handles = [loop.call_soon(int), loop.call_later(1e6, int), loop.call_soon_threadsafe(int)]
    loop.close()
    for handle in handles:
        handle.cancel()
        assert handle.cancelled()


def test_a_running_loop_cannot_be_closed(parity):
    def body(case):
        case.loop.call_soon(case.raised, case.loop.close)
        turn(case.loop)
        case(case.loop.is_closed())

    assert parity(body)[0] == [("RuntimeError", "Cannot close a running event loop"), False]


def test_closing_from_another_thread(loop_factory):
    """A loop that does not run is nobody's: any thread may close it."""
    loop = loop_factory()
    turn(loop)
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()
    assert loop.is_closed()
    assert outcome(loop.run_forever) == CLOSED


def test_closed_by_a_callback_that_stopped_it(loop_factory, events):
    """The turn is over when `run_forever` returns, so closing right there is in order."""
    loop = loop_factory()
    loop.call_soon(loop.stop)
    loop.call_soon(events.append, "the same turn")
    loop.run_forever()
    loop.call_soon(events.append, "never")
    loop.close()
    assert events == ["the same turn"]


def test_a_context_manager_that_runs_the_loop_no_more(closed):
    runner = asyncio.Runner(loop_factory=lambda: closed)
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        runner.run(coroutine)
    coroutine.close()


def test_a_loop_that_closes_lets_its_tasks_go(loop):
    """Nothing runs them any more: they are destroyed with their last reference, and say so."""
    reports = []
    loop.set_exception_handler(lambda loop, context: reports.append(context["message"]))
    lines = []

    async def unfinished():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            lines.append("ended")

    lost, kept = loop.create_task(unfinished()), loop.create_task(unfinished())
    turn(loop)
    lost.itself = lost
    reference = weakref.ref(lost)
    del lost
    loop.close()
    gc.collect()
    assert reference() is None
    assert reports == ["Task was destroyed but it is pending!"]
    assert lines == ["ended"]
    assert asyncio.all_tasks(loop) == {kept}
    del kept
    gc.collect()
    assert asyncio.all_tasks(loop) == set()
    assert len(reports) == 2
