"""Fixtures for every test: loops to run on, comparison of two loops, guards around each test."""

import asyncio
import gc
import os
import signal

import pytest
from support import case, doors, guard, loops

PATIENCE = 20
#: How many times as long everything takes, under valgrind for one.
SLOWDOWN = int(os.environ.get("FERRIO_SLOWDOWN", "1"))


def pytest_addoption(parser):
    parser.addoption("--only", choices=doors.DOORS, help="run on ferrio alone, and behind this door")


def pytest_configure(config):
    # A shell starts what it puts in the background with interrupts ignored, and some tests interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "patience(seconds): the test may take longer than 20 seconds")
    config.addinivalue_line(
        "markers", "asyncio_since(version, what): asyncio itself has it from that Python on, ferrio on every one"
    )
    config.addinivalue_line("markers", "every_door: ferrio is tried as a loop, installed, and as a module of its own")
    config.addinivalue_line("markers", "at_once(reason): not on a loop that sends when the turn ends")
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
    """The loop to compare with, or the reason why there is none."""
    if node.config.getoption("only"):
        return None, "only ferrio is to be run"
    if marker := node.get_closest_marker("ferrio_only"):
        return None, marker.args[0]
    marker = node.get_closest_marker("asyncio_since")
    if marker is None:
        return "asyncio", None
    version, what = marker.args
    if loops.since(*map(int, version.split("."))):
        return "asyncio", None
    return None, f"asyncio has {what} since Python {version}"


def _doors(node):
    """Those behind which the test is run; none if it cannot be run behind the only one that is asked for."""
    only = node.config.getoption("only")
    wanted = doors.DOORS if node.get_closest_marker("every_door") else ("ferrio",)
    excluded = "deferring" if node.get_closest_marker("at_once") else None
    return [door for door in ((only,) if only else wanted) if door != excluded]


def pytest_generate_tests(metafunc):
    if "loop_factory" in metafunc.fixturenames:
        names = [] if metafunc.config.getoption("only") else ["asyncio"]
        metafunc.parametrize("loop_factory", [*names, *_doors(metafunc.definition)], indirect=True)


@pytest.fixture
def loop_factory(request):
    """`new_event_loop` of asyncio, then of ferrio, behind each of its doors."""
    if request.param == "asyncio":
        name, reason = _names(request.node)
        if name is None:
            pytest.skip(reason)
        yield loops.FACTORIES["asyncio"]
        return
    with doors.opened(request.param, *doors.of_tests(request.module)):
        yield loops.FACTORIES["ferrio"]


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


@pytest.fixture(params=["direct", "portable"])
def engine(request, monkeypatch):
    """Which way TLS takes to OpenSSL, by the variable that users have."""
    monkeypatch.setenv("FERRIO_TLS", request.param)
    return request.param


@pytest.fixture
def no_zombies():
    """No test leaves a child, be it running or to be reaped."""
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture
def events():
    """A list to record events in."""
    return []


@pytest.fixture
def parity(request):
    """`parity(body)` runs `body(case)` on both loops, compares what it recorded, and returns that of ferrio's."""

    def compare(body):
        if not _doors(request.node):
            pytest.skip("the loop would have to send at once")
        first = None
        if _names(request.node)[0] is not None:
            first = "asyncio", *case.run("asyncio", loops.FACTORIES["asyncio"], body)
        for door in _doors(request.node):
            with doors.opened(door, *doors.of_tests(request.module)):
                recorded, errors = case.run("ferrio", loops.FACTORIES["ferrio"], body)
            first = first or (door, recorded, errors)
            other, expected, expected_errors = first
            assert recorded == expected, f"the events of {door} differ from those of {other}"
            assert errors == expected_errors, f"{door} reports other errors than {other}"
        return recorded, errors

    return compare
