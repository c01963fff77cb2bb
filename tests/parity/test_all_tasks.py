"""`asyncio.all_tasks`, `current_task`, and the hooks below them: they see tasks of every make, ferrio's among them."""

import asyncio
import gc
import threading
import weakref

import pytest
from support.loops import since, turn

import ferrio


async def wait_for(future):
    await future


def names(tasks):
    return sorted(task.get_name() for task in tasks)


def kinds(loop):
    """How each make of task is made on that loop. (asyncio's in Python do not get on with those in C.)"""
    return {
        "the loop's": lambda coro, name: loop.create_task(coro, name=name),
        "C": lambda coro, name: asyncio.tasks._CTask(coro, loop=loop, name=name),
        "ferrio's": lambda coro, name: ferrio.Task(coro, loop=loop, name=name),
    }


def test_tasks_of_every_make(loop):
    """On either loop, from outside and from inside; each leaves when it is done."""

    async def main():
        future = loop.create_future()
        tasks = {name: make(wait_for(future), name) for name, make in kinds(loop).items()}
        own = asyncio.current_task()
        assert asyncio.all_tasks() == {own, *tasks.values()}
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {own, *tasks.values()}
        future.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {own}

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()


def test_from_outside(loop):
    future = loop.create_future()
    tasks = [make(wait_for(future), name) for name, make in kinds(loop).items()]
    assert asyncio.all_tasks(loop) == set(tasks)
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.all_tasks()
    future.cancel()
    turn(loop, 2)
    assert asyncio.all_tasks(loop) == set()
    assert all(task.cancelled() for task in tasks)


def test_each_loop_has_its_own(loop_factory):
    loops = [loop_factory(), asyncio.new_event_loop(), ferrio.new_event_loop()]
    tasks = [loop.create_task(asyncio.sleep(0), name=f"task {number}") for number, loop in enumerate(loops)]
    for loop, task in zip(loops, tasks, strict=True):
        assert asyncio.all_tasks(loop) == {task}
    for loop in loops:
        turn(loop, 2)
        assert asyncio.all_tasks(loop) == set()
        loop.close()


def test_from_another_thread(loop):
    """The loop runs here; who asks is there."""
    found = []

    async def main():
        task = asyncio.create_task(asyncio.sleep(1000), name="sleeper")
        thread = threading.Thread(target=lambda: found.extend(names(asyncio.all_tasks(loop))))
        thread.start()
        thread.join()
        task.cancel()

    loop.run_until_complete(loop.create_task(main(), name="main"))
    assert found == ["main", "sleeper"]


def test_while_tasks_end(loop):
    """Tasks end, and others begin, while somebody looks through them in another thread: no error, no stranger."""
    errors, rounds = [], []
    stop = threading.Event()

    def look():
        try:
            while not stop.is_set():
                assert all(isinstance(task, asyncio.Task) for task in asyncio.all_tasks(loop))
                rounds.append(1)
        except BaseException as error:
            errors.append(error)

    async def main():
        thread = threading.Thread(target=look)
        thread.start()
        while len(rounds) < 20 and not errors:
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(50)))
        stop.set()
        thread.join()

    loop.run_until_complete(main())
    assert errors == []


def test_tasks_that_end_in_the_middle_of_a_look(loop):
    """Whoever iterates the set itself gets each task that was there, whatever happens to it meanwhile."""
    future = loop.create_future()
    tasks = [loop.create_task(wait_for(future), name=f"task {n}") for n in range(5)]
    seen = []
    everything = [*asyncio.tasks._scheduled_tasks] if since(3, 12) else [*asyncio.tasks._all_tasks]
    for task in asyncio.all_tasks(loop):
        seen.append(task.get_name())
        tasks.clear()
        del task
        everything.clear()
        if not future.done():
            future.set_result(None)
            turn(loop, 2)
        gc.collect()
    assert sorted(seen) == [f"task {n}" for n in range(5)]


def test_a_task_that_is_done_is_not_kept(loop):
    task = loop.create_task(asyncio.sleep(0))
    assert task in asyncio.all_tasks(loop)
    turn(loop, 2)
    gone = weakref.ref(task)
    del task
    assert gone() is None


def test_foreign_tasks_register_by_hand(loop):
    """`_register_task` is what other makes of task call."""

    class Duck:
        def get_loop(self):
            return loop

        def done(self):
            return False

    duck = Duck()
    asyncio._register_task(duck)
    assert asyncio.all_tasks(loop) == {duck}
    asyncio._unregister_task(duck)
    assert asyncio.all_tasks(loop) == set()


class TestCurrentTask:
    def test_in_tasks_and_callbacks(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()

            def name():
                task = asyncio.current_task()
                return task and task.get_name()

            async def child(depth):
                case(name())
                if depth:
                    await asyncio.create_task(child(depth - 1), name=f"child {depth - 1}")
                case(name())

            asyncio.current_task().set_name("main")
            loop.call_soon(lambda: case("callback", name()))
            loop.call_later(0, lambda: case("timer", name()))
            future = loop.create_future()
            future.add_done_callback(lambda _: case("done callback", name()))
            future.set_result(None)
            await child(2)
            case(name(), asyncio.current_task(loop) is asyncio.current_task())

        events, _ = parity(body)
        assert ("callback", None) in events
        assert ("timer", None) in events
        assert ("done callback", None) in events
        assert events[-1] == ("main", True)

    def test_of_every_make(self, loop):
        async def own():
            task = asyncio.current_task()
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            return task

        async def main():
            for name, make in kinds(loop).items():
                task = make(own(), name)
                assert await task is task

        loop.run_until_complete(main())

    def test_interleaved(self, loop):
        """Tasks of all makes take turns; each is the current one in its own steps."""
        events = []

        async def steps():
            for _ in range(3):
                events.append(asyncio.current_task().get_name())
                await asyncio.sleep(0)

        tasks = [make(steps(), name) for name, make in kinds(loop).items()]
        turn(loop, 5)
        assert events == list(kinds(loop)) * 3
        assert all(task.done() for task in tasks)

    def test_outside(self, loop):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.current_task()
        assert asyncio.current_task(loop) is None

    def test_after_an_error_that_leaves(self, parity):
        def body(case):
            async def main():
                raise KeyboardInterrupt

            case.raised(case.loop.run_until_complete, main())
            case(asyncio.current_task(case.loop))
            case.loop.call_soon(lambda: case(asyncio.current_task()))
            turn(case.loop)

        assert parity(body)[0] == [("KeyboardInterrupt", ""), None, None]

    def test_in_a_nested_coroutine_driven_by_hand(self, parity):
        async def body(case):
            async def inner():
                return asyncio.current_task() is outer

            outer = asyncio.current_task()
            try:
                inner().send(None)
            except StopIteration as stopped:
                case(stopped.value)

        assert parity(body)[0] == [True]


class TestEnterAndLeave:
    """The hooks by which other makes of task say whose turn it is."""

    def test_by_hand(self, parity):
        def body(case):
            async def main():
                own = asyncio.current_task()
                with pytest.raises(RuntimeError, match="Cannot enter into task"):
                    asyncio._enter_task(case.loop, own)
                asyncio._leave_task(case.loop, own)
                case(asyncio.current_task())
                asyncio._enter_task(case.loop, own)
                case(asyncio.current_task() is own)
                await asyncio.sleep(0)
                case(asyncio.current_task() is own)

            case.loop.run_until_complete(case.loop.create_task(main(), name="main"))

        assert parity(body)[0] == [None, True, True]

    def test_leaving_for_another(self, parity):
        def body(case):
            async def main():
                own = asyncio.current_task()
                other = case.loop.create_task(asyncio.sleep(0), name="other")
                asyncio._leave_task(case.loop, own)
                asyncio._enter_task(case.loop, other)
                case(asyncio.current_task().get_name())
                with pytest.raises(RuntimeError, match="task"):
                    asyncio._leave_task(case.loop, own)
                asyncio._leave_task(case.loop, other)
                asyncio._enter_task(case.loop, own)
                await other

            case.loop.run_until_complete(case.loop.create_task(main(), name="main"))

        assert parity(body)[0] == ["other"]

    def test_from_a_callback(self, parity):
        """A callback stands for a task that it runs by hand, as loops in other languages do."""

        def body(case):
            task = case.loop.create_task(asyncio.sleep(0), name="by hand")

            def callback():
                asyncio._enter_task(case.loop, task)
                case(asyncio.current_task().get_name())
                asyncio._leave_task(case.loop, task)
                case(asyncio.current_task())

            case.loop.call_soon(callback)
            turn(case.loop, 3)

        assert parity(body)[0] == ["by hand", None]

    @pytest.mark.skipif(not since(3, 12), reason="asyncio has the function since Python 3.12")
    def test_swap(self, parity):
        def body(case):
            async def main():
                own = asyncio.current_task()
                case(asyncio.tasks._swap_current_task(case.loop, None) is own)
                case(asyncio.current_task())
                case(asyncio.tasks._swap_current_task(case.loop, own))
                case(asyncio.current_task() is own)

            case.loop.run_until_complete(main())

        assert parity(body)[0] == [True, None, None, True]


def test_a_loop_that_goes_takes_its_tasks_along(loop_factory, caplog):
    """Nothing of a collected loop is left in the set."""
    loop = loop_factory()
    task = loop.create_task(asyncio.sleep(1000), name="of a lost loop")
    turn(loop)
    task._log_destroy_pending = False
    gone = weakref.ref(loop), weakref.ref(task)
    loop.close()
    del loop, task
    gc.collect()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    other = asyncio.new_event_loop()
    assert asyncio.all_tasks(other) == set()
    other.close()
