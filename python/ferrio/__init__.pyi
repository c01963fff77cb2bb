import asyncio

from ferrio._ferrio import EventLoop as _EventLoop
from ferrio._ferrio import Future as Future
from ferrio._ferrio import Handle as Handle
from ferrio._ferrio import Runner as Runner
from ferrio._ferrio import Task as Task
from ferrio._ferrio import TimerHandle as TimerHandle
from ferrio._ferrio import __version__ as __version__
from ferrio._ferrio import run as run

__all__ = (
    "EventLoop",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "Runner",
    "Task",
    "TimerHandle",
    "__version__",
    "new_event_loop",
    "run",
)

# Abstract to a type checker for as long as methods of asyncio's are missing in Rust; those raise NotImplementedError.
class EventLoop(_EventLoop, asyncio.AbstractEventLoop):  # type: ignore[misc]
    def __init__(self) -> None: ...

class EventLoopPolicy(asyncio.DefaultEventLoopPolicy): ...

def new_event_loop() -> EventLoop: ...
