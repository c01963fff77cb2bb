"""asyncio rebuilt in Rust: the event loop and everything above it.

ferrio.run(main()) in the place of asyncio.run(main()), or asyncio.run(main(), loop_factory=ferrio.new_event_loop), runs
an asyncio program on ferrio's loop, with ferrio's tasks and futures.
"""

from asyncio import AbstractEventLoop as _AbstractEventLoop

from ferrio import _all_tasks
from ferrio._ferrio import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Condition,
    Event,
    FrameCallGraphEntry,
    Future,
    FutureCallGraph,
    Handle,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
    Runner,
    Semaphore,
    Task,
    TimerHandle,
    __version__,
    all_tasks,
    as_completed,
    capture_call_graph,
    create_eager_task_factory,
    create_task,
    current_task,
    eager_task_factory,
    ensure_future,
    format_call_graph,
    future_add_to_awaited_by,
    future_discard_from_awaited_by,
    gather,
    iscoroutine,
    iscoroutinefunction,
    isfuture,
    print_call_graph,
    run,
    run_coroutine_threadsafe,
    shield,
    sleep,
    to_thread,
    wait,
    wrap_future,
)
from ferrio._ferrio import EventLoop as _EventLoop

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


class EventLoop(_EventLoop, _AbstractEventLoop):
    """asyncio's event loop, on ferrio's engine.

    It is an asyncio.AbstractEventLoop by inheritance, because libraries ask isinstance; everything it does is inherited
    from the Rust class, which comes first.
    """


def new_event_loop() -> EventLoop:
    """Return a new event loop."""
    return EventLoop()


_all_tasks.watch()


def __getattr__(name: str) -> object:
    # Policies leave asyncio with Python 3.16, and few programs use one: theirs is made when it is asked for.
    if name == "EventLoopPolicy":
        from ferrio._policy import EventLoopPolicy

        return EventLoopPolicy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
