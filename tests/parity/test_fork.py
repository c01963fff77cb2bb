"""Fork: the child makes a loop of its own; what it inherited refuses to run, and harms nobody."""

import sys

import pytest
from support.scripts import run_script

pytestmark = pytest.mark.every_door

# The child tells the parent what happened by a pipe, so that nothing depends on who prints first.
FORK = """
def in_child(function):
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        try:
            result = function()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writer, str(result).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        print(file.read(), flush=True)
    assert os.waitpid(pid, 0)[1] == 0

async def value(result):
    await asyncio.sleep(0.001)
    return result
"""

both = pytest.mark.parametrize("name", ["asyncio", "ferrio"])


def forked(name, body):
    """Runs the script, and returns what it printed; asyncio warns of forks with threads, which there are none of."""
    out, err, status = run_script(name, FORK + body, options=["-W", "error"])
    assert (err, status) == ("", 0)
    return out


@both
def test_a_child_makes_a_loop_of_its_own(name):
    out = forked(
        name,
        """
def child():
    loop = new_event_loop()
    result = loop.run_until_complete(value("child"))
    loop.close()
    return result

parent = new_event_loop()
print(parent.run_until_complete(value("parent")))
in_child(child)
print(parent.run_until_complete(value("parent again")))
parent.close()
""",
    )
    assert out == ["parent", "child", "parent again"]


def test_an_inherited_loop_refuses_to_run():
    """Its descriptors are the parent's: waiting on them would steal the parent's events."""
    out = forked(
        "ferrio",
        """
def child():
    try:
        parent.run_until_complete(future)
    except RuntimeError as error:
        print(error, flush=True)
    parent.run_forever()

parent = new_event_loop()
future = parent.create_future()
in_child(child)
parent.call_soon(future.set_result, "parent")
print(parent.run_until_complete(future))
parent.close()
""",
    )
    text = "Cannot run an event loop that was made before a fork: make a new one"
    assert out == [text, f"RuntimeError: {text}", "parent"]


@both
def test_a_fork_inside_a_running_loop(name):
    """The child is told that no loop runs in it, and makes one."""
    out = forked(
        name,
        """
def child():
    assert asyncio._get_running_loop() is None
    loop = new_event_loop()
    result = loop.run_until_complete(value("child"))
    loop.close()
    return result

async def main():
    in_child(child)
    return await value("parent")

parent = new_event_loop()
print(parent.run_until_complete(main()))
parent.close()
""",
    )
    assert out == ["child", "parent"]


def test_a_child_that_closes_what_it_inherited_leaves_the_parent_alone():
    out = forked(
        "ferrio",
        """
import socket
def child():
    parent.close()
    return parent.is_closed()

parent = new_event_loop()
parent.add_signal_handler(signal.SIGUSR1, parent.stop)
ours, theirs = socket.socketpair()
parent.add_reader(ours, lambda: (print(ours.recv(1)), parent.stop()))
in_child(child)
theirs.send(b"x")
parent.run_forever()
os.kill(os.getpid(), signal.SIGUSR1)
parent.run_forever()
print(parent.remove_reader(ours))
parent.close()
ours.close()
theirs.close()
""",
    )
    assert out == ["True", "b'x'", "True"]


def test_an_inherited_loop_that_is_dropped_leaves_the_parent_alone():
    out = forked(
        "ferrio",
        """
import warnings
def child():
    global parent
    warnings.simplefilter("ignore")
    parent = None
    gc.collect()
    return "dropped"

parent = new_event_loop()
parent.run_until_complete(value("parent"))
in_child(child)
print(parent.run_until_complete(value("parent")))
parent.close()
""",
    )
    assert out == ["dropped", "parent"]


@both
def test_a_child_with_signal_handlers_of_its_own(name):
    out = forked(
        name,
        """
def child():
    loop = new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.close()
    return "child"

parent = new_event_loop()
parent.run_until_complete(value("parent"))
in_child(child)
parent.add_signal_handler(signal.SIGUSR1, parent.stop)
os.kill(os.getpid(), signal.SIGUSR1)
parent.run_forever()
parent.close()
print("parent")
""",
    )
    assert out == ["child", "parent"]


# Before Python 3.12 a handler of asyncio's loop takes what its children are sent.
@pytest.mark.parametrize("name", ["asyncio"] * (sys.version_info >= (3, 12)) + ["ferrio"])
def test_a_signal_for_the_child_is_not_the_parents(name):
    out = forked(
        name,
        """
def child():
    signal.signal(signal.SIGUSR1, lambda *args: got.append("child"))
    os.kill(os.getpid(), signal.SIGUSR1)
    return got

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.append, "parent")
    in_child(child)
    await value(None)
    return got

got = []
parent = new_event_loop()
print(parent.run_until_complete(main()))
parent.close()
""",
    )
    assert out == ["['child']", "[]"]


@both
def test_multiprocessing_by_fork(name):
    out = forked(
        name,
        """
import concurrent.futures, multiprocessing

async def main():
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        print(pool.apply(abs, (-1,)))

parent = new_event_loop()
parent.run_until_complete(main())
parent.close()
""".replace("with context", "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n    with context"),
    )
    assert out == ["1"]


def test_a_child_that_ends_an_inherited_connection_leaves_the_parents_alone():
    """Neither by what it calls nor by what it collects."""
    out = forked(
        "ferrio",
        """
import socket
MUCH = 1_000_000

async def main():
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.write(bytes(MUCH))
    assert transport.get_write_buffer_size()

    def child():
        nonlocal transport, protocol
        transport.pause_reading()
        transport.abort()
        closing = transport.is_closing()
        transport = protocol = None
        gc.collect()
        return closing

    in_child(child)
    receive = lambda: len(theirs.recv(MUCH, socket.MSG_WAITALL))
    print(await loop.run_in_executor(None, receive), transport.is_closing())
    transport.write(b"more")
    print(theirs.recv(100))
    transport.close()
    theirs.close()
    await asyncio.sleep(0)

parent = new_event_loop()
parent.run_until_complete(main())
parent.close()
""",
    )
    assert out == ["True", "1000000 False", "b'more'"]
