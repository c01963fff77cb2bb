"""How asyncio.all_tasks() comes to see ferrio's tasks.

asyncio keeps each task in a WeakSet. ferrio's loops keep their tasks themselves, by strong references, because a
WeakSet takes longer over a task than all the rest does. So the set is taught to ask the loops when somebody iterates
it, as all_tasks() does. asyncio's C module holds the same object: it cannot be replaced, but its class can.
"""

import _asyncio
import asyncio.tasks
import gc
import weakref
from collections.abc import Iterator

from ferrio import _ferrio

_loops: set[weakref.ref[_ferrio.EventLoop]] = set()


def add_loop(loop: _ferrio.EventLoop) -> None:
    _loops.add(weakref.ref(loop, _loops.discard))


class _TaskSet(weakref.WeakSet):
    """The tasks that registered here, and those that ferrio's loops keep."""

    def __iter__(self) -> Iterator[asyncio.Task]:
        yield from super().__iter__()
        # A copy, made in one step: other threads make loops, and lose them, meanwhile.
        for ref in _loops.copy():
            loop = ref()
            if loop is not None:
                yield from loop._unfinished_tasks()


def _task_sets() -> Iterator[weakref.WeakSet]:
    for name in ("_all_tasks", "_scheduled_tasks"):  # Python 3.11; later ones
        if hasattr(asyncio.tasks, name):
            yield getattr(asyncio.tasks, name)
    # From Python 3.14 on, the C module has another one for the tasks that are not its own, and gives no name to it.
    for referent in gc.get_referents(_asyncio):
        if type(referent) is weakref.WeakSet:
            yield referent


for _set in _task_sets():
    _set.__class__ = _TaskSet
