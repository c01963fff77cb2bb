"""asyncio rebuilt in Rust: the event loop and everything above it.

`import ferrio as asyncio` gives a program the whole of asyncio 3.15 on every Python from 3.11; ferrio.install() does so
for one that is not to be changed. asyncio.run(main(), loop_factory=ferrio.new_event_loop) changes the loop alone, with
its tasks and futures.
"""

import asyncio as _asyncio
from asyncio import AbstractEventLoop as _AbstractEventLoop

from ferrio import _all_tasks, _awaited_by
from ferrio._ferrio import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    Barrier,
    BoundedSemaphore,
    BrokenBarrierError,
    Condition,
    Event,
    EventLoop as _EventLoop,
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
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    Task,
    TaskGroup,
    Timeout,
    TimerHandle,
    __version__,
    all_tasks,
    as_completed,
    capture_call_graph,
    create_eager_task_factory,
    create_subprocess_exec,
    create_subprocess_shell,
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
    open_connection,
    open_unix_connection,
    print_call_graph,
    run,
    run_coroutine_threadsafe,
    shield,
    sleep,
    start_server,
    start_unix_server,
    timeout,
    timeout_at,
    to_thread,
    wait,
    wait_for,
    wrap_future,
)


class EventLoop(_EventLoop, _AbstractEventLoop):
    """asyncio's event loop, on ferrio's engine.

    It is an asyncio.AbstractEventLoop by inheritance, because libraries ask isinstance; everything it does is inherited
    from the Rust class, which comes first.
    """


def new_event_loop() -> EventLoop:
    """Returns a new event loop."""
    return EventLoop()


def install() -> None:
    """Puts ferrio's objects in the place of asyncio's own, for programs and libraries that import asyncio.

    asyncio.Task, gather, TaskGroup, timeout, Lock, Queue and all the others are ferrio's from now on, in asyncio's
    submodules too, and asyncio.run, Runner and new_event_loop use ferrio's loop unless the program chose another one.
    Names that were imported before, and loops that exist, stay what they are and work with ferrio's objects. Does
    nothing when it was done before.
    """
    from ferrio import _install

    _install.install()


def uninstall() -> None:
    """Takes back what install() did. Does nothing when nothing is installed."""
    from ferrio import _install

    _install.uninstall()


#: What asyncio has as of 3.15, on every Python, and what only ferrio has.
__all__ = (
    "ALL_COMPLETED",
    "AbstractEventLoop",
    "AbstractServer",
    "Barrier",
    "BaseEventLoop",
    "BaseProtocol",
    "BaseTransport",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "BufferedProtocol",
    "CancelledError",
    "Condition",
    "DatagramProtocol",
    "DatagramTransport",
    "Event",
    "EventLoop",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "FrameCallGraphEntry",
    "Future",
    "FutureCallGraph",
    "Handle",
    "IncompleteReadError",
    "InvalidStateError",
    "LifoQueue",
    "LimitOverrunError",
    "Lock",
    "PriorityQueue",
    "Protocol",
    "Queue",
    "QueueEmpty",
    "QueueFull",
    "QueueShutDown",
    "ReadTransport",
    "Runner",
    "SelectorEventLoop",
    "Semaphore",
    "SendfileNotAvailableError",
    "Server",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "SubprocessProtocol",
    "SubprocessTransport",
    "Task",
    "TaskGroup",
    "Timeout",
    "TimeoutError",
    "TimerHandle",
    "Transport",
    "WriteTransport",
    "_enter_task",
    "_get_running_loop",
    "_leave_task",
    "_register_task",
    "_set_running_loop",
    "_unregister_task",
    "all_tasks",
    "as_completed",
    "capture_call_graph",
    "create_eager_task_factory",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "create_task",
    "current_task",
    "eager_task_factory",
    "ensure_future",
    "format_call_graph",
    "future_add_to_awaited_by",
    "future_discard_from_awaited_by",
    "gather",
    "get_event_loop",
    "get_event_loop_policy",
    "get_running_loop",
    "iscoroutine",
    "iscoroutinefunction",
    "isfuture",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "print_call_graph",
    "run",
    "run_coroutine_threadsafe",
    "set_event_loop",
    "set_event_loop_policy",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait",
    "wait_for",
    "wrap_future",
    # Only ferrio's:
    "EventLoopPolicy",
    "__version__",
    "install",
    "uninstall",
)

_all_tasks.watch()
_awaited_by.watch()


def __getattr__(name: str) -> object:
    # Policies leave asyncio with Python 3.16, and few programs use one: theirs is made when it is asked for.
    if name == "EventLoopPolicy":
        from ferrio._policy import EventLoopPolicy

        return EventLoopPolicy
    # asyncio's submodules, and what a Python has beyond 3.15's list, such as child watchers: `asyncio.subprocess.PIPE`
    # is to be found under the name ferrio as well.
    try:
        return getattr(_asyncio, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# What is not defined above ferrio has no version of its own of: exceptions, abstract classes.
globals().update(
    (name, getattr(_asyncio, name)) for name in __all__ if name not in globals() and name != "EventLoopPolicy"
)
