"""`install()` and `uninstall()`."""

import asyncio
import sys

import pytest

import ferrio
from ferrio import _install

PACKAGE = [module for name, module in sys.modules.items() if name == "asyncio" or name.startswith("asyncio.")]


@pytest.fixture
def installed():
    ferrio.install()
    yield
    ferrio.uninstall()


def snapshot():
    return [dict(vars(module)) for module in PACKAGE]


def test_uninstall_takes_everything_back():
    before = snapshot()
    policy = asyncio.unix_events._UnixDefaultEventLoopPolicy
    factory = policy._loop_factory
    ferrio.install()
    assert policy._loop_factory is ferrio.EventLoop
    ferrio.uninstall()
    assert snapshot() == before
    assert policy._loop_factory is factory


def test_twice_is_once():
    before = snapshot()
    ferrio.install()
    during = snapshot()
    ferrio.install()
    assert snapshot() == during
    ferrio.uninstall()
    assert snapshot() == before
    ferrio.uninstall()
    assert snapshot() == before


def test_a_later_replacement_is_left_alone(monkeypatch):
    original = asyncio.sleep
    ferrio.install()
    asyncio.sleep = sentinel = object()
    ferrio.uninstall()
    assert asyncio.sleep is sentinel
    asyncio.sleep = original


@pytest.mark.parametrize(("home", "name"), [(home, name) for home, names in _install.HOMES.items() for name in names])
def test_each_name_is_ferrios_in_its_home(installed, home, name):
    module = sys.modules.get(f"asyncio.{home}", asyncio)
    assert getattr(module, name) is getattr(_install._ferrio, name)


# Names that asyncio has gained since the oldest Python.
@pytest.mark.parametrize("name", ["EventLoop", "QueueShutDown", "capture_call_graph", "create_eager_task_factory"])
def test_the_package_has_what_is_new(installed, name):
    assert getattr(asyncio, name) is getattr(ferrio, name)


@pytest.mark.parametrize("name", [name for name in ferrio.__all__ if hasattr(asyncio, name)])
def test_the_package_has_what_ferrio_has(installed, name):
    # Those are asyncio's own, which make ferrio's loop and know ferrio's functions.
    if name not in {"__version__", "new_event_loop", "iscoroutinefunction"}:
        assert getattr(asyncio, name) == getattr(ferrio, name)


def test_private_names_of_the_same_object(installed):
    assert asyncio.tasks._CTask is ferrio.Task
    assert asyncio.futures._CFuture is ferrio.Future
    assert asyncio.tasks._PyTask is not ferrio.Task


def test_run_and_runner_and_new_event_loop_use_the_loop(installed):
    async def main():
        return type(asyncio.get_running_loop()), type(asyncio.current_task())

    assert asyncio.run(main()) == (ferrio.EventLoop, ferrio.Task)
    with asyncio.Runner() as runner:
        assert runner.run(main()) == (ferrio.EventLoop, ferrio.Task)
    loop = asyncio.new_event_loop()
    assert type(loop) is ferrio.EventLoop
    loop.close()


def test_a_loop_factory_is_respected(installed):
    async def main():
        return type(asyncio.get_running_loop()), type(asyncio.current_task())

    loop, task = asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop)
    assert loop is asyncio.SelectorEventLoop
    assert task is ferrio.Task


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_policy_of_the_program_is_respected(installed):
    class Loop(asyncio.SelectorEventLoop):
        pass

    class Policy(asyncio.DefaultEventLoopPolicy):
        _loop_factory = Loop

    async def main():
        return type(asyncio.get_running_loop())

    asyncio.set_event_loop_policy(Policy())
    try:
        assert asyncio.run(main()) is Loop
        assert ferrio.run(main()) is Loop
    finally:
        asyncio.set_event_loop_policy(None)
    ferrio.uninstall()
    assert ferrio.run(main()) is ferrio.EventLoop


def test_names_imported_before_work_with_those_installed():
    from asyncio import CancelledError, Future, Lock, Queue, Task, TimeoutError, ensure_future, gather, wait_for

    ferrio.install()
    try:

        async def child(queue):
            return await queue.get()

        async def main():
            loop = asyncio.get_running_loop()
            for make_queue in (Queue, asyncio.Queue):
                queue = make_queue()
                task = asyncio.create_task(child(queue))
                assert isinstance(task, Task)
                assert isinstance(task, asyncio.Task)
                assert isinstance(task, Future)
                queue.put_nowait(1)
                assert await gather(task, ensure_future(task)) == [1, 1]
                with pytest.raises(TimeoutError):
                    await wait_for(queue.get(), 0.001)
                async with Lock(), asyncio.Lock():
                    pass
            old = Task(child(queue), loop=loop)
            queue.put_nowait(2)
            assert await asyncio.gather(old, asyncio.shield(old)) == [2, 2]
            old = Task(child(queue), loop=loop)
            await asyncio.sleep(0)
            old.cancel()
            with pytest.raises(CancelledError):
                await old
            return "ok"

        assert asyncio.run(main()) == "ok"
        # And on the loop that asyncio's own names bring.
        assert asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop) == "ok"
    finally:
        ferrio.uninstall()


def test_while_a_loop_runs():
    async def child():
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main():
        before = await asyncio.create_task(child())
        ferrio.install()
        during = await asyncio.create_task(child())
        results = await asyncio.gather(child(), child())
        ferrio.uninstall()
        after = await asyncio.create_task(child())
        return type(before), type(during), {type(task) for task in results}, type(after)

    def run_on(factory):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    own, every = asyncio.Task, ferrio.Task
    assert run_on(asyncio.SelectorEventLoop) == (own, every, {every}, own)
    assert run_on(ferrio.new_event_loop) == (every, every, {every}, every)


def test_eager_factories_are_known_by_their_code(installed):
    """anyio looks at it, to tell whether the tasks of a loop begin at once."""
    code = asyncio.eager_task_factory.__code__
    assert asyncio.create_eager_task_factory(asyncio.Task).__code__ is code
    assert code.co_name == "factory"


def test_a_coroutine_that_is_written_as_a_generator(installed):
    """Python 3.11 still takes a generator for one, also where asyncio describes a task of it."""

    def generator():
        yield
        return "result"

    async def main():
        if not asyncio.iscoroutine(coroutine := generator()):
            return "result", "generator"
        task = asyncio.get_running_loop().create_task(coroutine)
        shown = repr(task)
        return await task, shown

    result, shown = asyncio.run(main())
    assert result == "result"
    assert "generator" in shown
    assert asyncio.iscoroutine(generator()) is (sys.version_info < (3, 12))
