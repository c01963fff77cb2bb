"""Threads for what blocks: `run_in_executor`, the default executor, and how it is shut down."""

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import weakref

import pytest
from support.case import describe, outcome
from support.loops import turn

pytestmark = pytest.mark.every_door

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


class Inline(concurrent.futures.Executor):
    """Runs what it is given at once, and keeps count."""

    def __init__(self):
        self.submitted = []

    def submit(self, function, /, *args):
        self.submitted.append((function, args))
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


class Gate:
    """Something to block in: `entered` and `leave` are events of threads."""

    def __init__(self):
        self.entered = threading.Event()
        self.leave = threading.Event()

    def __call__(self):
        self.entered.set()
        assert self.leave.wait(10)
        return "done"


def test_result_exception_and_arguments(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        main = threading.get_ident()

        def function(*args):
            assert threading.get_ident() != main
            return args

        def fails():
            raise KeyError("text")

        case(await loop.run_in_executor(None, function))
        case(await loop.run_in_executor(None, function, 1, [2]))
        try:
            await loop.run_in_executor(None, fails)
        except KeyError as error:
            case(describe(error))

    assert parity(body) == ([(), (1, [2]), ("KeyError", "'text'")], [])


def test_what_is_returned_is_a_future_of_the_loop(loop):
    future = loop.run_in_executor(Inline(), int)
    assert asyncio.isfuture(future)
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    assert loop.run_until_complete(future) == 0


def test_an_executor_of_ones_own(parity):
    """It is used, and left alone: neither made the default nor shut down."""

    def body(case):
        executor = Inline()
        case(case.loop.run_until_complete(case.loop.run_in_executor(executor, int, "7")))
        case(list(executor.submitted), case.loop._default_executor)
        case.loop.run_until_complete(case.loop.shutdown_default_executor())
        case(case.loop.run_until_complete(case.loop.run_in_executor(executor, int, "8")))

    assert parity(body)[0] == [7, ([(int, ("7",))], None), 8]


def test_the_default_executor_is_made_once(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        executor = loop._default_executor
        case(type(executor).__name__, name.rsplit("_", 1)[0])
        await loop.run_in_executor(None, int)
        case(loop._default_executor is executor)
        await loop.shutdown_default_executor()

    assert parity(body)[0] == [("ThreadPoolExecutor", "asyncio"), True]


def test_set_default_executor(parity):
    def body(case):
        for wrong in (None, 1, Inline(), concurrent.futures.Executor):
            case.raised(case.loop.set_default_executor, wrong)

        class Counting(concurrent.futures.ThreadPoolExecutor):
            def submit(self, *args):
                case("submit", args)
                return super().submit(*args)

        with Counting(max_workers=1) as executor:
            case(case.loop.set_default_executor(executor))
            case(case.loop.run_until_complete(case.loop.run_in_executor(None, int, "3")))
            case(case.loop._default_executor is executor)

    events, _ = parity(body)
    assert events[:4] == [("TypeError", "executor must be ThreadPoolExecutor instance")] * 4


def test_the_context_is_not_carried_over(parity):
    """`to_thread` does that; this call is older than contexts."""

    async def body(case):
        VARIABLE.set("of the task")
        case(await asyncio.get_running_loop().run_in_executor(None, VARIABLE.get))

    assert parity(body)[0] == ["unset"]


def test_cancelling_what_waits_for_a_thread(parity):
    """The first runs to its end, the second never begins; both waits end at once."""

    def body(case):
        gate = Gate()
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            case.loop.set_default_executor(executor)
            running = case.loop.run_in_executor(None, gate)
            waiting = case.loop.run_in_executor(None, case, "never")
            assert gate.entered.wait(10)
            case(running.cancel(), waiting.cancel())
            turn(case.loop, 2)
            case(running.cancelled(), waiting.cancelled())
            gate.leave.set()
        turn(case.loop)

    assert parity(body) == ([(True, True), (True, True)], [])


def test_a_thread_that_comes_back_to_a_closed_loop(parity):
    """Its result is nobody's, and that is no error."""

    def body(case):
        gate = Gate()
        case.loop.run_in_executor(None, gate)
        assert gate.entered.wait(10)
        executor = case.loop._default_executor
        case.loop.close()
        gate.leave.set()
        executor.shutdown()
        case(case.loop._default_executor)

    assert parity(body)[0] == [None]


@pytest.mark.parametrize("function", ["coroutine function", "coroutine", "no function"])
def test_debug_mode_looks_at_the_function(parity, function):
    def body(case):
        case.loop.set_debug(True)
        coroutine = None
        if function == "coroutine function":
            case.raised(case.loop.run_in_executor, Inline(), asyncio.sleep, 0)
        elif function == "coroutine":
            coroutine = asyncio.sleep(0)
            case.raised(case.loop.run_in_executor, Inline(), coroutine)
            coroutine.close()
        else:
            case.raised(case.loop.run_in_executor, Inline(), 7)

    events, _ = parity(body)
    assert events[0][0] == "TypeError"


class TestShutdown:
    def test_it_waits_for_the_threads(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            gate = Gate()
            future = loop.run_in_executor(None, gate)
            shutdown = loop.create_task(loop.shutdown_default_executor())
            while not gate.entered.is_set():
                await asyncio.sleep(0)
            case(shutdown.done())
            gate.leave.set()
            case(await future, await shutdown)

        assert parity(body)[0] == [False, ("done", None)]

    def test_nothing_new_is_taken(self, parity):
        """From the moment it begins, also if there has been no executor."""

        async def body(case):
            loop = asyncio.get_running_loop()
            await loop.shutdown_default_executor()
            case.raised(loop.run_in_executor, None, int)
            case(await loop.run_in_executor(Inline(), int))
            case(await loop.shutdown_default_executor())

        text = "Executor shutdown has been called"
        assert parity(body)[0] == [("RuntimeError", text), 0, None]

    def test_nothing_new_is_taken_before_the_coroutine_begins(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            shutdown = loop.shutdown_default_executor()
            case(await loop.run_in_executor(None, int))
            await shutdown

        assert parity(body)[0] == [0]

    @pytest.mark.asyncio_since("3.13", "a timeout that warns")
    @pytest.mark.parametrize("timeout", [0, 0.001, 1e-7, 0.0, True])
    def test_the_time_is_up(self, parity, timeout):
        async def body(case):
            loop = asyncio.get_running_loop()
            gate = Gate()
            future = loop.run_in_executor(None, gate)
            assert gate.entered.wait(10)
            executor = loop._default_executor
            with pytest.warns(RuntimeWarning) as warned:
                await loop.shutdown_default_executor(timeout=timeout)
            case(len(warned), str(warned[0].message), warned[0].category)
            case(future.done())
            gate.leave.set()
            case(await future)
            executor.shutdown()

        events, _ = parity(body)
        assert events[0][0] == 1
        assert events[1:] == [False, "done"]

    @pytest.mark.asyncio_since("3.12", "the timeout")
    def test_what_is_no_timeout(self, parity):
        """It matters where there is something to wait for."""

        async def body(case):
            loop = asyncio.get_running_loop()
            case(await loop.shutdown_default_executor("soon"))
            case.raised(loop.run_in_executor, None, int)
            executor = concurrent.futures.ThreadPoolExecutor()
            loop.set_default_executor(executor)
            case((await outcome(loop.shutdown_default_executor("soon")))[0])
            executor.shutdown()

        assert parity(body)[0] == [None, ("RuntimeError", "Executor shutdown has been called"), "TypeError"]

    @pytest.mark.asyncio_since("3.12", "the timeout")
    def test_the_time_is_not_up(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, int)
            await loop.shutdown_default_executor(60)
            case("without a warning")

        assert parity(body)[0] == ["without a warning"]

    @pytest.mark.asyncio_since("3.12", "the timeout")
    @pytest.mark.parametrize("timeout", [None, 1000])
    def test_a_loop_that_is_closed_before_it_ends(self, loop_factory, timeout):
        """Nothing keeps the two."""
        threads = set(threading.enumerate())
        loop = loop_factory()
        gate = Gate()
        loop.run_in_executor(None, gate)
        shutdown = loop.create_task(loop.shutdown_default_executor(timeout))
        turn(loop, 2)
        gone = weakref.ref(loop), weakref.ref(shutdown)
        shutdown._log_destroy_pending = False
        loop.close()
        gate.leave.set()
        # One of them waits for the executor, and refers to the loop meanwhile.
        for thread in set(threading.enumerate()) - threads:
            thread.join()
        del loop, shutdown
        gc.collect()
        gc.collect()
        assert [ref() for ref in gone] == [None, None]

    def test_close_does_not_wait(self, parity):
        def body(case):
            gate = Gate()
            case.loop.run_in_executor(None, gate)
            executor = case.loop._default_executor
            assert gate.entered.wait(10)
            case.loop.close()
            case(gate.leave.is_set())
            case.raised(executor.submit, int)
            gate.leave.set()
            executor.shutdown()

        events, _ = parity(body)
        assert events[0] is False
        assert events[1][0] == "RuntimeError"

    def test_an_executor_that_fails_to_shut_down(self, parity):
        class Failing(concurrent.futures.ThreadPoolExecutor):
            def shutdown(self, wait=True, **kwargs):
                if wait:
                    raise ZeroDivisionError("in shutdown")
                super().shutdown(wait=wait, **kwargs)

        async def body(case):
            loop = asyncio.get_running_loop()
            loop.set_default_executor(Failing())
            try:
                await loop.shutdown_default_executor()
            except ZeroDivisionError as error:
                case(describe(error))

        assert parity(body)[0] == [("ZeroDivisionError", "in shutdown")]


def test_many_at_once(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        case(await asyncio.gather(*(loop.run_in_executor(None, pow, 2, n) for n in range(100))))
        await loop.shutdown_default_executor()

    assert parity(body)[0] == [[2**n for n in range(100)]]
