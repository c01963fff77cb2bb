import asyncio

from ferrio._ferrio import EventLoop as _EventLoop
from ferrio._ferrio import Barrier as Barrier
from ferrio._ferrio import BoundedSemaphore as BoundedSemaphore
from ferrio._ferrio import BrokenBarrierError as BrokenBarrierError
from ferrio._ferrio import Condition as Condition
from ferrio._ferrio import Event as Event
from ferrio._ferrio import Future as Future
from ferrio._ferrio import Handle as Handle
from ferrio._ferrio import LifoQueue as LifoQueue
from ferrio._ferrio import Lock as Lock
from ferrio._ferrio import PriorityQueue as PriorityQueue
from ferrio._ferrio import Queue as Queue
from ferrio._ferrio import QueueEmpty as QueueEmpty
from ferrio._ferrio import QueueFull as QueueFull
from ferrio._ferrio import QueueShutDown as QueueShutDown
from ferrio._ferrio import Runner as Runner
from ferrio._ferrio import Semaphore as Semaphore
from ferrio._ferrio import Task as Task
from ferrio._ferrio import TimerHandle as TimerHandle
from ferrio._ferrio import __version__ as __version__
from ferrio._ferrio import run as run

__all__ = (
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "EventLoop",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "Runner",
    "Semaphore",
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
