"""Puts ferrio's objects in the place of the standard library's, for the tests of asyncio."""

import asyncio
import unittest.mock

import ferrio


class EventLoop(ferrio.EventLoop):
    """A loop whose tasks are pure Python while `asyncio.tasks.Task` is.

    asyncio's own loop makes them of whatever class has that name. Some tests give it to the pure Python class, and look
    at the loop's tasks by the pure Python `current_task()`, which knows no others.
    """

    def __init__(self, selector=None):
        """The selectors that tests hand to asyncio's own are closed: ferrio's loop has no use for one."""
        if selector is not None:
            selector.close()
        super().__init__()

    def create_task(self, coro, **kwargs):
        if asyncio.tasks.Task is asyncio.tasks._PyTask and self.get_task_factory() is None:
            return asyncio.tasks._PyTask(coro, loop=self, **kwargs)
        return super().create_task(coro, **kwargs)


#: Where tests find a class of loops: beside what `install()` replaces, the one that they name themselves.
LOOPS = (
    (asyncio, "EventLoop"),
    (asyncio, "SelectorEventLoop"),
    (asyncio.unix_events, "EventLoop"),
    (asyncio.unix_events._UnixDefaultEventLoopPolicy, "_loop_factory"),
)


def substitute() -> None:
    """Installs ferrio, as `python -m ferrio` does, and this file's loop where tests make one."""
    ferrio.install()
    for holder, name in LOOPS:
        if hasattr(holder, name):
            unittest.mock.patch.object(holder, name, EventLoop).start()
