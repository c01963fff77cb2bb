"""ferrio's objects in the place of the `asyncio` package's own, and back.

A name is replaced wherever the package has the object that it stands for: `asyncio.Task` is also `asyncio.tasks.Task`
and `asyncio.tasks._CTask`. What a program imported before stays what it was, and works beside ferrio's objects.
"""

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType

import ferrio
from ferrio import _ferrio

#: Where asyncio defines what ferrio has of its own.
HOMES = {
    "events": ("Handle", "TimerHandle"),
    "futures": ("Future", "future_add_to_awaited_by", "future_discard_from_awaited_by", "isfuture", "wrap_future"),
    "tasks": (
        "Task",
        "all_tasks",
        "as_completed",
        "create_eager_task_factory",
        "create_task",
        "current_task",
        "eager_task_factory",
        "ensure_future",
        "gather",
        "run_coroutine_threadsafe",
        "shield",
        "sleep",
        "wait",
        "wait_for",
    ),
    # asyncio's iscoroutinefunction() knows ferrio's functions, and is deprecated on newer Pythons only.
    "coroutines": ("iscoroutine",),
    "graph": (
        "FrameCallGraphEntry",
        "FutureCallGraph",
        "capture_call_graph",
        "format_call_graph",
        "print_call_graph",
    ),
    "locks": ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"),
    "queues": ("LifoQueue", "PriorityQueue", "Queue", "QueueShutDown"),
    "runners": ("Runner", "run"),
    "streams": (
        "FlowControlMixin",
        "StreamReader",
        "StreamReaderProtocol",
        "StreamWriter",
        "open_connection",
        "open_unix_connection",
        "start_server",
        "start_unix_server",
    ),
    "subprocess": ("Process", "SubprocessStreamProtocol", "create_subprocess_exec", "create_subprocess_shell"),
    "taskgroups": ("TaskGroup",),
    "threads": ("to_thread",),
    "timeouts": ("Timeout", "timeout", "timeout_at"),
}

#: What was done: the holder, the name, what was there (`_MISSING` if nothing), what is there now.
_changes: list[tuple[object, str, object, object]] = []

_MISSING = object()


def install() -> None:
    """Puts ferrio's objects in the place of asyncio's, in the package and its submodules.

    asyncio.run, Runner, new_event_loop and get_event_loop make ferrio's loop from now on, unless the program chose a
    loop factory or an event loop policy of its own. What newer Pythons have in asyncio and this one does not is added.
    Loops that exist stay what they are, also one that runs, and take ferrio's objects as any other. Does nothing when
    it was done before.
    """
    if _changes:
        return
    modules = [module for name, module in sys.modules.items() if name == "asyncio" or name.startswith("asyncio.")]
    for home, name, replacement in _replacements():
        original = getattr(home, name, _MISSING)
        if original is _MISSING:
            _change(home, name, replacement)
            if name in ferrio.__all__ and not hasattr(asyncio, name):
                _change(asyncio, name, replacement)
            continue
        for module in modules:
            for alias, value in list(vars(module).items()):
                if value is original:
                    _change(module, alias, replacement)
    for holder in (asyncio, asyncio.unix_events):
        _change(holder, "EventLoop", ferrio.EventLoop)
    # Through the class, so that the policy that is set already, or none yet, makes ferrio's loop too.
    _change(asyncio.unix_events._UnixDefaultEventLoopPolicy, "_loop_factory", ferrio.EventLoop)
    _ferrio.follow_policy(True)


def replace_selector_loops() -> None:
    """Has `asyncio.SelectorEventLoop()` make ferrio's loop, while it is installed.

    For `python -m ferrio`, where all of a program is to run on ferrio: who names that class, as uvicorn does, wants
    the loop that asyncio has on Unix. Who hands a selector to it, or derives from it, wants the class itself.
    """
    original = asyncio.SelectorEventLoop

    def __new__(cls: type, selector: object = None, *arguments: object, **keywords: object) -> object:
        if cls is original and selector is None and not arguments and not keywords and _changes:
            return ferrio.EventLoop()
        return object.__new__(cls)

    original.__new__ = __new__  # type: ignore[assignment]


def uninstall() -> None:
    """Puts asyncio's objects back.

    What somebody else has replaced meanwhile is left alone. Does nothing when nothing is installed.
    """
    _ferrio.follow_policy(False)
    while _changes:
        holder, name, before, after = _changes.pop()
        if getattr(holder, name, _MISSING) is not after:
            continue
        if before is _MISSING:
            delattr(holder, name)
        else:
            setattr(holder, name, before)


def _replacements() -> Iterator[tuple[ModuleType, str, object]]:
    for home, names in HOMES.items():
        # The package's attribute: asyncio.timeouts is a module, but a name of the package could hide one.
        module = sys.modules.get(f"asyncio.{home}", asyncio)
        for name in names:
            replacement = getattr(_ferrio, name, None)
            if replacement is not None:
                yield module, name, replacement


def _change(holder: object, name: str, replacement: object) -> None:
    _changes.append((holder, name, vars(holder).get(name, _MISSING), replacement))
    setattr(holder, name, replacement)
