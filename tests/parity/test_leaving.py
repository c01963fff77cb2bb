"""KeyboardInterrupt and SystemExit leave the loop at once, wherever they come from, and the loop can go on."""

import asyncio
import os
import signal
import socket

import pytest
from support.loops import turn, while_asleep

pytestmark = pytest.mark.every_door


def from_callback(loop, leave):
    loop.call_soon(leave)


def from_threadsafe_callback(loop, leave):
    loop.call_soon_threadsafe(leave)


def from_timer(loop, leave):
    loop.call_later(0, leave)


def from_first_step(loop, leave):
    async def body():
        leave()

    return loop.create_task(body())


def from_bare_yield(loop, leave):
    async def body():
        await asyncio.sleep(0)
        leave()

    return loop.create_task(body())


def from_woken_task(loop, leave):
    future = loop.create_future()

    async def body():
        await future
        leave()

    loop.call_soon(future.set_result, None)
    return loop.create_task(body())


def from_cancelled_task(loop, leave):
    async def body():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            leave()

    task = loop.create_task(body())
    loop.call_soon(task.cancel)
    return task


def from_done_callback(loop, leave):
    future = loop.create_future()
    future.add_done_callback(lambda future: leave())
    future.set_result(None)


def from_loop_signal_handler(loop, leave):
    loop.add_signal_handler(signal.SIGUSR1, leave)
    os.kill(os.getpid(), signal.SIGUSR1)


def from_exception_handler(loop, leave):
    loop.set_exception_handler(lambda loop, context: leave())
    loop.call_soon(lambda: 1 / 0)


def from_default_exception_handler(loop, leave):
    class Logged(ZeroDivisionError):
        def __repr__(self):
            leave()

    loop.set_exception_handler(None)
    loop.call_soon(loop.call_exception_handler, {"message": "m", "extra": Logged()})


def from_callback_that_stopped(loop, leave):
    def body():
        loop.stop()
        leave()

    loop.call_soon(body)


SOURCES = [value for name, value in list(globals().items()) if name.startswith("from_")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_leaves_at_once_and_goes_on(parity, source, error):
    def body(case):
        loop = case.loop

        def leave():
            case("leaves")
            raise error("now")

        loop.call_soon(case, "queued before")
        task = source(loop, leave)
        loop.call_soon(case, "queued after")
        loop.call_soon(loop.call_soon, case, "queued by a callback after")
        case.raised(loop.run_forever)
        case(loop.is_running(), loop.is_closed(), asyncio._get_running_loop())
        loop.set_exception_handler(case.errors)
        loop.call_soon(case, "queued when left")
        turn(loop, 5)
        if task is not None:
            case(type(task.exception()).__name__, str(task.exception()))
        case(loop.run_until_complete(asyncio.sleep(0, "usable")))

    recorded, _ = parity(body)
    assert (error.__name__, "now") in recorded
    assert {"queued before", "queued after", "queued by a callback after", "queued when left"} < set(recorded)
    assert recorded[-1] == "usable"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_was_queued_before_the_turn_is_not_run_by_it(parity, error):
    """At once means at once: the rest of the batch waits for the next run."""

    def body(case):
        def leave():
            raise error

        case.loop.call_soon(leave)
        case.loop.call_soon(case, "after")
        case.raised(case.loop.run_forever)
        case("left")
        turn(case.loop)

    assert parity(body)[0] == [(error.__name__, ""), "left", "after"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_stopping_is_forgotten(parity, error):
    """A `stop()` before the exception does not stop the next run."""

    def body(case):
        def leave():
            case.loop.stop()
            raise error

        case.loop.call_soon(leave)
        case.raised(case.loop.run_forever)
        case.loop.call_soon(case.loop.call_soon, case.loop.call_soon, case.loop.stop)
        case.loop.call_soon(case, "runs until it is stopped again")
        case.loop.run_forever()

    assert parity(body)[0][-1] == "runs until it is stopped again"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_main_coroutine(parity, error):
    """The error is raised by `run_until_complete`, counts as fetched, and the loop is not left stopping."""

    def body(case):
        async def main():
            case("main")
            raise error("out")

        case.raised(case.loop.run_until_complete, main())
        case(case.loop.run_until_complete(asyncio.sleep(0, "usable")))

    recorded, reported = parity(body)
    assert recorded == ["main", (error.__name__, "out"), "usable"]
    assert reported == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_task_beside_main(parity, error):
    """Whoever awaits the failed task gets the error too, in the next run."""

    def body(case):
        async def fails():
            raise error("beside")

        async def main():
            try:
                await case.loop.create_task(fails())
            except error as caught:
                case("main caught", str(caught))
                return "result"

        task = case.loop.create_task(main())
        case.raised(case.loop.run_until_complete, task)
        case(task.done())
        case(case.loop.run_until_complete(task))

    assert parity(body)[0] == [(error.__name__, "beside"), False, ("main caught", "beside"), "result"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_plain_signal_handler_in_a_loop_that_sleeps(loop, error):
    def handler(number, frame):
        raise error("from the handler")

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        killer = while_asleep(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        with pytest.raises(error, match="from the handler"):
            loop.run_forever()
        killer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert not loop.is_running()
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_reader_and_writer(parity, error):
    def body(case):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)

            def leave(what):
                case(what)
                raise error(what)

            theirs.send(b"x")
            case.loop.add_reader(ours, leave, "reader")
            case.raised(case.loop.run_forever)
            case("still watched", case.loop.remove_reader(ours))
            case.loop.add_writer(ours, leave, "writer")
            case.raised(case.loop.run_forever)
            case("still watched", case.loop.remove_writer(ours))
            turn(case.loop)

    assert parity(body)[0] == [
        "reader",
        (error.__name__, "reader"),
        ("still watched", True),
        "writer",
        (error.__name__, "writer"),
        ("still watched", True),
    ]


@pytest.mark.asyncio_since("3.14", "eager_start in create_task")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_eager_first_step(parity, error):
    """It goes through whoever makes the task."""

    def body(case):
        async def fails():
            raise error("eager")

        def make():
            try:
                case.loop.create_task(fails(), eager_start=True)
            except error as caught:
                case("maker", str(caught))
                raise

        case.loop.call_soon(make)
        case.raised(case.loop.run_forever)
        case(case.loop.run_until_complete(asyncio.sleep(0, "usable")))

    recorded, reported = parity(body)
    assert recorded == [("maker", "eager"), (error.__name__, "eager"), "usable"]
    # Nobody was given the task, so nobody can fetch its exception.
    assert reported == [("Task exception was never retrieved", (error.__name__, "eager"))]


def test_other_base_exceptions_are_reported(parity):
    """Only these two leave the loop: any other goes to the exception handler."""

    class Odd(BaseException):
        pass

    def body(case):
        def fails():
            raise Odd("odd")

        async def task():
            raise Odd("in a task")

        case.loop.call_soon(fails)
        case.loop.call_soon(case, "goes on")
        task = case.loop.create_task(task())
        turn(case.loop, 2)
        case(type(task.exception()).__name__)

    recorded, reported = parity(body)
    assert recorded == ["goes on", "Odd"]
    assert [error for _, error in reported] == [("Odd", "odd")]


@pytest.mark.ferrio_only("asyncio waits for ever")
@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_waiting_for_the_task_that_left(parity, leaving):
    """As a program does that cancels its main task after an interrupt, and waits for it."""

    def body(case):
        async def main():
            raise leaving

        task = case.loop.create_task(main())
        for _ in range(2):
            with pytest.raises(leaving):
                case.loop.run_until_complete(task)
            case(task.done(), task.cancel())
        case(case.loop.run_until_complete(asyncio.sleep(0, "goes on")))

    recorded, _ = parity(body)
    assert recorded == [(True, False)] * 2 + ["goes on"]
