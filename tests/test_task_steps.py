"""What a task makes of what its coroutine yields, the same on asyncio's and on ferrio's."""

import asyncio
import contextvars
import types

import pytest
from support.case import outcome
from support.loops import turn

import ferrio

variable = contextvars.ContextVar("variable", default="unset")


async def nothing():
    pass


class Yields:
    """Awaiting it yields an object of one's choice, once."""

    def __init__(self, thing):
        self.thing = thing

    def __await__(self):
        return (yield self.thing)


class TestYields:
    @pytest.mark.parametrize("thing", [1, "text", (), object, 1.5], ids=repr)
    def test_what_is_no_future(self, parity, thing):
        def body(case):
            task = case.loop.create_task(outcome(Yields(thing)))
            case(case.loop.run_until_complete(task))

        parity(body)

    def test_a_generator(self, parity):
        def generator():
            yield

        def body(case):
            task = case.loop.create_task(outcome(Yields(generator())))
            case(case.loop.run_until_complete(task)[1].split(" in task")[0])

        parity(body)

    def test_a_future_without_await(self, parity):
        def body(case):
            future = case.loop.create_future()
            task = case.loop.create_task(outcome(Yields(future)), name="n")
            case(case.loop.run_until_complete(task)[1].split(" in task")[0], future._callbacks)

        parity(body)

    def test_the_task_itself(self, parity):
        def body(case):
            async def waits():
                case((await outcome(Yields(task)))[1].split(":")[0])
                task._asyncio_future_blocking = True
                case((await outcome(Yields(task)))[1].split(":")[0])
                case((await outcome(task))[1].split(":")[0])

            task = case.loop.create_task(waits())
            case.loop.run_until_complete(task)

        parity(body)

    @pytest.mark.ferrio_only("asyncio reports some of these to the loop, and never resumes the task")
    @pytest.mark.parametrize("bad", ["_asyncio_future_blocking", "get_loop", "add_done_callback", "result", "__bool__"])
    def test_hostile_futures(self, loop, bad):
        class Hostile:
            """Looks like a future, and fails at one attribute."""

            def __init__(self):
                self._asyncio_future_blocking = self

            def __bool__(self):
                if bad == "__bool__":
                    raise ZeroDivisionError(bad)
                return True

            def __getattribute__(self, name):
                if name == bad:
                    raise ZeroDivisionError(name)
                return object.__getattribute__(self, name)

            def get_loop(self):
                return loop

            def add_done_callback(self, fn, *, context):
                loop.call_soon(fn, self)

            def result(self):
                return "result"

        assert loop.run_until_complete(outcome(Yields(Hostile()))) == ("ZeroDivisionError", bad)

    @pytest.mark.ferrio_only("asyncio reports it to the loop, and never resumes the task")
    def test_a_repr_that_fails(self, loop):
        class Bad:
            def __repr__(self):
                raise ZeroDivisionError("repr")

        assert loop.run_until_complete(outcome(Yields(Bad()))) == ("ZeroDivisionError", "repr")

    def test_blocking_that_is_no_bool(self, parity):
        def body(case):
            for blocking in [None, 0, ""]:
                thing = types.SimpleNamespace(_asyncio_future_blocking=blocking, get_loop=lambda: case.loop)
                recorded = case.loop.run_until_complete(outcome(Yields(thing)))
                case(recorded[0], recorded[1].split(" in task")[0].split("namespace")[0])

        parity(body)

    def test_a_cancel_that_fails_as_it_is_passed_on(self, loop, exceptions):
        """The task goes on waiting, and is woken once."""

        class Fails(ferrio.Future):
            def cancel(self, msg=None):
                raise ZeroDivisionError("no cancel")

        async def waits():
            task.cancel()
            seen.append(await future)
            seen.append(await later)

        seen = []
        future, later = Fails(loop=loop), loop.create_future()
        task = loop.create_task(waits())
        turn(loop)
        assert [error for _, error in exceptions.take()] == [("ZeroDivisionError", "no cancel")]
        future.set_result("future")
        turn(loop, 2)
        assert seen == []
        assert task.cancelled()

    def test_a_future_of_another_loop(self, parity):
        def body(case):
            other = type(case.loop)()
            future = other.create_future()
            recorded = case.loop.run_until_complete(outcome(future))
            case(recorded[0], "attached to a different loop" in recorded[1])
            other.close()

        parity(body)

    def test_none(self, parity):
        async def body(case):
            case.loop.call_soon(case, "between")
            await Yields(None)
            case("resumed")

        parity(body)

    def test_a_coroutine_that_runs_already(self, parity):
        def body(case):
            async def runs():
                coroutine_of_task.send(None)

            coroutine_of_task = runs()
            task = case.loop.create_task(coroutine_of_task)
            case(case.loop.run_until_complete(outcome(task)))

        parity(body)

    def test_a_coroutine_that_has_ended(self, parity):
        def body(case):
            coroutine = nothing()
            coroutine.close()
            task = case.loop.create_task(coroutine)
            case(case.loop.run_until_complete(outcome(task)))

        parity(body)

    def test_two_tasks_of_one_coroutine(self, parity):
        def body(case):
            coroutine = asyncio.sleep(0)
            tasks = [case.loop.create_task(coroutine) for _ in range(2)]
            case(case.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))[1] is not None)

        parity(body)

    def test_endless_recursion(self, parity):
        def body(case):
            async def deeper():
                await deeper()

            task = case.loop.create_task(deeper())
            recorded = case.loop.run_until_complete(outcome(task))
            case(recorded[0])

        parity(body)
