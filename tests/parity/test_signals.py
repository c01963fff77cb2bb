"""Signals: the interpreter's own handlers, the loop's, and the wake-up descriptor that both share."""

import asyncio
import contextlib
import contextvars
import os
import signal
import socket
import threading

import pytest
from support.case import Case
from support.loops import turn, while_asleep
from support.scripts import run_script

pytestmark = pytest.mark.every_door


def kill(number=signal.SIGUSR1):
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def handled(handler, number=signal.SIGUSR1):
    """A plain handler for the block."""
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


def test_plain_handler_runs_at_once_in_an_idle_loop(loop, events):
    """Nothing else is there to end the wait, and the loop stays in it while the handler runs."""
    ran = threading.Event()

    def handler(number, frame):
        events.append((number, loop.is_running()))
        ran.set()

    def body():
        kill()
        ran.wait()
        loop.call_soon_threadsafe(loop.stop)

    with handled(handler):
        thread = while_asleep(body)
        loop.run_forever()
        thread.join()
    assert events == [(signal.SIGUSR1, True)]


def test_plain_handler_by_an_interval_timer(loop, events):
    """The kernel's own timer, with no other thread that could help."""

    def handler(number, frame):
        events.append("handler")
        loop.call_soon_threadsafe(loop.stop)

    with handled(handler, signal.SIGALRM):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        loop.run_forever()
    assert events == ["handler"]


def test_plain_handler_while_callbacks_flood(loop, events):
    def handler(number, frame):
        events.append("handler")

    def flood():
        if not events:
            loop.call_soon(flood)
        else:
            loop.stop()

    with handled(handler):
        loop.call_soon(flood)
        loop.call_soon(kill)
        loop.run_forever()
    assert events == ["handler"]


def test_loop_handler(parity):
    def body(case):
        loop = case.loop
        loop.add_signal_handler(signal.SIGUSR1, case, "handler", 1)
        loop.add_signal_handler(signal.SIGUSR2, loop.stop)
        kill()
        kill(signal.SIGUSR2)
        case("killed")
        loop.run_forever()
        case(loop.remove_signal_handler(signal.SIGUSR1), loop.remove_signal_handler(signal.SIGUSR1))
        case(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)
        case(loop.remove_signal_handler(signal.SIGUSR2))

    assert parity(body)[0] == ["killed", ("handler", 1), (True, False), True, True]


def test_loop_handler_wakes_a_loop_that_sleeps(loop, events):
    def handler():
        events.append("handler")
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler)
    thread = while_asleep(kill)
    loop.run_forever()
    thread.join()
    assert events == ["handler"]


def test_loop_handler_replaces_the_one_before(parity):
    def body(case):
        case.loop.add_signal_handler(signal.SIGUSR1, case, "first")
        case.loop.add_signal_handler(signal.SIGUSR1, case, "second")
        kill()
        turn(case.loop, 3)
        case(case.loop.remove_signal_handler(signal.SIGUSR1))
        case(case.loop.remove_signal_handler(signal.SIGUSR1))

    assert parity(body)[0] == ["second", True, False]


def test_loop_handler_that_raises_is_reported(parity):
    def body(case):
        case.loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
        kill()
        turn(case.loop, 3)
        kill()
        turn(case.loop, 3)

    _, reported = parity(body)
    assert [error for _, error in reported] == [("ZeroDivisionError", "division by zero")] * 2


def test_loop_handler_that_removes_itself(parity):
    def body(case):
        def handler():
            case(case.loop.remove_signal_handler(signal.SIGUSR1))
            case(signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)

        case.loop.add_signal_handler(signal.SIGUSR1, handler)
        kill()
        turn(case.loop, 3)

    assert parity(body)[0] == [True, True]


def test_removing_the_handler_for_interrupts_brings_pythons_own_back(parity):
    def body(case):
        case.loop.add_signal_handler(signal.SIGINT, case, "interrupted")
        kill(signal.SIGINT)
        turn(case.loop, 3)
        case.loop.remove_signal_handler(signal.SIGINT)
        case(signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    assert parity(body)[0] == ["interrupted", True]


def test_close_removes_every_handler(loop):
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGINT, int)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_bad_calls(parity):
    async def coroutine_function():
        pass

    def body(case):
        loop = case.loop
        coroutine = coroutine_function()
        calls = [
            (loop.add_signal_handler, ("SIGINT", int)),
            (loop.add_signal_handler, (None, int)),
            (loop.add_signal_handler, (2.0, int)),
            (loop.add_signal_handler, (0, int)),
            (loop.add_signal_handler, (-1, int)),
            (loop.add_signal_handler, (1000, int)),
            (loop.add_signal_handler, (signal.SIGKILL, int)),
            (loop.add_signal_handler, (signal.SIGSTOP, int)),
            (loop.add_signal_handler, (signal.SIGUSR1, coroutine_function)),
            (loop.add_signal_handler, (signal.SIGUSR1, coroutine)),
            (loop.remove_signal_handler, ("SIGINT",)),
            (loop.remove_signal_handler, (0,)),
            (loop.remove_signal_handler, (10**30,)),
        ]
        for function, args in calls:
            case.raised(function, *args)
        coroutine.close()
        case(sorted(loop._signal_handlers), signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL)

    recorded, _ = parity(body)
    assert "no exception" not in recorded
    assert recorded[-1] == ([], True)


def test_failed_handler_leaves_the_others_in_place(parity):
    def body(case):
        case.loop.add_signal_handler(signal.SIGUSR1, case, "handler")
        case.raised(case.loop.add_signal_handler, signal.SIGKILL, int)
        kill()
        turn(case.loop, 3)

    recorded, _ = parity(body)
    assert recorded[-1] == "handler"


def test_only_on_the_main_thread(loop, events):
    def body():
        case.raised(loop.add_signal_handler, signal.SIGUSR1, int)

    case = Case("", loop, events)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    kind, text = events[0]
    assert kind == "RuntimeError"
    assert text.startswith("set_wakeup_fd only works in main thread")


def test_context_of_a_handler(parity):
    variable = contextvars.ContextVar("variable", default="none")

    def body(case):
        def set_up():
            variable.set("when added")
            case.loop.add_signal_handler(signal.SIGUSR1, lambda: case(variable.get()))
            variable.set("later")

        contextvars.copy_context().run(set_up)
        kill()
        turn(case.loop, 3)

    assert parity(body)[0] == ["when added"]


@pytest.fixture
def watched_fd(loop):
    """A wake-up descriptor of the program's own, and where what it is told can be read."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        yield reader, writer
        signal.set_wakeup_fd(-1)


class TestWakeupDescriptorOfTheProgram:
    """Who has set one before the loop runs, and watches it there, learns of signals while the loop runs."""

    def test_is_told_of_signals(self, loop, events, watched_fd):
        reader, writer = watched_fd
        signal.set_wakeup_fd(writer.fileno())

        def told():
            events.append(reader.recv(10))
            loop.stop()

        with handled(lambda *_: events.append("handler")):
            loop.add_reader(reader, told)
            loop.call_soon(kill)
            loop.run_forever()
            loop.remove_reader(reader)
        assert events == ["handler", bytes([signal.SIGUSR1])]

    def test_is_there_after_the_run(self, loop, watched_fd):
        _, writer = watched_fd
        signal.set_wakeup_fd(writer.fileno())
        turn(loop)
        assert signal.set_wakeup_fd(-1) == writer.fileno()

    def test_set_while_the_loop_runs(self, loop, watched_fd):
        _, writer = watched_fd
        loop.call_soon(signal.set_wakeup_fd, writer.fileno())
        turn(loop)
        assert signal.set_wakeup_fd(-1) == writer.fileno()

    def test_taken_out_while_the_loop_runs(self, loop, watched_fd):
        _, writer = watched_fd
        signal.set_wakeup_fd(writer.fileno())
        loop.call_soon(signal.set_wakeup_fd, -1)
        turn(loop)
        assert signal.set_wakeup_fd(-1) == -1

    def test_that_blocks_by_now_is_no_error(self, loop, watched_fd):
        _, writer = watched_fd
        signal.set_wakeup_fd(writer.fileno())
        writer.setblocking(True)
        turn(loop)

    def test_handlers_of_the_loop_come_first(self, loop, events, watched_fd):
        _, writer = watched_fd
        signal.set_wakeup_fd(writer.fileno())
        loop.add_signal_handler(signal.SIGUSR1, lambda: events.append("handler") or loop.stop())
        loop.call_soon(kill)
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGUSR1)
        assert events == ["handler"]


@pytest.fixture
def foreign_fd():
    """A wake-up descriptor that somebody set before the loop."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        yield writer.fileno()
        signal.set_wakeup_fd(-1)


@pytest.mark.ferrio_only("asyncio leaves -1 behind where somebody else's descriptor was")
class TestWakeupDescriptor:
    """It is somebody else's as long as the loop does not run and handles nothing."""

    def test_a_run_gives_it_back(self, loop, foreign_fd):
        turn(loop)
        assert signal.set_wakeup_fd(foreign_fd) == foreign_fd

    def test_a_run_that_is_left_gives_it_back(self, loop, foreign_fd):
        def leave():
            raise SystemExit

        loop.call_soon(leave)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert signal.set_wakeup_fd(foreign_fd) == foreign_fd

    def test_the_last_handler_gives_it_back(self, loop, foreign_fd):
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.add_signal_handler(signal.SIGUSR2, int)
        loop.remove_signal_handler(signal.SIGUSR1)
        turn(loop)
        loop.remove_signal_handler(signal.SIGUSR2)
        assert signal.set_wakeup_fd(foreign_fd) == foreign_fd

    def test_a_failed_handler_gives_it_back(self, loop, foreign_fd):
        with pytest.raises(RuntimeError):
            loop.add_signal_handler(signal.SIGKILL, int)
        assert signal.set_wakeup_fd(foreign_fd) == foreign_fd

    def test_close_gives_it_back(self, loop, foreign_fd):
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.close()
        assert signal.set_wakeup_fd(foreign_fd) == foreign_fd

    def test_one_that_its_owner_closed_is_not_put_back(self, loop):
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        loop.add_signal_handler(signal.SIGUSR1, int)
        reader.close()
        writer.close()
        loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.set_wakeup_fd(-1) == -1

    def test_one_that_was_set_since_stays(self, loop, foreign_fd):
        """Whoever has set it will not set it again."""
        signal.set_wakeup_fd(-1)
        loop.call_soon(signal.set_wakeup_fd, foreign_fd)
        turn(loop)
        assert signal.set_wakeup_fd(foreign_fd) == foreign_fd

    def test_two_loops_with_handlers_end_in_the_order_of_their_beginning(self, loop_factory, foreign_fd):
        first, second = loop_factory(), loop_factory()
        second_hears = []
        with contextlib.closing(second):
            with contextlib.closing(first):
                first.add_signal_handler(signal.SIGUSR1, int)
                second.add_signal_handler(signal.SIGUSR2, second_hears.append, "signal")
            kill(signal.SIGUSR2)
            turn(second)  # which hears of it
            turn(second)
        assert second_hears == ["signal"]


@pytest.mark.parametrize("other", ["a loop of asyncio's", "the program"])
def test_a_new_handler_takes_the_descriptor_back(loop, events, other):
    """asyncio's own loop leaves none behind when its last handler goes."""
    loop.add_signal_handler(signal.SIGUSR1, events.append, "first")
    if other == "the program":
        signal.set_wakeup_fd(-1)
    else:
        with contextlib.closing(asyncio.SelectorEventLoop()) as another:
            another.add_signal_handler(signal.SIGALRM, int)
    loop.add_signal_handler(signal.SIGUSR2, events.append, "second")
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        kill(number)
        turn(loop)  # which hears of it
        turn(loop)
    assert events == ["first", "second"]


def test_no_descriptor_is_left_after_a_run(loop):
    turn(loop)
    assert signal.set_wakeup_fd(-1) == -1


def test_a_loop_on_another_thread_leaves_signals_alone(loop_factory, events):
    """The main thread's wake-up descriptor is none of its business."""

    def body():
        loop = loop_factory()
        events.append(loop.run_until_complete(asyncio.sleep(0, "result")))
        loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert events == ["result"]


def test_a_burst_is_not_lost(loop, events):
    """Every handled signal number of a burst is served, however many arrive between two turns."""
    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGWINCH]
    for number in numbers:
        loop.add_signal_handler(number, events.append, number)
    for _ in range(20):
        for number in numbers:
            kill(number)
    while len(events) < len(numbers):
        turn(loop)
    turn(loop, 3)
    assert set(events) == set(numbers)


def test_a_runner_leaves_another_handler_for_interrupts_alone(loop_factory, events):
    async def main():
        events.append(signal.getsignal(signal.SIGINT) is handler)

    def handler(number, frame):
        pass

    with handled(handler, signal.SIGINT), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
        events.append(signal.getsignal(signal.SIGINT) is handler)
    assert events == [True, True]


def test_interrupt_ends_the_runner(loop_factory, events):
    """The runner's handler cancels the main task; the interrupt is raised when it has ended."""

    async def main():
        kill(signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            events.append("cleaned up")

    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    assert events == ["cleaned up"]


def test_interrupt_of_a_runner_that_sleeps(loop_factory, events):
    async def main():
        nonlocal thread
        thread = while_asleep(lambda: kill(signal.SIGINT))
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            events.append("cleaned up")

    thread = None
    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    thread.join()
    assert events == ["cleaned up"]


def test_second_interrupt_while_cancelling(loop_factory, events):
    """It does not wait for a main task that resists: it leaves the loop from where it is."""

    async def main():
        kill(signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            events.append("cancelled")
            kill(signal.SIGINT)
            events.append("not reached")

    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    assert events == ["cancelled"]


def test_second_interrupt_while_asleep_in_the_cancellation(loop_factory, events):
    async def main():
        nonlocal thread
        kill(signal.SIGINT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            events.append("cancelled")
            thread = while_asleep(lambda: kill(signal.SIGINT))
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                events.append("ended by the runner's close")

    thread = None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert events == ["cancelled"]
    thread.join()
    assert events == ["cancelled", "ended by the runner's close"]


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
def test_interrupt_of_a_whole_program(name):
    """Twice Ctrl-C while the main task resists, in an interpreter of its own: it ends as interrupted."""
    out, err, status = run_script(
        name,
        """
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(1000)
            finally:
                print("cancelled", flush=True)
                os.kill(os.getpid(), signal.SIGINT)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """,
    )
    assert out == ["cancelled"]
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert status == -signal.SIGINT
