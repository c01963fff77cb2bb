"""The call graph: who awaits whom, on every Python."""

import asyncio
import dataclasses
import io
import sys

import pytest

import ferrio


def shape(graph):
    """The graph as names: the future's, the functions', and those of who awaits it."""
    future = graph.future
    name = future.get_name() if isinstance(future, asyncio.Task) else "future"
    # Without ferrio's coroutines. On Python 3.11 such a one is awaited by one of Python's.
    codes = [entry.frame.f_code for entry in graph.call_stack]
    stack = [code.co_name for code in codes if code.co_filename != "<ferrio>" and code.co_name != "wait"]
    return name, stack, sorted(shape(parent) for parent in graph.awaited_by)


async def leaf(future):
    await future


async def gathering(task):
    await ferrio.gather(task)


async def gathering_coroutines(task):
    await ferrio.gather(task, ferrio.sleep(0))


async def shielding(task):
    await ferrio.shield(task)


async def waiting(task):
    await ferrio.wait([task])


async def completing(task):
    async for _ in ferrio.as_completed([task]):
        pass


async def completing_results(task):
    for earliest in ferrio.as_completed([task]):
        await earliest


async def awaiting(task):
    await task


AWAITERS = [awaiting, gathering, gathering_coroutines, shielding, waiting, completing, completing_results]


@pytest.mark.parametrize("awaiter", AWAITERS)
@pytest.mark.parametrize("factory", [ferrio.new_event_loop, asyncio.new_event_loop])
def test_edges(awaiter, factory):
    """Every way to wait for a task shows while it lasts, and leaves no edge."""

    async def main():
        future = asyncio.get_running_loop().create_future()
        task = ferrio.Task(leaf(future), loop=asyncio.get_running_loop(), name="leaf")
        parent = ferrio.Task(awaiter(task), loop=asyncio.get_running_loop(), name="parent")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert shape(ferrio.capture_call_graph(task)) == ("leaf", ["leaf"], [("parent", [awaiter.__name__], [])])
        future.set_result(None)
        await parent
        assert shape(ferrio.capture_call_graph(task)) == ("leaf", [], [])

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_a_cancelled_wait_leaves_no_edge():
    async def main():
        task = asyncio.get_running_loop().create_task(leaf(asyncio.get_running_loop().create_future()))
        parents = [asyncio.get_running_loop().create_task(awaiter(task)) for awaiter in (shielding, waiting)]
        await asyncio.sleep(0)
        for parent in parents:
            parent.cancel()
        await asyncio.wait(parents)
        assert ferrio.capture_call_graph(task).awaited_by == ()
        task.cancel()

    ferrio.run(main())


def test_children_that_outlive_their_gathering():
    async def fail():
        raise KeyError

    async def main():
        loop = asyncio.get_running_loop()
        survivor = loop.create_task(leaf(loop.create_future()))
        with pytest.raises(KeyError):
            await ferrio.gather(survivor, fail())
        assert ferrio.capture_call_graph(survivor).awaited_by == ()
        survivor.cancel()

    ferrio.run(main())


def test_the_current_task():
    def function():
        return ferrio.capture_call_graph()

    async def inner():
        return function()

    async def main():
        return await inner()

    async def limited():
        all_of_it = ferrio.capture_call_graph(), ferrio.capture_call_graph(depth=-sys.maxsize - 1)
        graphs = *all_of_it, ferrio.capture_call_graph(limit=0), ferrio.capture_call_graph(limit=1)
        return [len(graph.call_stack) for graph in graphs]

    async def parent():
        return await asyncio.get_running_loop().create_task(main(), name="main")

    loop = ferrio.new_event_loop()
    graph = loop.run_until_complete(loop.create_task(parent(), name="parent"))
    assert shape(graph) == ("main", ["function", "inner", "main"], [("parent", ["parent"], [])])
    assert loop.run_until_complete(limited()) == [1, 1, 0, 1]
    loop.close()


def test_a_limit():
    async def main():
        async def third():
            await asyncio.get_running_loop().create_future()

        async def second():
            await third()

        async def first():
            await second()

        task = asyncio.get_running_loop().create_task(first(), name="task")
        await asyncio.sleep(0)
        stacks = [shape(ferrio.capture_call_graph(task, limit=limit))[1] for limit in (None, 2, -2, 0)]
        assert stacks == [["third", "second", "first"], ["second", "first"], ["third", "second"], []]
        task.cancel()

    ferrio.run(main())


def test_text():
    async def main():
        loop = asyncio.get_running_loop()
        task = loop.create_task(leaf(loop.create_future()), name="leaf")
        parent = loop.create_task(awaiting(task), name="parent")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        file = io.StringIO()
        ferrio.print_call_graph(task, file=file)
        parent.cancel()
        return task, file.getvalue(), parent

    task, text, parent = ferrio.run(main())
    lines = text.splitlines()
    assert lines[0] == f"* Task(name='leaf', id={id(task):#x})"
    assert lines[1] == "  + Call stack:"
    assert lines[2].startswith(f"  |   File {__file__!r}, line ")
    assert lines[2].endswith(", in async leaf()")
    assert lines[3:5] == ["  + Awaited by:", f"    * Task(name='parent', id={id(parent):#x})"]


def test_what_is_no_future():
    with pytest.raises(TypeError, match="1 object does not appear to be compatible with asyncio.Future"):
        ferrio.capture_call_graph(1)
    with pytest.raises(RuntimeError, match="outside of a running event loop"):
        ferrio.capture_call_graph()


def test_a_circle_is_a_recursion_error():
    async def main():
        first, second = ferrio.Future(), ferrio.Future()
        ferrio.future_add_to_awaited_by(first, second)
        ferrio.future_add_to_awaited_by(second, first)
        with pytest.raises(RecursionError):
            ferrio.capture_call_graph(first)

    ferrio.run(main())


def test_entries_are_dataclasses():
    assert [field.name for field in dataclasses.fields(ferrio.FutureCallGraph)] == [
        "future",
        "call_stack",
        "awaited_by",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ferrio.FrameCallGraphEntry(None).frame = 1


@pytest.mark.skipif(not hasattr(asyncio, "capture_call_graph"), reason="asyncio has a call graph since Python 3.14")
@pytest.mark.parametrize("factory", [ferrio.new_event_loop, asyncio.new_event_loop])
def test_asyncios_own_helpers_are_edges(factory):
    """A program of asyncio's, on ferrio's loop alone: its groups and gatherings show in its call graph."""

    async def grouping(coroutine):
        async with asyncio.TaskGroup() as group:
            group.create_task(coroutine, name="inner")

    async def gathering(coroutine):
        await asyncio.gather(asyncio.create_task(coroutine, name="outer"))

    async def main():
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(gathering(grouping(leaf(future))), name="parent")
        for _ in range(4):
            await asyncio.sleep(0)
        (inner,) = shape(asyncio.capture_call_graph(future))[2]
        (outer,) = inner[2]
        assert (inner[0], outer[0], outer[2]) == ("inner", "outer", [("parent", ["gathering"], [])])
        future.set_result(None)
        await task

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.mark.skipif(not hasattr(asyncio.futures, "_py_future_add_to_awaited_by"), reason="asyncio has it since 3.14")
@pytest.mark.parametrize("awaiter", [gathering, shielding, waiting, completing])
def test_tasks_that_are_written_in_python(awaiter):
    """Some programs put asyncio's in the place of its others, to look inside."""

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        task = asyncio.tasks._PyTask(leaf(future), loop=loop, name="leaf")
        parent = asyncio.tasks._PyTask(awaiter(task), loop=loop, name="parent")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task._asyncio_awaited_by == {parent}
        future.set_result(None)
        await parent
        assert not task._asyncio_awaited_by

    with asyncio.Runner(loop_factory=ferrio.new_event_loop) as runner:
        runner.run(main())
