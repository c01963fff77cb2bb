"""How `asyncio.all_tasks()` comes to see ferrio's tasks.

asyncio remembers tasks in a `WeakSet`, and to add to that costs more than to make the task. ferrio's loops keep their
tasks anyhow, so the set is taught to ask the loops when somebody looks through it. asyncio's C module holds the same
object: it cannot be replaced, but its class can.
"""

import asyncio.tasks
import gc
import weakref
from collections.abc import Iterator

from ferrio._ferrio import unfinished_tasks


class _AllTasks(weakref.WeakSet):
    """The tasks that registered here, and those that ferrio's loops keep."""

    def __iter__(self) -> Iterator[asyncio.Task]:
        yield from super().__iter__()
        yield from unfinished_tasks()


def _task_sets() -> Iterator[object]:
    for name in ("_all_tasks", "_scheduled_tasks"):  # Python 3.11; later ones
        yield getattr(asyncio.tasks, name, None)
    try:
        import _asyncio
    except ImportError:
        return
    # From Python 3.14 on the C module has another one for the tasks that are not its own, and gives no name to it.
    yield from gc.get_referents(_asyncio)


def watch() -> None:
    """Has asyncio's sets of tasks ask ferrio's loops from now on."""
    for tasks in _task_sets():
        if type(tasks) is weakref.WeakSet:
            tasks.__class__ = _AllTasks
