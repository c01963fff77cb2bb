"""No cycles where CPython has none: things go when the last reference goes, without the collector."""

import asyncio
import contextlib
import gc
import logging
import weakref

import pytest
from support.loops import since, turn
from support.scripts import run_script

import ferrio

pytestmark = pytest.mark.every_door


@pytest.fixture(autouse=True)
def no_collector():
    """What is freed in the test is freed by its reference count."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Thing:
    """Something that can be seen to go."""


def test_future(loop):
    future = loop.create_future()
    gone = weakref.ref(future)
    future.add_done_callback(int)
    del future
    assert gone() is None


def test_finished_future_with_callbacks(loop):
    """A callback that refers to its own future is let go with the call."""
    future = loop.create_future()
    gone = weakref.ref(future)
    future.add_done_callback(lambda _, own=future: None)
    future.set_result(None)
    turn(loop)
    del future
    assert gone() is None


def test_finished_task(loop):
    async def body():
        await asyncio.sleep(0)
        return Thing()

    task = loop.create_task(body())
    gone = weakref.ref(task), weakref.ref(loop.run_until_complete(task))
    del task
    assert [ref() for ref in gone] == [None, None]


def test_task_that_waited_for_each_kind(loop):
    """Nothing keeps a task that was woken: not what it waited for, not the loop, not the interpreter."""

    async def body(futures):
        for future in futures:
            await future
        await asyncio.sleep(0.0001)
        await asyncio.sleep(0)

    futures = [loop.create_future(), asyncio.futures._PyFuture(loop=loop), asyncio.Future(loop=loop)]
    task = loop.create_task(body(futures))
    gone = weakref.ref(task)
    for future in futures:
        loop.call_soon(future.set_result, None)
    loop.run_until_complete(task)
    del task
    assert gone() is None


def test_arguments_of_a_finished_task(loop):
    async def body(thing):
        await asyncio.sleep(0)

    thing = Thing()
    gone = weakref.ref(thing)
    task = loop.create_task(body(thing))
    del thing
    loop.run_until_complete(task)
    assert gone() is None


def test_exception_of_a_task(loop):
    """The exception refers to the task's frames, not to the task; the task refers to it."""

    class Failure(Exception):
        pass

    async def body():
        thing = Thing()
        seen.append(weakref.ref(thing))
        raise Failure

    seen = []
    task = loop.create_task(body())
    turn(loop)
    seen.append(weakref.ref(task.exception()))
    seen.append(weakref.ref(task))
    del task
    assert [ref() for ref in seen] == [None] * 3


@pytest.mark.ferrio_only("the frame of asyncio's run_until_complete is in a cycle with the exception")
def test_exception_raised_by_run_until_complete(loop):
    async def body():
        raise Failure

    class Failure(Exception):
        pass

    try:
        loop.run_until_complete(body())
    except Failure as error:
        gone = weakref.ref(error)
    assert gone() is None


def test_exception_through_await(loop):
    """The exception passes from one task to the next, and is kept by none when they are gone."""

    class Failure(Exception):
        pass

    async def inner():
        await asyncio.sleep(0)
        raise Failure

    async def outer():
        try:
            await asyncio.create_task(inner())
        except Failure as error:
            return weakref.ref(error)

    gone = loop.run_until_complete(outer())
    assert gone() is None


def test_exception_of_a_future(loop):
    class Failure(Exception):
        pass

    future = loop.create_future()
    future.set_exception(Failure())
    gone = weakref.ref(future), weakref.ref(future.exception())
    # Here, since the exception keeps the frame that it was raised in, and so what that frame refers to.
    with contextlib.suppress(Failure):
        future.result()
    del future
    assert [ref() for ref in gone] == [None, None]


def test_cancellation(loop):
    async def body():
        thing = Thing()
        seen.append(weakref.ref(thing))
        await loop.create_future()

    seen = []
    task = loop.create_task(body())
    turn(loop)
    task.cancel()
    turn(loop, 2)
    seen.append(weakref.ref(task))
    assert task.cancelled()
    del task
    assert [ref() for ref in seen] == [None, None]


@pytest.mark.asyncio_since("3.13", "no cycle there")
def test_cancellation_that_is_awaited(loop):
    async def inner():
        await loop.create_future()

    async def outer():
        task = loop.create_task(inner())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return weakref.ref(task), weakref.ref(error)

    gone = loop.run_until_complete(outer())
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.ferrio_only("the frame of asyncio's Handle._run is in a cycle with the exception")
def test_exception_in_a_callback(loop, exceptions):
    """The report is the handler's; when that lets it go, all of it goes."""

    class Failure(Exception):
        pass

    def callback(thing):
        raise Failure

    thing = Thing()
    gone = [weakref.ref(thing)]
    loop.call_soon(callback, thing)
    del thing
    turn(loop)
    gone.append(weakref.ref(exceptions.contexts[0]["exception"]))
    exceptions.contexts.clear()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exception_that_leaves_the_loop(loop, error):
    class Leaving(error):
        pass

    def callback():
        raise Leaving

    loop.call_soon(callback)
    try:
        loop.run_forever()
    except Leaving as raised:
        gone = weakref.ref(raised)
    assert gone() is None


def test_handle(loop):
    thing = Thing()
    handle = loop.call_soon(int, 0)
    gone = [weakref.ref(thing), weakref.ref(handle)]
    handle_of_thing = loop.call_soon(type, thing)
    del thing, handle
    turn(loop)
    assert gone[1]() is None
    del handle_of_thing
    assert gone[0]() is None


def test_wait_for_and_timeout(loop):
    async def main():
        future = loop.create_future()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await loop.create_future()
        return weakref.ref(future)

    gone = loop.run_until_complete(main())
    assert gone() is None


@pytest.mark.parametrize("outcome", ["result", "exception", "cancel"])
def test_gather(loop, outcome):
    async def child():
        await asyncio.sleep(0)
        if outcome == "exception":
            raise ValueError
        return "result"

    async def main():
        children = [loop.create_task(child()) for _ in range(3)]
        gathering = asyncio.gather(*children)
        refs = [weakref.ref(task) for task in children] + [weakref.ref(gathering)]
        del children
        await asyncio.sleep(0)
        if outcome == "cancel":
            gathering.cancel()
        try:
            await gathering
        except (ValueError, asyncio.CancelledError):
            # The exception keeps this frame.
            del gathering
        return refs

    refs = loop.run_until_complete(main())
    turn(loop, 2)
    assert [ref() for ref in refs] == [None] * 4


@pytest.mark.skipif(not since(3, 14), reason="asyncio's task group is in a cycle before Python 3.14")
@pytest.mark.skipif(since(3, 15), reason="Python 3.15's own `except*` keeps the group, on either loop")
def test_task_group_that_fails(loop):
    class Failure(Exception):
        pass

    async def child():
        raise Failure

    async def main():
        refs = []
        try:
            async with asyncio.TaskGroup() as group:
                refs.append(weakref.ref(group.create_task(child())))
                refs.append(weakref.ref(group))
        except* Failure as errors:
            refs.append(weakref.ref(errors.exceptions[0]))
        del group
        return refs

    refs = loop.run_until_complete(main())
    turn(loop, 2)
    assert [ref() for ref in refs] == [None] * 3


def test_closed_loop(loop_factory):
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_later(1e6, int)
    loop.call_soon(int)
    gone = weakref.ref(loop)
    loop.close()
    del loop
    assert gone() is None


def test_closed_loop_that_ran_in_a_runner(loop_factory):
    async def main():
        asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(0)
        return weakref.ref(asyncio.get_running_loop())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        gone = runner.run(main())
    del runner
    gc.collect()
    assert gone() is None


class TestPending:
    """Loops that end with work undone."""

    def test_the_loop_keeps_a_task_that_nobody_else_keeps(self, loop, loop_name):
        """asyncio loses it; ferrio does not."""

        async def body():
            await Awaitable()

        class Awaitable:
            def __await__(self):
                # Nobody but the task refers to the future.
                yield from loop.create_future()

        task = loop.create_task(body())
        turn(loop)
        gone = weakref.ref(task)
        task._log_destroy_pending = False
        del task
        gc.collect()
        assert (gone() is None) == (loop_name == "asyncio")
        if task := gone():
            task.cancel()
            turn(loop, 2)
            del task
            assert gone() is None

    def test_a_dropped_loop_says_that_a_task_was_pending(self, loop_factory, caplog):
        loop = loop_factory()
        caplog.set_level(logging.ERROR, "asyncio")

        async def body():
            await loop.create_future()

        task = loop.create_task(body(), name="left behind")
        turn(loop)
        gone = weakref.ref(task), weakref.ref(loop)
        loop.close()
        del loop, task
        # The frame refers to the loop, the loop to the task: it is the collector's.
        gc.collect()
        gc.collect()
        assert [ref() for ref in gone] == [None, None]
        texts = [record.getMessage() for record in caplog.records]
        assert len(texts) == 1
        assert texts[0].startswith("Task was destroyed but it is pending!\ntask: <Task pending name='left behind'")

    def test_a_loop_that_was_not_closed_says_so(self, loop_factory):
        loop = loop_factory()
        turn(loop)
        gone = weakref.ref(loop)
        with pytest.warns(ResourceWarning, match=r"unclosed event loop <.* running=False closed=False debug=False>"):
            del loop
            gc.collect()
        assert gone() is None

    def test_the_same_with_tasks_and_timers(self, loop_factory, caplog):
        caplog.set_level(logging.ERROR, "asyncio")

        async def body():
            await asyncio.sleep(1e6)

        loop = loop_factory()
        tasks = [loop.create_task(body()) for _ in range(10)]
        turn(loop)
        gone = [weakref.ref(loop), *map(weakref.ref, tasks)]
        with pytest.warns(ResourceWarning, match="unclosed event loop"):
            del loop, tasks
            gc.collect()
            gc.collect()
        assert [ref() for ref in gone] == [None] * 11
        assert len(caplog.records) == 10

    def test_a_task_that_never_began(self, loop_factory, caplog):
        caplog.set_level(logging.ERROR, "asyncio")

        async def body():
            pass

        loop = loop_factory()
        task = loop.create_task(body())
        gone = weakref.ref(task)
        loop.close()
        with pytest.warns(RuntimeWarning, match="coroutine '.*body' was never awaited"):
            del task, loop
            gc.collect()
        assert gone() is None
        assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
            "Task was destroyed but it is pending!"
        ]


class TestFinalizers:
    """Objects with a last word, said at the worst moment."""

    def test_an_argument_that_comes_back(self, loop, events):
        """A finalizer that keeps its object: the handle is gone, the object is not."""

        class Phoenix:
            def __del__(self):
                events.append(self)

        handle = loop.call_later(1e6, int, Phoenix())
        handle.cancel()
        assert [type(event) for event in events] == [Phoenix]
        loop.call_soon(int, Phoenix()).cancel()
        assert len(events) == 2

    def test_a_task_that_comes_back(self, loop, exceptions):
        """The report of a pending task holds the task; whoever keeps the report has a living task."""

        async def body():
            await Forgotten()

        class Forgotten:
            def __await__(self):
                yield from asyncio.Future(loop=other)

        other = loop
        task = asyncio.tasks._PyTask(body(), loop=loop)
        turn(loop)
        del task
        gc.collect()
        for context in exceptions.contexts:
            context["task"].get_name()
            context["task"]._log_destroy_pending = False
        assert len(exceptions.contexts) == 1
        exceptions.contexts.clear()

    def test_a_future_that_comes_back(self, loop, exceptions):
        """The same with an exception that nobody fetched: it can still be fetched."""
        future = loop.create_future()
        future.set_exception(ValueError("late"))
        gone = weakref.ref(future)
        del future
        context = exceptions.contexts.pop()
        assert context["message"].endswith("exception was never retrieved")
        future = context["future"]
        assert str(future.exception()) == "late"
        assert gone() in (None, future)
        # It is said once.
        del future, context
        assert exceptions.contexts == []

    @pytest.mark.parametrize("count", [1, 2, 300])
    def test_each_of_many_is_reported(self, loop, exceptions, count):
        """Free lists give out objects that have been finalized before: each has a last word of its own."""
        for number in range(count):
            future = loop.create_future()
            future.set_exception(ValueError(number))
            del future
        assert [context["exception"].args[0] for context in exceptions.contexts] == list(range(count))
        exceptions.contexts.clear()

        async def fails():
            raise ValueError

        for _ in range(count):
            task = loop.create_task(fails())
            turn(loop)
            del task
        assert len(exceptions.contexts) == count
        exceptions.contexts.clear()

    def test_a_finalizer_that_uses_the_loop(self, loop, events):
        """What `close()` lets go finds a closed loop, and does no harm to it."""

        class Hostile:
            def __del__(self):
                try:
                    loop.call_soon(int)
                except RuntimeError as error:
                    events.append(str(error))
                loop.close()
                loop.stop()
                events.append(loop.is_closed())

        loop.call_soon(int, Hostile())
        loop.call_later(1e6, int, Hostile())
        loop.close()
        assert events == ["Event loop is closed", True] * 2

    def test_a_result_that_uses_its_future(self, loop, events):
        class Hostile:
            def __del__(self):
                future = self.future()
                events.append(future if future is None else future.done())

        future = loop.create_future()
        hostile = Hostile()
        hostile.future = weakref.ref(future)
        future.set_result(hostile)
        del hostile, future
        assert events in ([None], [True])

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_a_removal_that_adds_callbacks(self, loop, events, count):
        """Callbacks are removed by comparing them, which runs code, which adds others: those stay."""

        class Hostile:
            def __call__(self, future):
                pass

            def __eq__(self, other):
                if type(other) is not Hostile:
                    return False
                future.add_done_callback(events.append)
                return True

            __hash__ = None

        future = loop.create_future()
        for _ in range(count):
            future.add_done_callback(Hostile())
        assert future.remove_done_callback(Hostile()) == count
        future.set_result(None)
        turn(loop)
        assert events == [future] * count


def test_the_collector_finds_cycles_through_each_kind(loop_factory, caplog):
    """Cycles that a program makes are freed by the collector, whatever they go through."""
    caplog.set_level(logging.CRITICAL, "asyncio")
    loop = loop_factory()
    gone = []

    def cycle(make):
        thing = Thing()
        gone.append(weakref.ref(thing))
        thing.other = make(thing)

    def finished(thing):
        future = loop.create_future()
        future.set_result(thing)
        return future

    def failed(thing):
        future = loop.create_future()
        error = ValueError()
        error.thing = thing
        future.set_exception(error)
        future.exception()
        return future

    def waited_for(thing):
        future = loop.create_future()
        future.add_done_callback(lambda _: thing)
        return future

    async def body(thing):
        await loop.create_future()

    def task(thing):
        task = asyncio.Task(body(thing), loop=loop)
        task._log_destroy_pending = False
        return task

    cycle(lambda thing: loop.call_later(1e6, int, thing))
    cycle(lambda thing: loop.call_soon(int, thing))
    cycle(finished)
    cycle(failed)
    cycle(waited_for)
    cycle(task)
    turn(loop)
    loop.close()
    del loop
    gc.collect()
    gc.collect()
    assert [ref() for ref in gone] == [None] * len(gone)


class TestSubclasses:
    """What Python derives from a class of ours has the same last word."""

    def test_loop(self, loop_factory):
        class Loop(type(make := loop_factory())):
            pass

        make.close()
        loop = Loop()
        with pytest.warns(ResourceWarning, match="unclosed event loop <Loop running=False closed=False debug=False>"):
            del loop
            gc.collect()

    def test_future(self, loop, exceptions):
        class Future(type(loop.create_future())):
            pass

        Future(loop=loop).set_exception(KeyError("lost"))
        assert exceptions.take() == [("Future exception was never retrieved", ("KeyError", "'lost'"))]

    def test_task(self, loop, exceptions):
        class Forgotten:
            def __await__(self):
                yield from asyncio.futures._PyFuture(loop=loop)

        async def body():
            await Forgotten()

        coroutine = body()
        native = loop.create_task(asyncio.sleep(0))
        loop.run_until_complete(native)

        class Task(type(native)):
            pass

        task = Task(coroutine, loop=loop)
        turn(loop)
        # As the interpreter would call it.
        task.__del__()
        assert exceptions.take() == [("Task was destroyed but it is pending!", None)]
        task.cancel()
        turn(loop, 2)

    def test_one_with_a_finalizer_of_its_own(self, loop, exceptions, events):
        class Future(type(loop.create_future())):
            def __del__(self):
                events.append(self.done())
                super().__del__()

        Future(loop=loop).set_exception(KeyError("lost"))
        assert events == [True]
        assert len(exceptions.take()) == 1


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
def test_what_the_interpreter_leaves_to_the_end(name):
    """Tasks, futures and loops that a module refers to until the interpreter takes the module apart."""
    out, err, status = run_script(
        name,
        """
        import logging
        logging.basicConfig(format="%(message)s")
        async def body():
            try:
                await future
            finally:
                print("closed", flush=True)
        loop = new_event_loop()
        future = loop.create_future()
        other = loop.create_future()
        other.set_exception(ValueError())
        tasks = [loop.create_task(body(), name=f"task {n}") for n in range(3)]
        timer = loop.call_later(1e6, print, tasks)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.call_soon(print, tasks)
        cycle = [loop, tasks, timer]
        cycle.append(cycle)
        """,
        options=["-W", "ignore"],
    )
    assert (out, status) == (["closed"] * 3, 0)
    assert "panicked" not in err


@pytest.mark.parametrize("kind", ["future", "task", "loop", "subclass"])
def test_the_collector_while_an_object_is_made(kind):
    """Before Python 3.13 the collector can meet an object whose contents are not there yet."""
    gc.enable()
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    loops = [ferrio.new_event_loop() for _ in range(3)]
    loop = loops[0]

    class Future(ferrio.Future):
        pass

    try:
        for _ in range(20):
            if kind == "future":
                loop.create_future()
            elif kind == "task":
                loop.create_task(asyncio.sleep(0)).cancel()
                turn(loop)
            elif kind == "loop":
                loops.append(ferrio.new_event_loop())
            else:
                Future(loop=loop)
    finally:
        gc.set_threshold(*before)
        for each in loops:
            each.close()
