"""ferrio has what asyncio has, and says what it does."""

import asyncio
import inspect

import pytest

import ferrio
from ferrio import _ferrio

#: `asyncio.__all__` of Python 3.15, written down because older ones have less.
NAMES = """
    ALL_COMPLETED AbstractEventLoop AbstractServer Barrier BaseEventLoop BaseProtocol BaseTransport BoundedSemaphore
    BrokenBarrierError BufferedProtocol CancelledError Condition DatagramProtocol DatagramTransport Event EventLoop
    FIRST_COMPLETED FIRST_EXCEPTION FrameCallGraphEntry Future FutureCallGraph Handle IncompleteReadError
    InvalidStateError LifoQueue LimitOverrunError Lock PriorityQueue Protocol Queue QueueEmpty QueueFull
    QueueShutDown ReadTransport Runner SelectorEventLoop Semaphore SendfileNotAvailableError Server StreamReader
    StreamReaderProtocol StreamWriter SubprocessProtocol SubprocessTransport Task TaskGroup Timeout TimeoutError
    TimerHandle Transport WriteTransport _enter_task _get_running_loop _leave_task _register_task _set_running_loop
    _unregister_task all_tasks as_completed capture_call_graph create_eager_task_factory create_subprocess_exec
    create_subprocess_shell create_task current_task eager_task_factory ensure_future format_call_graph
    future_add_to_awaited_by future_discard_from_awaited_by gather get_event_loop get_event_loop_policy
    get_running_loop iscoroutine iscoroutinefunction isfuture new_event_loop open_connection open_unix_connection
    print_call_graph run run_coroutine_threadsafe set_event_loop set_event_loop_policy shield sleep start_server
    start_unix_server timeout timeout_at to_thread wait wait_for wrap_future
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", NAMES)
def test_the_name_exists(name):
    assert name in ferrio.__all__
    assert name in dir(ferrio)
    getattr(ferrio, name)


@pytest.mark.parametrize("name", sorted(set(NAMES) & set(asyncio.__all__)))
def test_what_is_a_coroutine_function_in_asyncio_is_one_here(name):
    expected = inspect.iscoroutinefunction(getattr(asyncio, name))
    assert inspect.iscoroutinefunction(getattr(ferrio, name)) is expected


def test_star_import():
    namespace = {}
    exec("from ferrio import *", namespace)
    assert set(NAMES) <= namespace.keys()


def test_submodules_of_asyncio_are_found_under_the_name():
    assert ferrio.subprocess is asyncio.subprocess
    assert ferrio.exceptions.CancelledError is ferrio.CancelledError


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="module 'ferrio' has no attribute 'nothing'"):
        ferrio.nothing  # noqa: B018


def test_public_names_have_docstrings():
    own = {
        name: value for name in {*ferrio.__all__, *dir(_ferrio)} if (value := getattr(_ferrio, name, None)) is not None
    }
    public = {name: value for name, value in own.items() if name[0] != "_" and callable(value)}
    for name, value in list(public.items()):
        if inspect.isclass(value):
            members = {f"{name}.{member}": what for member, what in vars(value).items() if member[0] != "_"}
            # The fields of asyncio's dataclasses are member descriptors.
            public |= {
                member: what
                for member, what in members.items()
                if not isinstance(what, int | str) and not inspect.ismemberdescriptor(what)
            }
    assert len(public) > 200
    assert [name for name, value in sorted(public.items()) if not value.__doc__] == []
