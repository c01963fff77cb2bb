import asyncio

from ferrio._ferrio import ALL_COMPLETED as ALL_COMPLETED
from ferrio._ferrio import FIRST_COMPLETED as FIRST_COMPLETED
from ferrio._ferrio import FIRST_EXCEPTION as FIRST_EXCEPTION
from ferrio._ferrio import Barrier as Barrier
from ferrio._ferrio import BoundedSemaphore as BoundedSemaphore
from ferrio._ferrio import BrokenBarrierError as BrokenBarrierError
from ferrio._ferrio import Condition as Condition
from ferrio._ferrio import Event as Event
from ferrio._ferrio import EventLoop as _EventLoop
from ferrio._ferrio import FrameCallGraphEntry as FrameCallGraphEntry
from ferrio._ferrio import Future as Future
from ferrio._ferrio import FutureCallGraph as FutureCallGraph
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
from ferrio._ferrio import all_tasks as all_tasks
from ferrio._ferrio import as_completed as as_completed
from ferrio._ferrio import capture_call_graph as capture_call_graph
from ferrio._ferrio import create_eager_task_factory as create_eager_task_factory
from ferrio._ferrio import create_task as create_task
from ferrio._ferrio import current_task as current_task
from ferrio._ferrio import eager_task_factory as eager_task_factory
from ferrio._ferrio import ensure_future as ensure_future
from ferrio._ferrio import format_call_graph as format_call_graph
from ferrio._ferrio import future_add_to_awaited_by as future_add_to_awaited_by
from ferrio._ferrio import future_discard_from_awaited_by as future_discard_from_awaited_by
from ferrio._ferrio import gather as gather
from ferrio._ferrio import iscoroutine as iscoroutine
from ferrio._ferrio import iscoroutinefunction as iscoroutinefunction
from ferrio._ferrio import isfuture as isfuture
from ferrio._ferrio import print_call_graph as print_call_graph
from ferrio._ferrio import run as run
from ferrio._ferrio import run_coroutine_threadsafe as run_coroutine_threadsafe
from ferrio._ferrio import shield as shield
from ferrio._ferrio import sleep as sleep
from ferrio._ferrio import to_thread as to_thread
from ferrio._ferrio import wait as wait
from ferrio._ferrio import wrap_future as wrap_future

__all__ = (
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "Barrier",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "Event",
    "EventLoop",
    "EventLoopPolicy",
    "FrameCallGraphEntry",
    "Future",
    "FutureCallGraph",
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
    "all_tasks",
    "as_completed",
    "capture_call_graph",
    "create_eager_task_factory",
    "create_task",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "format_call_graph",
    "future_add_to_awaited_by",
    "future_discard_from_awaited_by",
    "gather",
    "iscoroutine",
    "iscoroutinefunction",
    "isfuture",
    "new_event_loop",
    "print_call_graph",
    "run",
    "run_coroutine_threadsafe",
    "shield",
    "sleep",
    "to_thread",
    "wait",
    "wrap_future",
)

# Abstract to a type checker for as long as methods of asyncio's are missing in Rust; those raise NotImplementedError.
class EventLoop(_EventLoop, asyncio.AbstractEventLoop):  # type: ignore[misc]
    def __init__(self) -> None: ...

class EventLoopPolicy(asyncio.DefaultEventLoopPolicy): ...

def new_event_loop() -> EventLoop: ...
