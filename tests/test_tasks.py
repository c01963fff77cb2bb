"""What a task does, the same on asyncio's and on ferrio's."""

import asyncio
import collections.abc
import contextvars
import gc
import io
import sys
import weakref

import pytest
from support.case import describe, neutral, outcome
from support.loops import turn

import ferrio

variable = contextvars.ContextVar("variable", default="unset")


async def nothing():
    pass


async def forever():
    await asyncio.get_running_loop().create_future()


class TestMaking:
    def test_wrong_coroutines(self, parity):
        def body(case):
            for wrong in [1, None, nothing, print, iter(()), "text"]:
                with pytest.raises(TypeError, match="a coroutine was expected, got"):
                    case.classes.Task(wrong, loop=case.loop)
                with pytest.raises(TypeError):
                    case.loop.create_task(wrong)

        parity(body)

    def test_wrong_arguments(self, parity):
        def body(case):
            coroutine = nothing()
            with pytest.raises(TypeError):
                case.classes.Task()
            with pytest.raises(TypeError):
                case.classes.Task(coroutine, case.loop)
            with pytest.raises(TypeError):
                case.classes.Task(coroutine, loop=case.loop, surplus=1)
            coroutine.close()

        parity(body)

    def test_surplus_arguments_are_counted(self, parity):
        def body(case):
            case.raised(case.classes.create_task, 1, "a name")
            case.raised(case.classes.create_task)
            case.raised(case.classes.TaskGroup().create_task, 1, "a name")

        assert parity(body)[0] == [
            ("TypeError", "create_task() takes 1 positional argument but 2 were given"),
            ("TypeError", "create_task() missing 1 required positional argument: 'coro'"),
            ("TypeError", "TaskGroup.create_task() takes 2 positional arguments but 3 were given"),
        ]

    def test_a_closed_loop(self, parity):
        def body(case):
            case.loop.close()
            coroutine = nothing()
            case.raised(case.loop.create_task, coroutine)
            coroutine.close()

        assert parity(body)[1] == []

    def test_a_coroutine_that_is_no_native_one(self, parity):
        class Own(collections.abc.Coroutine):
            def __init__(self):
                self.left = [None, None]

            def send(self, value):
                if self.left:
                    return self.left.pop()
                raise StopIteration("own")

            def throw(self, *args):
                raise args[0]

            def close(self):
                pass

            def __await__(self):
                return self

        def body(case):
            case(case.loop.run_until_complete(case.loop.create_task(Own())))
            task = case.loop.create_task(Own())
            turn(case.loop)
            task.cancel("own")
            case(case.loop.run_until_complete(outcome(task)))

        parity(body)

    def test_is_a_task_to_asyncio(self, loop):
        task = loop.create_task(nothing())
        assert isinstance(task, asyncio.Task)
        assert isinstance(task, asyncio.Future)
        assert asyncio.isfuture(task)
        assert asyncio.ensure_future(task, loop=loop) is task
        assert asyncio.all_tasks(loop) == {task}
        loop.run_until_complete(task)
        assert asyncio.all_tasks(loop) == set()

    def test_generic(self, parity):
        def body(case):
            alias = case.classes.Task[str]
            case(alias.__origin__ is case.classes.Task, alias.__args__)

        parity(body)

    def test_what_a_future_can_and_a_task_cannot(self, parity):
        def body(case):
            task = case.loop.create_task(nothing())
            case.raised(task.set_result, 1)
            case.raised(task.set_exception, ValueError())
            case(task.done())
            case.loop.run_until_complete(task)

        parity(body)

    def test_half_private_names(self, parity):
        def body(case):
            coroutine = forever()
            task = case.loop.create_task(coroutine)
            case(task._coro is coroutine, task.get_coro() is coroutine, task._fut_waiter, task._must_cancel)
            case(task._log_destroy_pending)
            turn(case.loop)
            waiter = task._fut_waiter
            case(asyncio.isfuture(waiter), [len(waiter._callbacks), waiter._callbacks[0][0].__self__ is task])
            case(repr(waiter).count("cb=["), neutral(repr(waiter)).count("wakeup()"))
            case(len({callback for callback, _ in waiter._callbacks}))
            task.cancel()
            case(task._must_cancel, task.cancelling(), waiter.cancelled())
            turn(case.loop)
            case(task.cancelled(), task._fut_waiter)
            for name in ["_coro", "_fut_waiter", "_must_cancel"]:
                with pytest.raises(AttributeError):
                    setattr(task, name, None)
            task._log_destroy_pending = False
            case(task._log_destroy_pending)

        parity(body)


class TestNames:
    def test_names(self, parity):
        def body(case):
            numbered = [case.loop.create_task(nothing()) for _ in range(2)]
            first, second = (int(task.get_name().removeprefix("Task-")) for task in numbered)
            case(second - first)
            named = case.loop.create_task(nothing(), name="given")
            case(named.get_name())
            named.set_name("later")
            case(named.get_name())
            named.set_name(12)
            case(named.get_name(), case.loop.create_task(nothing(), name=("t",)).get_name())
            turn(case.loop)

        parity(body)

    def test_a_name_whose_str_fails(self, loop, exceptions):
        class Bad:
            def __str__(self):
                raise ZeroDivisionError("no name")

        coroutine = nothing()
        with pytest.raises(ZeroDivisionError):
            loop.create_task(coroutine, name=Bad())
        coroutine.close()
        # asyncio reports a pending task; ferrio's was none yet.
        exceptions.take()
        task = loop.create_task(nothing(), name="name")
        with pytest.raises(ZeroDivisionError):
            task.set_name(Bad())
        assert task.get_name() == "name"
        loop.run_until_complete(task)


class TestRepr:
    def test_states(self, parity):
        def body(case):
            async def fails():
                raise ValueError("e")

            async def returns():
                return 3

            for coroutine in [forever(), fails(), returns()]:
                task = case.loop.create_task(coroutine, name="n")
                case(neutral(repr(task)))
                turn(case.loop)
                case("wait_for" in repr(task), neutral(repr(task)).split(" wait_for")[0])
                case(task.cancel("m"))
                case(neutral(repr(task)).split(" wait_for")[0])
                turn(case.loop)
                case(neutral(repr(task)))
                case(case.loop.run_until_complete(outcome(task)))

        parity(body)


class TestStacks:
    def test_get_stack(self, parity):
        async def inner():
            await asyncio.get_running_loop().create_future()

        async def outer():
            await inner()

        def body(case):
            task = case.loop.create_task(outer())
            case([frame.f_code.co_name for frame in task.get_stack()])
            turn(case.loop)
            case([frame.f_code.co_name for frame in task.get_stack()])
            case(len(task.get_stack(limit=1)), task.get_stack(limit=0))
            task.cancel()
            turn(case.loop)
            case(task.get_stack())

        parity(body)

    def test_print_stack(self, parity):
        async def fails():
            raise ValueError("printed")

        def body(case):
            for coroutine in [fails(), forever()]:
                task = case.loop.create_task(coroutine, name="n")
                for _ in range(2):
                    output = io.StringIO()
                    task.print_stack(file=output, limit=3)
                    case(neutral(output.getvalue()).split(" wait_for")[0])
                    turn(case.loop)
                case([frame.f_code.co_name for frame in task.get_stack()])
                task.cancel()
                case(case.loop.run_until_complete(outcome(task)))

        parity(body)


class TestEnds:
    @pytest.mark.parametrize("error", [ValueError, GeneratorExit, asyncio.CancelledError, asyncio.TimeoutError])
    def test_what_the_coroutine_raises(self, parity, error):
        def body(case):
            async def fails():
                raise error("raised")

            task = case.loop.create_task(fails())
            turn(case.loop)
            case(task.done(), task.cancelled(), task._log_traceback)
            case.raised(task.result)
            case.raised(task.exception)

        parity(body)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_what_leaves_the_loop(self, parity, error):
        def body(case):
            async def fails():
                raise error("raised")

            task = case.loop.create_task(fails())
            task.add_done_callback(lambda task: case("told"))
            case.raised(turn, case.loop)
            case(task.done(), describe(task.exception()))
            turn(case.loop)

        parity(body)

    def test_destroyed_while_pending(self, parity):
        """A foreign loop keeps no task: its end is reported, by subclasses as well."""

        def body(case):
            class Loop:
                def get_debug(self):
                    return False

                def is_running(self):
                    return False

                def call_soon(self, callback, *args, context=None):
                    pass

                def call_exception_handler(self, context):
                    case(sorted(context), context["message"], type(context["task"]).__name__)

            class Own(case.classes.Task):
                pass

            for make in [case.classes.Task, Own]:
                coroutine = nothing()
                task = make(coroutine, loop=Loop())
                del task
                gc.collect()
                coroutine.close()
            coroutine = nothing()
            task = case.classes.Task(coroutine, loop=Loop())
            task._log_destroy_pending = False
            coroutine.close()

        parity(body)

    def test_never_retrieved(self, parity):
        def body(case):
            async def fails():
                raise ValueError("lost")

            case.loop.create_task(fails())
            turn(case.loop)
            gc.collect()

        assert parity(body)[1] == [("Task exception was never retrieved", ("ValueError", "lost"))]

    @pytest.mark.ferrio_only("asyncio loses tasks that nobody keeps")
    def test_nobody_else_keeps_it(self, loop):
        """An unfinished task lives though nothing refers to it; a finished one does not."""
        reference = weakref.ref(loop.create_task(forever()))
        turn(loop)
        gc.collect()
        assert reference() is not None
        reference().cancel()
        turn(loop)
        assert reference() is None

    def test_finished_tasks_are_freed_at_once(self, parity):
        def body(case):
            async def holds(thing):
                await asyncio.sleep(0)

            class Thing:
                def __del__(self):
                    case("dropped")

            task = case.loop.create_task(holds(Thing()))
            case.loop.run_until_complete(task)
            case("done")
            reference = weakref.ref(task)
            del task
            case(reference())

        parity(body)

    def test_a_cycle_with_a_pending_task(self, loop):
        async def waits():
            await future

        future = loop.create_future()
        task = loop.create_task(waits())
        turn(loop)
        future.task = task
        references = [weakref.ref(task), weakref.ref(future)]
        task.cancel()
        turn(loop)
        task = future = None
        gc.collect()
        assert [reference() for reference in references] == [None, None]


class TestSubclasses:
    def test_overridden_methods(self, parity):
        def body(case):
            class Own(case.classes.Task):
                def cancel(self, msg=None):
                    case("cancel", msg)
                    return super().cancel(msg)

                def add_done_callback(self, fn, *, context=None):
                    case("add")
                    super().add_done_callback(fn, context=context)

                def result(self):
                    case("result")
                    return super().result()

            async def waits(other):
                await other

            inner = Own(forever(), loop=case.loop)
            outer = case.loop.create_task(waits(inner))
            turn(case.loop, 2)
            outer.cancel("down")
            turn(case.loop, 3)
            case(inner.cancelled(), outer.cancelled())

        parity(body)

    def test_del(self, parity):
        def body(case):
            class Own(case.classes.Task):
                def __del__(self):
                    case("del", self.done())
                    super().__del__()

            task = Own(nothing(), loop=case.loop)
            case.loop.run_until_complete(task)
            del task
            gc.collect()

        parity(body)

    def test_attributes(self, parity):
        def body(case):
            task = case.loop.create_task(nothing())
            task.anything = 1
            case(task.anything, weakref.ref(task)() is task)
            case.loop.run_until_complete(task)

        parity(body)


class TestMixing:
    """Futures and tasks of asyncio and of ferrio on one loop."""

    @pytest.mark.parametrize("waiting", [asyncio.Task, ferrio.Task], ids=["theirs", "ours"])
    @pytest.mark.parametrize("awaited", [asyncio.Future, ferrio.Future], ids=["theirs", "ours"])
    @pytest.mark.parametrize("how", ["result", "exception", "cancel", "cancel the task"])
    def test_awaiting(self, loop, waiting, awaited, how):
        async def waits():
            return await outcome(future)

        future = awaited(loop=loop)
        task = waiting(waits(), loop=loop)
        turn(loop)
        assert task._fut_waiter is future
        if how == "result":
            future.set_result(5)
        elif how == "exception":
            future.set_exception(ValueError("e"))
        elif how == "cancel":
            future.cancel("m")
        else:
            assert task.cancel("m")
            assert future.cancelled()
        assert not future._asyncio_future_blocking
        expected = {"result": 5, "exception": ("ValueError", "e")}.get(how, ("CancelledError", "m"))
        assert loop.run_until_complete(task) == expected

    @pytest.mark.parametrize("outer", [asyncio.Task, ferrio.Task], ids=["theirs", "ours"])
    @pytest.mark.parametrize("inner", [asyncio.Task, ferrio.Task], ids=["theirs", "ours"])
    def test_current_task(self, loop, outer, inner):
        async def look():
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())

        async def main():
            task = inner(look(), loop=loop)
            await task
            assert seen == [task, task]
            assert asyncio.current_task() is own

        seen = []
        own = outer(main(), loop=loop)
        loop.run_until_complete(own)
        assert asyncio.current_task(loop) is None

    @pytest.mark.parametrize("task_class", [asyncio.Task, ferrio.Task], ids=["theirs", "ours"])
    def test_all_tasks(self, loop, task_class):
        tasks = {task_class(forever(), loop=loop) for _ in range(3)}
        assert asyncio.all_tasks(loop) == tasks
        for task in tasks:
            task.cancel()
        turn(loop)
        assert asyncio.all_tasks(loop) == set()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks since Python 3.12")
class TestEagerStart:
    def test_order(self, parity):
        async def body(case):
            async def steps(name):
                case(name, "begins", asyncio.current_task().get_name())
                await asyncio.sleep(0)
                case(name, "ends")

            tasks = [
                case.classes.Task(steps(name), loop=case.loop, name=name, eager_start=eager)
                for name, eager in [("a", True), ("b", False), ("c", True)]
            ]
            case("made", asyncio.current_task() not in tasks)
            await asyncio.gather(*tasks)

        parity(body)

    def test_ends_at_once(self, parity):
        async def body(case):
            async def returns():
                return 1

            async def fails():
                raise ValueError("e")

            async def cancelled():
                raise asyncio.CancelledError("c")

            for make in [returns, fails, cancelled]:
                task = case.classes.Task(make(), loop=case.loop, eager_start=True)
                task.add_done_callback(lambda task: case("told"))
                case(task.done(), task in asyncio.all_tasks())
                case(await outcome(task))

        parity(body)

    @pytest.mark.ferrio_only("of Python 3.12 it crashes the interpreter")
    def test_an_ended_one_has_no_coroutine(self, loop):
        async def main():
            return ferrio.Task(nothing(), loop=loop, eager_start=True).get_coro()

        assert loop.run_until_complete(main()) is None

    def test_leaves_the_loop(self, parity):
        def body(case):
            async def leaves():
                raise SystemExit("out")

            async def main():
                case.classes.Task(leaves(), loop=case.loop, eager_start=True)

            case.raised(case.loop.run_until_complete, main())

        parity(body)

    def test_outside_of_a_running_loop(self, parity):
        def body(case):
            async def step():
                case("step")

            try:
                task = case.classes.Task(step(), loop=case.loop, eager_start=True)
            except RuntimeError as error:
                case(describe(error))
            else:
                case("made")
                case.loop.run_until_complete(task)

        parity(body)
