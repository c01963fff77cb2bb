"""`create_task` and task factories: what a factory is given, what it may return, and eager tasks on every Python."""

import asyncio
import contextvars
import gc
import inspect
import weakref
from collections.abc import Coroutine

import pytest
from support.case import describe
from support.loops import since, turn

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


# Before, asyncio's loops set the name of what the factory has made.
NAMED = pytest.mark.asyncio_since("3.14", "factories that are given the name")


async def nothing():
    pass


async def value(result):
    await asyncio.sleep(0)
    return result


def test_setting_one(parity):
    def body(case):
        case(case.loop.get_task_factory())
        for wrong in (1, "factory", []):
            case.raised(case.loop.set_task_factory, wrong)
        factory = lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs)  # noqa: E731
        case(case.loop.set_task_factory(factory), case.loop.get_task_factory() is factory)
        case(case.loop.set_task_factory(None), case.loop.get_task_factory())

    events, _ = parity(body)
    assert events[1] == ("TypeError", "task factory must be a callable or None")


@NAMED
def test_what_it_is_given(parity):
    """The loop, the coroutine itself, and the keywords; its task is what `create_task` returns, untouched."""

    def body(case):
        made = []

        def factory(loop, coro, **kwargs):
            case(loop is case.loop, coro is coroutine, sorted(kwargs))
            made.append(asyncio.Task(coro, loop=loop, **kwargs))
            return made[-1]

        case.loop.set_task_factory(factory)
        coroutine = value(1)
        task = case.loop.create_task(coroutine, name="name", context=contextvars.copy_context())
        case(task is made[0], task.get_name(), case.loop.run_until_complete(task))

    events, _ = parity(body)
    assert events[0] == (True, True, ["context", "name"])
    assert events[1] == (True, "name", 1)


@pytest.mark.asyncio_since("3.14", "keywords that are handed on as they are")
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"name": None},
        {"name": "given"},
        {"context": None},
        {"eager_start": None},
        {"eager_start": False},
        {"anything": 1, "else": 2},
        {"name": "given", "anything": None},
    ],
    ids=str,
)
def test_keywords(parity, keywords):
    """Every keyword that the caller gives, and no other."""

    def body(case):
        def factory(loop, coro, **kwargs):
            case({key: str(kwargs[key]) for key in sorted(kwargs)})
            coro.close()
            return "no task"

        case.loop.set_task_factory(factory)
        case(case.loop.create_task(nothing(), **keywords))

    parity(body)


@NAMED
@pytest.mark.parametrize("result", [None, 7, "task", ()], ids=repr)
def test_whatever_it_returns(parity, result):
    def body(case):
        def factory(loop, coro, **kwargs):
            coro.close()
            return result

        case.loop.set_task_factory(factory)
        case(case.loop.create_task(nothing()) is result)

    assert parity(body)[0] == [True]


def test_it_fails(parity):
    def body(case):
        def factory(loop, coro, **kwargs):
            raise ZeroDivisionError("no task today")

        case.loop.set_task_factory(factory)
        coroutine = nothing()
        case.raised(case.loop.create_task, coroutine)
        case(inspect.getcoroutinestate(coroutine))
        coroutine.close()

    assert parity(body)[0] == [("ZeroDivisionError", "no task today"), "CORO_CREATED"]


def test_a_factory_that_knows_no_keywords(parity):
    """It serves calls without keywords; others fail in its own words."""

    def body(case):
        case.loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
        case(case.loop.run_until_complete(case.loop.create_task(value(1))))
        coroutine = nothing()
        try:
            case.loop.create_task(coroutine, context=contextvars.copy_context())
        except TypeError as error:
            case("unexpected keyword argument 'context'" in str(error))
        coroutine.close()

    assert parity(body)[0] == [1, True]


@NAMED
def test_a_duck(parity):
    """A factory may return any future; who awaits it gets along with it."""

    async def body(case):
        loop = asyncio.get_running_loop()

        def factory(loop, coro, **kwargs):
            coro.close()
            future = loop.create_future()
            loop.call_soon(future.set_result, "from a future")
            return future

        loop.set_task_factory(factory)
        case(await loop.create_task(nothing()))
        case(await asyncio.gather(nothing(), nothing()))
        loop.set_task_factory(None)

    assert parity(body)[0] == ["from a future", ["from a future"] * 2]


def test_everything_that_makes_tasks_asks_it(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        made = []

        def factory(loop, coro, **kwargs):
            made.append(coro.__qualname__)
            return asyncio.Task(coro, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        await asyncio.create_task(value(1))
        await asyncio.ensure_future(value(1))
        await asyncio.gather(value(1), value(2))
        async with asyncio.TaskGroup() as group:
            group.create_task(value(1))
        await asyncio.wait_for(value(1), 10)
        await asyncio.shield(value(1))
        loop.set_task_factory(None)
        case(made.count("value"))

    events, _ = parity(body)
    assert events[0] >= 6


@NAMED
def test_subclasses_of_task(parity):
    class Named(asyncio.Task):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = "extra"

        def set_name(self, value):
            super().set_name(f"<{value}>")

    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **kwargs: Named(coro, loop=loop, **kwargs))
        task = asyncio.create_task(value(3), name="name")
        case(type(task).__name__, task.extra, task.get_name(), await task)
        loop.set_task_factory(None)

    events, _ = parity(body)
    assert events[0][:2] == ("Named", "extra")
    assert events[0][3] == 3


class TestCreateTask:
    """Without a factory."""

    @pytest.mark.parametrize("wrong", [None, 7, int, nothing, "coroutine"], ids=str)
    def test_what_is_no_coroutine(self, parity, wrong):
        def body(case):
            case.raised(case.loop.create_task, wrong)

        events, _ = parity(body)
        assert events[0][0] == "TypeError"
        assert events[0][1].startswith("a coroutine was expected, got ")

    @pytest.mark.ferrio_only("asyncio makes the task, whose every step fails")
    def test_what_is_no_context(self, parity):
        def body(case):
            coroutine = nothing()
            case.raised(case.loop.create_task, coroutine, context="context")
            coroutine.close()

        assert parity(body)[0][0][0] == "TypeError"

    def test_names(self, parity):
        async def body(case):
            class Text:
                def __str__(self):
                    return "text"

            loop = asyncio.get_running_loop()
            for name in ("given", 7, Text(), "", ("a",)):
                task = loop.create_task(nothing(), name=name)
                case(task.get_name(), type(task.get_name()).__name__)
                await task
            task = loop.create_task(nothing(), name=None)
            case(task.get_name().startswith("Task-"), task.get_name() == task.get_name())
            task.set_name(1.5)
            case(task.get_name())
            await task

        assert parity(body)[0][0] == ("given", "str")

    def test_a_name_that_fails(self, parity):
        def body(case):
            class Nameless:
                def __str__(self):
                    raise ZeroDivisionError("no name")

            coroutine = nothing()
            case.raised(case.loop.create_task, coroutine, name=Nameless())
            coroutine.close()
            gc.collect()
            case.errors.take()
            turn(case.loop)

        assert parity(body)[0] == [("ZeroDivisionError", "no name")]

    def test_the_context(self, parity):
        async def body(case):
            async def look():
                seen = VARIABLE.get()
                VARIABLE.set("changed")
                return seen

            VARIABLE.set("outer")
            case(await asyncio.create_task(look()), VARIABLE.get())
            context = contextvars.copy_context()
            context.run(VARIABLE.set, "given")
            case(await asyncio.create_task(look(), context=context), VARIABLE.get(), context[VARIABLE])

        assert parity(body)[0] == [("outer", "outer"), ("given", "outer", "changed")]

    def test_an_unknown_keyword(self, loop):
        coroutine = nothing()
        with pytest.raises(TypeError, match="unexpected keyword argument|invalid keyword argument"):
            loop.create_task(coroutine, unknown=1)
        coroutine.close()

    @pytest.mark.skipif(not since(3, 12), reason="before Python 3.12 a generator counts as a coroutine")
    def test_a_generator_is_no_coroutine(self, parity):
        def body(case):
            case.raised(case.loop.create_task, (n for n in ()))

        assert parity(body)[0][0][0] == "TypeError"

    def test_anything_that_behaves_like_a_coroutine(self, parity):
        class Own(Coroutine):
            def __init__(self):
                self.steps = 0

            def send(self, value):
                self.steps += 1
                if self.steps == 3:
                    raise StopIteration("own")

            def throw(self, *args):
                raise args[0]

            def close(self):
                pass

            def __await__(self):
                return self

        async def body(case):
            case(await asyncio.create_task(Own()))
            task = asyncio.create_task(Own())
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                case(describe(error))

        assert parity(body)[0] == ["own", ("CancelledError", "")]


def create_eagerly(coro, **keywords):
    """`asyncio.create_task` has no such keyword before Python 3.14."""
    return asyncio.get_running_loop().create_task(coro, eager_start=True, **keywords)


EAGER = pytest.mark.asyncio_since("3.14", "eager_start in create_task")


@EAGER
class TestEager:
    """`eager_start=True`: the coroutine runs at once, inside `create_task`, up to its first wait."""

    def test_up_to_the_first_wait(self, parity):
        async def body(case):
            async def child():
                case("child runs", asyncio.current_task() is parent, asyncio.current_task().get_name())
                await asyncio.sleep(0)
                case("child goes on")

            parent = asyncio.current_task()
            task = create_eagerly(child(), name="child")
            case("created", task.done(), asyncio.current_task() is parent)
            await task

        events, _ = parity(body)
        assert events == [
            ("child runs", False, "child"),
            ("created", False, True),
            "child goes on",
        ]

    @EAGER
    def test_what_ends_in_it_can_be_looked_at(self, parity):
        """It has no coroutine any more, which asyncio's own helpers do not expect on Python 3.11."""

        async def ends(how):
            if isinstance(how, BaseException):
                raise how
            return how

        async def body(case):
            for how in (1, ValueError("no"), asyncio.CancelledError()):
                task = create_eagerly(ends(how), name="child")
                case(repr(task), task.get_coro(), [frame.f_code.co_name for frame in task.get_stack()])
                await asyncio.gather(task, return_exceptions=True)

        recorded, _ = parity(body)
        assert recorded[0] == ("<Task finished name='child' result=1>", None, [])

    def test_to_the_end(self, parity):
        async def body(case):
            task = create_eagerly(nothing())
            case(task.done(), task.result(), task.get_coro(), task in asyncio.all_tasks())
            case(await task)

        assert parity(body)[0] == [(True, None, None, False), None]

    def test_it_fails_at_once(self, parity):
        async def body(case):
            async def fails():
                raise ZeroDivisionError("at once")

            task = create_eagerly(fails())
            case(task.done(), describe(task.exception()))

        assert parity(body) == ([(True, ("ZeroDivisionError", "at once"))], [])

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_it_leaves_at_once(self, parity, error):
        def body(case):
            async def leaves():
                raise error("leaves")

            async def main():
                create_eagerly(leaves())

            case.raised(case.loop.run_until_complete, main())
            case(case.loop.is_running(), asyncio.current_task(case.loop))

        parity(body)

    def test_a_loop_that_does_not_run(self, parity):
        """There is nothing to be eager in: it is queued."""

        def body(case):
            async def child():
                case("runs")

            task = case.loop.create_task(child(), eager_start=True)
            case("created")
            case.loop.run_until_complete(task)

        assert parity(body)[0] == ["created", "runs"]

    def test_the_context(self, parity):
        async def body(case):
            async def child():
                case(VARIABLE.get())
                VARIABLE.set("by the child")
                await asyncio.sleep(0)
                case(VARIABLE.get())

            VARIABLE.set("of the parent")
            task = create_eagerly(child())
            case(VARIABLE.get())
            await task
            context = contextvars.copy_context()
            context.run(VARIABLE.set, "given")
            await create_eagerly(child(), context=context)
            case(context[VARIABLE], VARIABLE.get())

        events, _ = parity(body)
        assert events[:3] == ["of the parent", "of the parent", "by the child"]

    def test_eager_inside_eager(self, parity):
        async def body(case):
            async def child(depth):
                case("in", depth, asyncio.current_task().get_name())
                if depth:
                    task = create_eagerly(child(depth - 1), name=f"child {depth - 1}")
                    await task
                else:
                    await asyncio.sleep(0)
                case("out", depth, asyncio.current_task().get_name())

            await create_eagerly(child(3), name="child 3")

        events, _ = parity(body)
        assert [event[:2] for event in events] == [("in", n) for n in (3, 2, 1, 0)] + [("out", n) for n in (0, 1, 2, 3)]

    def test_cancelled_where_it_waits(self, parity):
        async def body(case):
            async def child():
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError as error:
                    case(describe(error))
                    raise

            task = create_eagerly(child())
            case(task.cancel("reason"))
            try:
                await task
            except asyncio.CancelledError:
                case(task.cancelled())

        assert parity(body)[0] == [True, ("CancelledError", "reason"), True]

    def test_it_cancels_itself(self, parity):
        async def body(case):
            async def child(waits):
                asyncio.current_task().cancel()
                if waits:
                    await asyncio.sleep(0)
                return "returned"

            for waits in (False, True):
                task = create_eagerly(child(waits))
                case(task.done())
                results = await asyncio.gather(task, return_exceptions=True)
                case([describe(r) if isinstance(r, BaseException) else r for r in results], task.cancelled())

        parity(body)


@pytest.mark.skipif(not since(3, 12), reason="asyncio has eager_task_factory since Python 3.12")
def test_the_eager_task_factory_of_asyncio(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)

        async def child():
            case("child")

        task = asyncio.create_task(child(), name="eager")
        case("created", task.done(), task.get_name())
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            case("in the group")
        loop.set_task_factory(None)

    assert parity(body)[0] == ["child", ("created", True, "eager"), "child", "in the group"]


@pytest.mark.asyncio_since("3.14", "factories of what has no name")
def test_the_loop_does_not_keep_what_a_factory_made(loop):
    """A factory's own future is its own affair."""

    def factory(loop, coro, **kwargs):
        coro.close()
        return loop.create_future()

    loop.set_task_factory(factory)
    gone = weakref.ref(loop.create_task(nothing()))
    assert gone() is None
