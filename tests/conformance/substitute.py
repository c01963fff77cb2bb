"""Puts ferrio's objects in the place of the standard library's, for the tests of asyncio.

`NAMES` and `FUNCTIONS` say what takes whose place.
"""

import asyncio
import importlib
from collections.abc import Callable, Iterator

import ferrio
from ferrio import _ferrio


class EventLoop(ferrio.EventLoop):
    """A loop whose tasks are pure Python while `asyncio.tasks.Task` is.

    asyncio's own loop makes them of whatever class has that name. Some tests give it to the pure Python class, and look
    at the loop's tasks by the pure Python `current_task()`, which knows no others.
    """

    def create_task(self, coro, **kwargs):
        if asyncio.tasks.Task is asyncio.tasks._PyTask and self.get_task_factory() is None:
            return asyncio.tasks._PyTask(coro, loop=self, **kwargs)
        return super().create_task(coro, **kwargs)


#: What in the `asyncio` package is replaced, and by what. A name that this Python does not have is left out.
NAMES: dict[str, object] = {
    "asyncio.Future": ferrio.Future,
    "asyncio.futures.Future": ferrio.Future,
    "asyncio.futures._CFuture": ferrio.Future,
    "asyncio.Task": ferrio.Task,
    "asyncio.tasks.Task": ferrio.Task,
    "asyncio.tasks._CTask": ferrio.Task,
    "asyncio.Handle": ferrio.Handle,
    "asyncio.events.Handle": ferrio.Handle,
    "asyncio.TimerHandle": ferrio.TimerHandle,
    "asyncio.events.TimerHandle": ferrio.TimerHandle,
    "asyncio.Barrier": ferrio.Barrier,
    "asyncio.locks.Barrier": ferrio.Barrier,
    "asyncio.BoundedSemaphore": ferrio.BoundedSemaphore,
    "asyncio.locks.BoundedSemaphore": ferrio.BoundedSemaphore,
    "asyncio.Condition": ferrio.Condition,
    "asyncio.locks.Condition": ferrio.Condition,
    "asyncio.Event": ferrio.Event,
    "asyncio.locks.Event": ferrio.Event,
    "asyncio.LifoQueue": ferrio.LifoQueue,
    "asyncio.queues.LifoQueue": ferrio.LifoQueue,
    "asyncio.Lock": ferrio.Lock,
    "asyncio.locks.Lock": ferrio.Lock,
    "asyncio.PriorityQueue": ferrio.PriorityQueue,
    "asyncio.queues.PriorityQueue": ferrio.PriorityQueue,
    "asyncio.Queue": ferrio.Queue,
    "asyncio.queues.Queue": ferrio.Queue,
    "asyncio.Semaphore": ferrio.Semaphore,
    "asyncio.locks.Semaphore": ferrio.Semaphore,
    "asyncio.EventLoop": EventLoop,
    "asyncio.SelectorEventLoop": EventLoop,
    "asyncio.unix_events.EventLoop": EventLoop,
    "asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory": EventLoop,
    "asyncio.tasks._GatheringFuture": _ferrio._GatheringFuture,
}

#: Functions, by the module that asyncio has them in; the package has them as well.
FUNCTIONS = {
    "tasks": (
        "gather shield wait as_completed ensure_future create_task current_task all_tasks run_coroutine_threadsafe "
        "create_eager_task_factory eager_task_factory"
    ),
    "threads": "to_thread",
    "futures": "isfuture wrap_future future_add_to_awaited_by future_discard_from_awaited_by",
    "coroutines": "iscoroutine",
    "graph": "capture_call_graph format_call_graph print_call_graph",
}


def _targets(name: str) -> tuple[object, str]:
    """The object that holds the attribute `name` names, and the attribute's name."""
    module = ".".join(name.split(".")[:2]) if name.count(".") > 1 else "asyncio"
    holder: object = importlib.import_module(module)
    *inner, attribute = name.removeprefix(module + ".").split(".")
    for part in inner:
        holder = getattr(holder, part)
    return holder, attribute


def _functions() -> Iterator[tuple[str, object]]:
    for module, names in FUNCTIONS.items():
        for name in names.split():
            for holder in ("asyncio", f"asyncio.{module}"):
                yield f"{holder}.{name}", getattr(_ferrio, name)
    for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
        yield f"asyncio.futures._c_{name}", getattr(_ferrio, name)
    # Modules that took the functions by name.
    for holder in ("base_events", "tasks", "futures", "base_futures", "streams", "unix_events"):
        for name in ("isfuture", "iscoroutine"):
            yield f"asyncio.{holder}.{name}", getattr(_ferrio, name)


def substitute() -> Callable[[], None]:
    """Replaces every name, and returns a function that takes it all back."""
    undo: list[tuple[object, str, object]] = []
    for name, replacement in [*NAMES.items(), *_functions()]:
        try:
            holder, attribute = _targets(name)
        except ModuleNotFoundError:
            continue
        if hasattr(holder, attribute):
            undo.append((holder, attribute, vars(holder)[attribute]))
            setattr(holder, attribute, replacement)

    def restore() -> None:
        while undo:
            setattr(*undo.pop())

    return restore
