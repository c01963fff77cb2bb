"""asyncio rebuilt in Rust: the event loop and everything above it."""

import asyncio as _asyncio

from ferrio import _all_tasks
from ferrio._ferrio import Future, Handle, Task, TimerHandle
from ferrio._ferrio import EventLoop as _EventLoop


class EventLoop(_EventLoop, _asyncio.AbstractEventLoop):
    """asyncio's event loop, on ferrio's engine."""


def new_event_loop() -> EventLoop:
    """A new loop."""
    return EventLoop()


_all_tasks.watch()
