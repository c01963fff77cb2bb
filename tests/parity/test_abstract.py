"""`AbstractEventLoop`, method by method: ferrio has each of them on Unix, with asyncio's parameters."""

import asyncio
import contextlib
import inspect

import pytest
from support.loops import since

import ferrio

# asyncio's own Unix loops leave them at NotImplementedError, or have long lost them.
NOWHERE = {"_timer_handle_cancelled"}

METHODS = sorted(
    name for name, value in vars(asyncio.AbstractEventLoop).items() if inspect.isfunction(value) and name not in NOWHERE
)


def has(cls, name):
    """Whether a class has more than the abstract method, which raises NotImplementedError."""
    return getattr(cls, name, None) is not getattr(asyncio.AbstractEventLoop, name, None)


def test_there_is_something_to_walk_over():
    assert len(METHODS) > 50
    assert set(METHODS) >= {"call_soon", "create_task", "sock_recv", "add_signal_handler", "getaddrinfo"}


@pytest.mark.parametrize("name", METHODS)
def test_no_method_is_abstract(name):
    assert has(ferrio.EventLoop, name)


@pytest.mark.parametrize("name", METHODS)
def test_coroutine_functions_are_those_of_asyncio(name):
    """What is made after the likeness of a loop, a mock for one, knows by this what is to be awaited."""
    theirs, ours = getattr(asyncio.SelectorEventLoop, name), getattr(ferrio.EventLoop, name)
    assert inspect.iscoroutinefunction(ours) is inspect.iscoroutinefunction(theirs)


COROUTINE_FUNCTIONS = [
    name for name in METHODS if inspect.iscoroutinefunction(getattr(asyncio.SelectorEventLoop, name))
]


@pytest.mark.skipif(not since(3, 12), reason="there the coroutine is that of an `async def` of EventLoop's, around it")
@pytest.mark.parametrize("name", COROUTINE_FUNCTIONS)
def test_coroutines_have_the_names_of_asyncio(name):
    """They are in warnings of what was never awaited, which programs filter by them, and in how tasks are shown."""

    def coroutine_of(cls):
        with contextlib.closing(cls()) as loop:
            method, kinds = getattr(loop, name), inspect.Parameter
            required = [
                parameter
                for parameter in inspect.signature(method).parameters.values()
                if parameter.default is kinds.empty and parameter.kind is kinds.POSITIONAL_OR_KEYWORD
            ]
            coroutine = method(*[None] * len(required))
            coroutine.close()
            return coroutine.__name__, coroutine.__qualname__

    assert coroutine_of(ferrio.EventLoop) == coroutine_of(asyncio.SelectorEventLoop)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_are_those_of_asyncio(name):
    """Every parameter that asyncio's loop has, ferrio's has: by the same name, of the same kind, as optional."""
    theirs = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
    try:
        ours = inspect.signature(getattr(ferrio.EventLoop, name)).parameters
    except ValueError:
        pytest.fail(f"{name} has no signature")
    kinds = inspect.Parameter
    takes_any_keyword = any(parameter.kind is kinds.VAR_KEYWORD for parameter in ours.values())
    for parameter in theirs.values():
        if parameter.kind is kinds.VAR_KEYWORD or parameter.name.startswith("_"):
            continue
        if parameter.name not in ours:
            assert takes_any_keyword, f"no parameter {parameter.name}"
            assert parameter.kind is kinds.KEYWORD_ONLY
            continue
        own = ours[parameter.name]
        if own.kind is not kinds.POSITIONAL_ONLY or parameter.name != "self":
            assert own.kind is parameter.kind, f"{parameter.name} is {own.kind.description}"
        if parameter.default is not kinds.empty:
            assert own.default is not kinds.empty, f"{parameter.name} is required"


def test_coroutines_are_coroutines():
    """What is a coroutine function there gives an awaitable here."""
    loop = ferrio.new_event_loop()
    coroutines = [
        loop.shutdown_asyncgens(),
        loop.shutdown_default_executor(),
        loop.getaddrinfo("127.0.0.1", 80),
        loop.getnameinfo(("127.0.0.1", 80)),
    ]
    for coroutine in coroutines:
        assert asyncio.iscoroutine(coroutine)
        assert inspect.isawaitable(coroutine)
        coroutine.close()
    loop.close()


def test_the_class_is_one_of_asyncios(loop):
    """Libraries ask."""
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert issubclass(type(loop), asyncio.AbstractEventLoop)


def test_attributes_that_libraries_read(loop):
    """Half-private, and read by debuggers, test frameworks and other loops' users."""
    assert loop.slow_callback_duration == 0.1
    assert loop._signal_handlers == {} or not hasattr(loop, "_signal_handlers")
    assert loop._default_executor is None
    assert loop._debug is False
    assert loop._task_factory is None
    loop.anything = 1
    assert loop.anything == 1


def test_a_timer_handle_of_asyncios_own(loop):
    """A program can make one for a loop, of whatever make, and cancel it."""
    handle = asyncio.TimerHandle(loop.time() + 60, print, (), loop)
    handle.cancel()
    assert handle.cancelled()
