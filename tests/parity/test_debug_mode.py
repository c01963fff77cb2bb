"""Debug mode: what is logged, refused and remembered."""

import asyncio
import functools
import gc
import logging
import re
import socket
import sys
import threading
import time

import pytest
from support.case import neutral
from support.loops import turn
from support.scripts import run_script

pytestmark = pytest.mark.every_door

both = pytest.mark.parametrize("name", ["asyncio", "ferrio"])


@pytest.fixture
def warnings_logged(caplog):
    """The warnings of asyncio's logger since the last call, without what takes how long."""
    caplog.set_level(logging.WARNING, "asyncio")

    def take():
        texts = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
        caplog.clear()
        return [re.sub(r"\d+\.\d{3} seconds", "N seconds", neutral(text)) for text in texts]

    return take


@both
@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ([], {}, "False"),
        (["-X", "dev"], {}, "True"),
        ([], {"PYTHONASYNCIODEBUG": "1"}, "True"),
        ([], {"PYTHONASYNCIODEBUG": ""}, "False"),
        (["-E"], {"PYTHONASYNCIODEBUG": "1"}, "False"),
        ([], {"PYTHONDEVMODE": "1"}, "True"),
    ],
)
def test_how_it_is_switched_on(name, options, environment, expected):
    body = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    out, err, status = run_script(name, body, options=options, environment=environment)
    assert (out, err, status) == ([expected], "", 0)


def test_switching(parity):
    def body(case):
        for value in (True, 0, "yes", [], 1):
            case(case.loop.set_debug(value), bool(case.loop.get_debug()))

    assert parity(body)[0] == [(None, True), (None, False), (None, True), (None, False), (None, True)]


class TestSlowCallbacks:
    """Each is logged with what it is and where it was made. The limit is zero here, so every callback is slow."""

    @pytest.fixture
    def slow(self, loop):
        loop.set_debug(True)
        loop.slow_callback_duration = 0
        return loop

    def test_callback(self, slow, warnings_logged):
        def callback(argument):
            pass

        line = sys._getframe().f_lineno + 1
        slow.call_soon(callback, 7)
        turn(slow)
        (text,) = warnings_logged()
        assert text.startswith("Executing <Handle TestSlowCallbacks.test_callback.<locals>.callback(7) at ")
        assert text.endswith(f" created at {__file__}:{line}> took N seconds")

    def test_timer(self, slow, warnings_logged):
        line = sys._getframe().f_lineno + 1
        slow.call_later(0, len, [])
        turn(slow)
        (text,) = warnings_logged()
        assert re.match(r"Executing <TimerHandle when=[\d.]+ len\(\[\]\) created at ", text)
        assert text.endswith(f"{__file__}:{line}> took N seconds")

    def test_from_another_thread(self, slow, warnings_logged):
        thread = threading.Thread(target=slow.call_soon_threadsafe, args=(len, []))
        thread.start()
        thread.join()
        turn(slow)
        # The handle has a class of its own in some versions.
        assert any(" len([]) created at " in text for text in warnings_logged())

    def test_task(self, slow, warnings_logged):
        async def body():
            await asyncio.sleep(0)

        line = sys._getframe().f_lineno + 1
        task = slow.create_task(body(), name="slow one")
        turn(slow, 2)
        first, second = warnings_logged()
        where = f" created at {__file__}:{line}> took N seconds"
        assert first.startswith("Executing <Task pending name='slow one' coro=<TestSlowCallbacks.test_task.")
        assert first.endswith(where)
        assert second.startswith("Executing <Task finished name='slow one' ")
        assert second.endswith(where)
        assert task.done()

    def test_reader(self, slow, warnings_logged):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            slow.add_reader(ours, len, [])
            theirs.send(b"x")
            turn(slow)
            slow.remove_reader(ours)
        assert any(text.startswith("Executing <Handle len([]) created at ") for text in warnings_logged())

    def test_cancelled_ones_are_not_run(self, slow, warnings_logged):
        slow.call_soon(int).cancel()
        slow.call_later(0, int).cancel()
        turn(slow)
        assert warnings_logged() == []

    def test_one_that_fails_is_logged_too(self, slow, warnings_logged, exceptions):
        slow.call_soon(lambda: 1 / 0)
        turn(slow)
        assert len(warnings_logged()) == 1
        assert exceptions.take()[0][1] == ("ZeroDivisionError", "division by zero")

    def test_the_limit(self, loop, warnings_logged):
        """A callback that takes less is not logged; the time is the callback's own, not that of the turn."""
        loop.set_debug(True)
        loop.slow_callback_duration = 0.02

        def spin(seconds):
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass

        loop.call_soon(int, "1")
        loop.call_soon(spin, 0.03)
        loop.call_soon(int, "2")
        turn(loop)
        (text,) = warnings_logged()
        assert "spin(0.03)" in text

    def test_not_without_debug_mode(self, loop, warnings_logged):
        loop.slow_callback_duration = 0
        loop.call_soon(int)
        turn(loop)
        assert warnings_logged() == []

    def test_what_the_limit_may_be(self, parity):
        def body(case):
            for value in (0, 1.5, 10):
                case.loop.slow_callback_duration = value
                case(case.loop.slow_callback_duration)

        assert parity(body)[0] == [0, 1.5, 10]


WRONG_THREAD = "Non-thread-safe operation invoked on an event loop other than the current one"


class TestWrongThread:
    @pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
    @pytest.mark.parametrize("debug", [True, False])
    def test_it_is_refused(self, parity, method, debug):
        def body(case):
            case.loop.set_debug(debug)

            def other_thread():
                arguments = (int,) if method == "call_soon" else (1e6, int)
                case.raised(getattr(case.loop, method), *arguments)

            def callback():
                thread = threading.Thread(target=other_thread)
                thread.start()
                thread.join()

            case.loop.call_soon(callback)
            turn(case.loop)
            # A loop that does not run is nobody's.
            callback()

        expected = ("RuntimeError", WRONG_THREAD) if debug else "no exception"
        assert parity(body) == ([expected, "no exception"], [])

    def test_tasks_and_futures(self, parity):
        """Whatever would queue something says no."""

        async def body(case):
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            watched, finished = loop.create_future(), loop.create_future()
            watched.add_done_callback(int)
            finished.set_result(None)
            coroutine = asyncio.sleep(0)

            def other_thread():
                case.raised(loop.create_task, coroutine)
                case.raised(watched.set_result, None)
                case.raised(finished.add_done_callback, int)
                case.raised(loop.call_soon_threadsafe, int)

            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join()
            coroutine.close()
            # asyncio has made the task by the time it is refused, and says that it was destroyed.
            gc.collect()
            case.errors.take()

        refused = ("RuntimeError", WRONG_THREAD)
        assert parity(body) == ([refused] * 3 + ["no exception"], [])


class TestCallbacks:
    """Debug mode looks at what is to be called, when it is scheduled."""

    @pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
    @pytest.mark.parametrize("callback", ["coroutine function", "coroutine", "nothing to call"])
    def test_what_is_refused(self, parity, method, callback):
        """`call_later` names `call_at`, which does asyncio's work."""
        named = "call_at" if method == "call_later" else method

        def body(case):
            case.loop.set_debug(True)
            coroutine = asyncio.sleep(0)
            wrong = {"coroutine function": asyncio.sleep, "coroutine": coroutine, "nothing to call": 7}[callback]
            arguments = (wrong,) if "soon" in method else (0, wrong)
            case.raised(getattr(case.loop, method), *arguments)
            turn(case.loop)
            coroutine.close()

        events, errors = parity(body)
        if callback == "nothing to call":
            assert events == [("TypeError", f"a callable object was expected by {named}(), got 7")]
        else:
            assert events == [("TypeError", f"coroutines cannot be used with {named}()")]
        assert errors == []

    def test_a_closed_loop_is_told_first(self, parity):
        def body(case):
            case.loop.set_debug(True)
            case.loop.close()
            for method, arguments in (("call_soon", (7,)), ("call_later", (0, 7)), ("call_soon_threadsafe", (7,))):
                case.raised(getattr(case.loop, method), *arguments)

        assert parity(body)[0] == [("RuntimeError", "Event loop is closed")] * 3


class TestOrigins:
    """Where handles, futures, tasks and coroutines come from."""

    def test_handles_and_futures(self, loop):
        loop.set_debug(True)
        first = sys._getframe().f_lineno
        things = [
            loop.call_soon(int),
            loop.call_later(1e6, int),
            loop.call_soon_threadsafe(int),
            asyncio.Future(loop=loop),
        ]
        for number, thing in enumerate(things, first + 2):
            frame = thing._source_traceback[-1]
            assert (frame.filename, frame.lineno) == (__file__, number)
            assert f"created at {__file__}:{number}" in repr(thing)
        loop.set_debug(False)
        assert loop.call_soon(int)._source_traceback is None
        assert loop.create_future()._source_traceback is None

    def test_futures_of_the_loop(self, loop, loop_name):
        """asyncio shows its own line in `create_future`; ferrio, which has none, the caller's."""
        loop.set_debug(True)
        line = sys._getframe().f_lineno + 1
        future = loop.create_future()
        frame = future._source_traceback[-1 if loop_name == "ferrio" else -2]
        assert (frame.filename, frame.lineno) == (__file__, line)

    def test_tasks(self, loop):
        loop.set_debug(True)
        coroutine = asyncio.sleep(0)
        line = sys._getframe().f_lineno + 1
        task = loop.create_task(coroutine)
        frame = task._source_traceback[-1]
        assert (frame.filename, frame.lineno) == (__file__, line)
        loop.run_until_complete(task)

    def test_cancelled_handles_keep_their_looks(self, parity):
        """The callback is gone, and what it was can still be read."""

        def body(case):
            case.loop.set_debug(True)
            handle = case.loop.call_soon(len, [1])
            handle.cancel()
            case(neutral(repr(handle)).split(" created")[0], handle._callback)

        assert parity(body)[0] == [("<Handle cancelled len([1])", None)]

    def test_reports_say_where(self, parity):
        def body(case):
            case.loop.set_debug(True)
            contexts = []
            case.loop.set_exception_handler(lambda loop, context: contexts.append(context))

            def fails():
                raise ValueError

            async def task():
                raise ValueError

            def future():
                failed = asyncio.Future(loop=case.loop)
                failed.set_exception(ValueError())

            case.loop.call_soon(fails)
            case.loop.call_later(0, fails)
            case.loop.create_task(task())
            turn(case.loop)
            future()
            gc.collect()
            for context in contexts:
                case(sorted(context), context["source_traceback"][-1].filename == __file__)

        events, _ = parity(body)
        assert len(events) == 4
        assert all(there for _, there in events)

    def test_a_report_of_something_else_says_which_callback_ran(self, parity, caplog):
        """The default handler adds where the running callback was scheduled, if the report has no place of its own."""
        caplog.set_level(logging.ERROR, "asyncio")

        def body(case):
            case.loop.set_debug(True)
            case.loop.set_exception_handler(None)

            def callback(context):
                case.loop.call_exception_handler(context)
                case(sorted(context), "handle_traceback" in context and context["handle_traceback"][-1].lineno == line)

            line = sys._getframe().f_lineno + 1
            handles = [case.loop.call_soon(callback, {"message": "text"}), case.loop.call_later(0, callback, {})]
            case.loop.call_soon(callback, {"source_traceback": []})
            turn(case.loop)
            case(len(handles), ["Handle created at" in record.getMessage() for record in caplog.records])
            caplog.clear()
            outside = {"message": "text"}
            case.loop.call_exception_handler(outside)
            case(sorted(outside))
            caplog.clear()

        events, _ = parity(body)
        assert events[0] == (["handle_traceback", "message"], True)
        assert events[1] == (["source_traceback"], False)
        assert events[2] == (["handle_traceback"], True)
        assert events[-1] == ["message"]

    def test_coroutines_that_are_never_awaited(self, parity):
        """The warning tells where the coroutine was made, while a loop in debug mode runs, and only then."""

        def body(case):
            async def forgotten():
                pass

            def forget():
                with pytest.warns(RuntimeWarning, match="never awaited") as warned:
                    forgotten()
                case("Coroutine created at" in str(warned[0].message))

            forget()
            case.loop.call_soon(forget)
            turn(case.loop)
            case.loop.set_debug(True)
            forget()
            case.loop.call_soon(forget)
            turn(case.loop)
            forget()
            case.loop.call_soon(case.loop.set_debug, False)
            turn(case.loop, 2)
            case.loop.call_soon(forget)
            turn(case.loop)

        assert parity(body)[0] == [False, False, False, True, False, False]

    def test_switched_while_the_loop_runs(self, parity):
        def body(case):
            def depth():
                case(sys.get_coroutine_origin_tracking_depth())

            for debug in (True, False):
                case.loop.call_soon(case.loop.set_debug, debug)
                case.loop.call_soon(depth)
                turn(case.loop)
                depth()

            async def main():
                case.loop.set_debug(True)
                await asyncio.sleep(0)
                depth()
                case.loop.set_debug(False)
                await asyncio.sleep(0)
                depth()

            case.loop.run_until_complete(main())

        assert parity(body)[0][-2:] == [10, 0]

    def test_the_depth_of_before_comes_back(self, parity):
        def body(case):
            case.loop.set_debug(True)
            sys.set_coroutine_origin_tracking_depth(3)
            try:
                case.loop.call_soon(lambda: case(sys.get_coroutine_origin_tracking_depth()))
                turn(case.loop)
                case(sys.get_coroutine_origin_tracking_depth())
            finally:
                sys.set_coroutine_origin_tracking_depth(0)

        assert parity(body)[0] == [10, 3]


def test_errors_in_the_logging_of_slow_callbacks(loop, exceptions, warnings_logged):
    """A callback whose text cannot be made is a matter of the text: the loop goes on."""

    class Nameless:
        def __call__(self):
            pass

        def __repr__(self):
            return "<nameless>"

    loop.set_debug(True)
    loop.slow_callback_duration = 0
    loop.call_soon(Nameless())
    turn(loop)
    assert "<nameless>()" in warnings_logged()[0]


def test_the_name_of_what_is_described(parity):
    """How callbacks of all kinds are named."""

    class Method:
        def method(self):
            pass

        def __repr__(self):
            return "<Method>"

    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        for callback in (len, Method().method, functools.partial(len, [1]), functools.partial(Method().method), Method):
            handle = loop.call_soon(callback, *([[]] if callback is len else []))
            handle.cancel()
            case(neutral(repr(handle)).split(" created")[0])

    assert parity(body)[0][0] == "<Handle cancelled len([])"


def test_origins_are_each_threads_own(loop_factory):
    """Two loops in debug mode, in two threads: the one that ends takes nothing from the other, and leaves nothing."""
    both, done, depths = threading.Barrier(2), threading.Event(), {}

    def thread(name):
        loop = loop_factory()
        loop.set_debug(True)

        def look(when):
            depths[name, when] = sys.get_coroutine_origin_tracking_depth() > 0

        def body():
            both.wait()
            look("while both run")
            if name == "second":
                done.wait()
                look("while one runs")

        loop.call_soon(body)
        loop.call_soon(loop.stop)
        loop.run_forever()
        look("after")
        done.set()
        loop.close()

    threads = [threading.Thread(target=thread, args=[name]) for name in ("first", "second")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    running = {("first", "while both run"), ("second", "while both run"), ("second", "while one runs")}
    assert depths == dict.fromkeys(running, True) | {("first", "after"): False, ("second", "after"): False}


def test_connections_are_told_of(parity, caplog):
    """Only in debug mode is anything made into text for that."""
    caplog.set_level(logging.DEBUG, "asyncio")

    class Host(str):
        def __str__(self):
            asked.append("text")
            return "a host"

    asked = []

    async def body(case):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        for debug in (False, True):
            loop.set_debug(debug)
            caplog.clear()
            asked.clear()
            transport, protocol = await loop.create_connection(asyncio.Protocol, Host(host), port)
            for record in caplog.records:
                if "connected to" in record.msg:
                    case(record.msg, record.args[1:] == (host, port, transport, protocol), record.getMessage() != "")
            case(debug, asked != [])
            transport.close()
        server.close()
        await server.wait_closed()

    told = ("%r connected to %s:%r: (%r, %r)", True, True)
    assert parity(body)[0] == [(False, False), told, (True, True)]
