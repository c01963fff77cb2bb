"""Cancelling tasks, the same on asyncio's and on ferrio's."""

import asyncio
import contextvars

import pytest
from support.case import outcome
from support.loops import turn

variable = contextvars.ContextVar("variable", default="unset")


class TestCancelling:
    @pytest.mark.parametrize("message", ["m", None, 5, ("a",)], ids=repr)
    def test_messages(self, parity, message):
        def body(case):
            async def keeps():
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError as error:
                    case("inside", error.args)
                    raise

            async def waits(task):
                await task

            inner = case.loop.create_task(keeps())
            outer = case.loop.create_task(waits(inner))
            turn(case.loop, 2)
            case(outer.cancel(message))
            turn(case.loop, 3)
            for task in (inner, outer):
                case(task.cancelled(), task._cancel_message)
                case.raised(task.result)
                case.raised(task.exception)

        parity(body)

    def test_before_the_first_step(self, parity):
        def body(case):
            async def never():
                case("begun")

            task = case.loop.create_task(never())
            case(task.cancel("early"), task.cancel("again"), task.cancelling())
            turn(case.loop)
            case(task.cancelled(), task.cancel())
            case.raised(task.result)

        parity(body)

    def test_ignored(self, parity):
        def body(case):
            async def stubborn():
                for number in range(3):
                    try:
                        await asyncio.get_running_loop().create_future()
                    except asyncio.CancelledError as error:
                        case(number, error.args)
                return "end"

            task = case.loop.create_task(stubborn())
            for number in range(3):
                turn(case.loop)
                case(task.cancel(str(number)))
                turn(case.loop)
            case(task.result(), task.cancelling())

        parity(body)

    @pytest.mark.asyncio_since("3.13", "an uncancel() that takes the last request back before it is raised")
    def test_uncancel(self, parity):
        def body(case):
            async def counts():
                case(task.cancel(), task.cancel(), task.cancelling())
                case(task.uncancel(), task.uncancel(), task.uncancel(), task.cancelling())

            task = case.loop.create_task(counts())
            turn(case.loop)
            case(task.done() and not task.cancelled())

        assert parity(body)[0][-1] is True

    def test_itself(self, parity):
        def body(case):
            async def cancels_itself(then):
                task.cancel("self")
                if then == "waits":
                    await asyncio.sleep(0)
                elif then == "fails":
                    raise ValueError("after")
                return "returned"

            for then in ["waits", "fails", "returns"]:
                task = case.loop.create_task(cancels_itself(then))
                case(case.loop.run_until_complete(outcome(task)))
                case(task.cancelled())

        parity(body)

    def test_what_it_waits_for_is_done_in_the_same_turn(self, parity):
        def body(case):
            async def waits():
                try:
                    return await future
                except asyncio.CancelledError as error:
                    case("cancelled", error.args)
                    raise

            for first in ["result", "cancel"]:
                future = case.loop.create_future()
                task = case.loop.create_task(waits())
                turn(case.loop)
                if first == "result":
                    future.set_result("r")
                    case(task.cancel("late"))
                else:
                    case(task.cancel("first"))
                    case.raised(future.set_result, "r")
                turn(case.loop, 2)
                case(task.cancelled())

        parity(body)

    def test_of_a_finished_task(self, parity):
        def body(case):
            async def fails():
                raise ValueError("lost")

            task = case.loop.create_task(fails())
            turn(case.loop)
            case(task.cancel(), task._log_traceback)

        parity(body)

    def test_a_foreign_future_that_refuses(self, parity):
        """`cancel()` of what is awaited says no, or raises."""

        def body(case):
            class Refuses(case.classes.Future):
                def cancel(self, msg=None):
                    case("asked", msg)
                    if msg == "raise":
                        raise ZeroDivisionError("no")
                    return False

            async def waits():
                return await future

            future = Refuses(loop=case.loop)
            task = case.loop.create_task(waits())
            turn(case.loop)
            case.raised(task.cancel, "raise")
            case(task.cancel("quiet"), task._must_cancel)
            future.set_result("r")
            turn(case.loop)
            case(task.cancelled(), case.loop.run_until_complete(outcome(task)))

        parity(body)

    def test_a_long_chain(self, parity):
        """A cancellation goes down a chain of tasks by recursion in asyncio; a chain of a hundred is no trouble."""

        def body(case):
            async def link(number):
                if number:
                    await case.loop.create_task(link(number - 1))
                else:
                    await case.loop.create_future()

            task = case.loop.create_task(link(100))
            turn(case.loop, 102)
            case(task.cancel("down"))
            turn(case.loop, 102)
            case(task.cancelled(), len(asyncio.all_tasks(case.loop)))

        parity(body)

    @pytest.mark.parametrize("how", ["await", "gather", "wait_for", "timeout", "task of a task"])
    @pytest.mark.parametrize("what", ["future", "task"])
    def test_who_has_put_a_cancel_on_the_object_is_called(self, parity, how, what):
        """As trio-asyncio does, to cancel a task of trio's that the future stands for."""

        async def body(case):
            loop, classes = asyncio.get_running_loop(), case.classes

            async def forever():
                await loop.create_future()

            future = loop.create_future() if what == "future" else loop.create_task(forever())
            cancel = future.cancel

            def replaced(msg=None):
                case("asked", msg)
                return cancel(msg)

            future.cancel = replaced

            async def waits():
                if how == "gather":
                    await classes.gather(future)
                elif how == "wait_for":
                    await classes.wait_for(future, 60)
                elif how == "task of a task":
                    await loop.create_task(waits_for_it())
                else:
                    await waits_for_it()

            async def waits_for_it():
                await future

            if how == "timeout":
                try:
                    async with classes.timeout(0):
                        await future
                except TimeoutError:
                    case(future.cancelled())
                return
            task = loop.create_task(waits())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            case(task.cancelled(), future.cancelled())

        parity(body)

    def test_who_has_put_a_cancel_on_the_task_of_a_scope_is_called(self, parity):
        async def body(case):
            async def scopes():
                task = asyncio.current_task()
                cancel = task.cancel
                task.cancel = lambda msg=None: case("asked", msg) or cancel()
                with pytest.raises(TimeoutError):
                    async with case.classes.timeout(0):
                        await asyncio.get_running_loop().create_future()
                async with case.classes.TaskGroup() as group:
                    child = group.create_task(asyncio.sleep(60))
                    stop = child.cancel
                    child.cancel = lambda msg=None: case("child", msg) or stop()
                    group._abort()

            await asyncio.get_running_loop().create_task(scopes())

        parity(body)
