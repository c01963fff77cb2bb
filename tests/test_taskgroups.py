"""`TaskGroup`. How groups and other scopes meet is in parity/test_scopes.py."""

import asyncio
import contextvars
import inspect
import weakref

import pytest
from support.case import describe, neutral
from support.loops import since, turn

import ferrio


async def forever():
    await asyncio.get_running_loop().create_future()


async def value(result):
    await asyncio.sleep(0)
    return result


async def fail(error):
    raise error


def closed(coroutine):
    return coroutine.cr_frame is None


def test_the_group_ends_with_its_last_child(parity):
    async def body(case):
        async def parent(group):
            await asyncio.sleep(0)
            case("one more", repr(group))
            group.create_task(value(2))

        async with case.classes.TaskGroup() as group:
            case(repr(group))
            child = group.create_task(value(1))
            group.create_task(parent(group))
            case(repr(group))
        case(child.result(), repr(group))

    parity(body)


@pytest.mark.asyncio_since("3.13", "that a refused coroutine is closed")
def test_what_create_task_refuses(parity):
    async def body(case):
        def refused(group):
            case.raised(group.create_task, coroutine := value(1))
            case(closed(coroutine))

        refused(case.classes.TaskGroup())
        async with case.classes.TaskGroup() as group:
            pass
        refused(group)
        try:
            async with case.classes.TaskGroup() as group:
                group.create_task(fail(ValueError("child")))
                try:
                    await forever()
                finally:
                    refused(group)
        except ExceptionGroup as error:
            case(describe(error), asyncio.current_task().cancelling())

    parity(body)


def test_what_entering_refuses(parity):
    async def body(case):
        async with case.classes.TaskGroup() as group:
            case.raised(group.__aenter__().send, None)
        coroutine = case.classes.TaskGroup().__aenter__()
        case.loop.call_soon(lambda: case.raised(coroutine.send, None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    parity(body)


def test_wrong_arguments(parity):
    async def body(case):
        def types(function, *args, **keywords):
            with pytest.raises(TypeError):
                function(*args, **keywords)
            case("TypeError")

        types(case.classes.TaskGroup, 1)
        async with case.classes.TaskGroup() as group:
            types(group.create_task)
            coroutine = value(1)
            types(group.create_task, coroutine, "name")
            coroutine.close()
            types(group.create_task, 3)

    parity(body)


@pytest.mark.asyncio_since("3.14", "any keyword")
def test_the_keywords_of_create_task_are_the_loops(parity):
    variable = contextvars.ContextVar("variable", default="outside")

    async def body(case):
        async def look():
            return variable.get()

        context = contextvars.copy_context()
        context.run(variable.set, "inside")
        async with case.classes.TaskGroup() as group:
            named = group.create_task(look(), name="a name", context=context)
            by_name = group.create_task(coro=look())
        case(named.get_name(), named.result(), by_name.result())
        given = []

        def factory(loop, coro, **keywords):
            given.append(keywords)
            return case.classes.Task(coro, loop=loop)

        case.loop.set_task_factory(factory)
        async with case.classes.TaskGroup() as group:
            group.create_task(look(), name="n")
        case([{**keywords, "context": None} for keywords in given])

    parity(body)


@pytest.mark.asyncio_since("3.14", "the keywords of eager tasks")
@pytest.mark.parametrize("result", ["value", "failure"])
def test_a_child_that_ends_eagerly(parity, result):
    async def body(case):
        async def ends():
            if result == "failure":
                raise ValueError("eager")
            return result

        try:
            async with case.classes.TaskGroup() as group:
                child = group.create_task(ends(), eager_start=True)
                case(child.done(), repr(group))
                await asyncio.sleep(0)
                case("after a turn")
                await asyncio.sleep(0)
        except ExceptionGroup as error:
            case(describe(error), describe(error.exceptions[0]))

    parity(body)


def test_the_failures_in_the_order_in_which_they_came(parity):
    async def body(case):
        async def late(number):
            try:
                await forever()
            finally:
                raise ValueError(number)

        try:
            async with case.classes.TaskGroup() as group:
                group.create_task(late(1))
                await asyncio.sleep(0)
                group.create_task(fail(KeyError("first")))
                await forever()
        except BaseExceptionGroup as error:
            case(type(error).__name__, str(error), [describe(one) for one in error.exceptions])
            case(error.__cause__, error.__suppress_context__)

    parity(body)


def test_a_base_exception_that_is_not_the_loops(parity):
    async def body(case):
        class Odd(BaseException):
            pass

        try:
            async with case.classes.TaskGroup() as group:
                group.create_task(forever())
                await asyncio.sleep(0)
                raise Odd("body")
        except BaseExceptionGroup as error:
            case(type(error).__name__, [describe(one) for one in error.exceptions])

    parity(body)


def test_the_last_child_fails_after_the_parent_is_told_to_end(parity):
    """The exit waits on, and what was cancelled from outside is cancelled."""

    def body(case):
        async def parent():
            async with case.classes.TaskGroup() as group:
                group.create_task(forever())
                group.create_task(forever())

        task = case.loop.create_task(parent())
        turn(case.loop, 2)
        case(task.cancel("message"))
        turn(case.loop, 5)
        case(task.cancelled(), task.cancelling())
        case.raised(task.result)

    parity(body)


def test_generator_exit_alone_stays_itself(loop):
    """As in asyncio 3.15: an asynchronous generator with a group in it can be closed."""

    async def numbers():
        async with ferrio.TaskGroup() as group:
            group.create_task(forever())
            yield 1

    async def main():
        generator = numbers()
        assert await anext(generator) == 1
        await generator.aclose()
        return len(asyncio.all_tasks())

    assert loop.run_until_complete(main()) == 1


def test_a_subclass(parity):
    async def body(case):
        class Group(case.classes.TaskGroup):
            def __init__(self, limit):
                super().__init__()
                self.limit = limit

            def create_task(self, coro, **keywords):
                case("creates", sorted(keywords))
                return super().create_task(coro, **keywords)

            async def __aexit__(self, *args):
                case("leaves", args)
                return await super().__aexit__(*args)

        async with Group(3) as group:
            child = group.create_task(value("result"), name="name")
        case(type(group).__name__, group.limit, child.result())

    parity(body)


@pytest.mark.asyncio_since("3.14", "the edges of the call graph")
def test_who_waits_for_a_child(parity):
    async def body(case):
        async with case.classes.TaskGroup() as group:
            child = group.create_task(value(1))
            case(child._asyncio_awaited_by == {asyncio.current_task()})
        case(child._asyncio_awaited_by)

    parity(body)


def test_the_callbacks_of_a_child(loop):
    """The group is among them, and others come and go beside it."""

    async def main():
        called = []
        async with ferrio.TaskGroup() as group:
            child = group.create_task(value(1))
            assert len(child._callbacks) == 1
            child.add_done_callback(called.append)
            child.add_done_callback(print)
            assert child.remove_done_callback(print) == 1
            assert len(child._callbacks) == 2
        return called == [child]

    assert loop.run_until_complete(main())


def test_on_the_loop_and_with_the_tasks_of_asyncio():
    async def main():
        async with ferrio.TaskGroup() as group:
            child = group.create_task(value(1))
            if since(3, 14):
                assert child._asyncio_awaited_by == {asyncio.current_task()}
        assert type(child) is asyncio.Task

        async def group_that_fails():
            async with ferrio.TaskGroup() as group:
                group.create_task(fail(ValueError("child")))
                await forever()

        with pytest.raises(ExceptionGroup, match="unhandled errors in a TaskGroup") as raised:
            await group_that_fails()
        assert describe(raised.value.exceptions[0]) == ("ValueError", "child")
        async with ferrio.TaskGroup() as group:
            group.create_task(forever())
            asyncio.get_running_loop().call_soon(group.cancel)
            await forever()
        assert asyncio.current_task().cancelling() == 0

    asyncio.run(main())


def test_what_asyncio_says_of_it(loop):
    group = ferrio.TaskGroup()
    assert isinstance(group, asyncio.TaskGroup)
    assert weakref.ref(group)() is group
    assert neutral(repr(group)) == "<TaskGroup>"
    assert all(map(inspect.iscoroutinefunction, (ferrio.TaskGroup.__aenter__, ferrio.TaskGroup.__aexit__)))
    assert str(inspect.signature(ferrio.TaskGroup)) == "()"
    assert [*inspect.signature(ferrio.TaskGroup.create_task).parameters] == ["self", "coro", "kwargs"]
