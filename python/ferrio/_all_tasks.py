"""Lets `asyncio.all_tasks()` see ferrio's tasks.

asyncio remembers the tasks that are not of its own C class in a `WeakSet`, and to add to that would cost more than to
make the task. ferrio's loops know their tasks anyhow; so the set asks them when somebody looks through it.
"""

import gc
import weakref

from ferrio._ferrio import unfinished_tasks


class _AllTasks(weakref.WeakSet):
    """asyncio's set, and every task that a loop of ferrio keeps."""

    def __iter__(self):
        yield from super().__iter__()
        yield from unfinished_tasks()


def _find() -> weakref.WeakSet | None:
    try:
        import _asyncio
    except ImportError:
        from asyncio import tasks as _asyncio
    for name in ("_scheduled_tasks", "_all_tasks"):
        if isinstance(found := getattr(_asyncio, name, None), weakref.WeakSet):
            return found
    # From 3.14 on the module keeps the set to itself, but shows it to the garbage collector. It has no other.
    return next((found for found in gc.get_referents(_asyncio) if isinstance(found, weakref.WeakSet)), None)


def watch() -> None:
    """Has the set ask ferrio's loops from now on. Does nothing the second time."""
    if (tasks := _find()) is not None:
        tasks.__class__ = _AllTasks
