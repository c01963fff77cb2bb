"""Fixtures for every test: loops to run on, comparison of two loops, guards around each test."""

import asyncio
import gc
import os
import signal

import pytest
from support import case, guard, loops

PATIENCE = 20
#: How many times as long everything takes, under valgrind for one.
SLOWDOWN = int(os.environ.get("FERRIO_SLOWDOWN", "1"))


def pytest_configure(config):
    # A shell starts what it puts in the background with interrupts ignored, and some tests interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "patience(seconds): the test may take longer than 20 seconds")
    config.addinivalue_line(
        "markers", "asyncio_since(version, what): asyncio itself has it from that Python on, ferrio on every one"
    )
    config.addinivalue_line("markers", "ferrio_only(reason): asyncio does otherwise, and is not run")
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        stderr = os.dup(2)
    config.stash[WATCHDOG] = watchdog = guard.Watchdog(stderr)
    watchdog.start()


WATCHDOG = pytest.StashKey[guard.Watchdog]()


def pytest_sessionstart(session):
    # What has been imported stays: the collector need not look at it after every test.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    marker = item.get_closest_marker("patience")
    with item.config.stash[WATCHDOG].watching(SLOWDOWN * (marker.args[0] if marker else PATIENCE)):
        return (yield)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Each test begins with no current loop, and leaves no descriptor, thread or setting behind."""
    asyncio.set_event_loop(None)
    state = guard.State()
    yield
    asyncio.set_event_loop(None)
    state.check()


def _names(node):
    """The loops that a test can run on, with the reason why it cannot run on asyncio's."""
    if marker := node.get_closest_marker("ferrio_only"):
        return None, marker.args[0]
    marker = node.get_closest_marker("asyncio_since")
    if marker is None:
        return "asyncio", None
    version, what = marker.args
    if loops.since(*map(int, version.split("."))):
        return "asyncio", None
    return None, f"asyncio has {what} since Python {version}"


@pytest.fixture(params=["asyncio", "ferrio"])
def loop_factory(request):
    """`new_event_loop` of asyncio, then of ferrio."""
    if request.param == "asyncio":
        name, reason = _names(request.node)
        if name is None:
            pytest.skip(reason)
    return loops.FACTORIES[request.param]


@pytest.fixture
def loop_name(loop_factory):
    """Which of the two `loop_factory` is."""
    return next(name for name, factory in loops.FACTORIES.items() if factory is loop_factory)


@pytest.fixture
def exceptions():
    """What the exception handler of `loop` was given; what the test does not take fails it."""
    errors = case.Errors()
    yield errors
    left = errors.take()
    if left:
        pytest.fail(f"reported to the exception handler: {left}", pytrace=False)


@pytest.fixture
def loop(loop_factory, exceptions):
    """A loop, closed after the test, that hands its errors to `exceptions`."""
    loop = loop_factory()
    loop.set_exception_handler(exceptions)
    yield loop
    if not loop.is_running():
        loop.close()


@pytest.fixture
def events():
    """A list to record events in."""
    return []


@pytest.fixture
def parity(request):
    """`parity(body)` runs `body(case)` on both loops, compares what it recorded, and returns that of ferrio's."""

    def compare(body):
        recorded, errors = case.run("ferrio", loops.FACTORIES["ferrio"], body)
        if _names(request.node)[0] is not None:
            expected, expected_errors = case.run("asyncio", loops.FACTORIES["asyncio"], body)
            assert recorded == expected, "ferrio's events differ from asyncio's"
            assert errors == expected_errors, "ferrio reports other errors than asyncio"
        return recorded, errors

    return compare
