"""Child processes: what a protocol is told of one, and what is known of its transport."""

import asyncio
import contextvars
import gc
import logging
import os
import subprocess
import warnings
import weakref

import pytest
from support.guard import without_collector
from support.peers import fail, nothing, turns
from support.processes import BLOCKED, Recording, start

pytestmark = [pytest.mark.every_door, pytest.mark.usefixtures("no_zombies")]

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


# What protocols are told


def test_from_begin_to_end(parity):
    async def body(case):
        events = []
        transport, protocol = await start(*BLOCKED, record=lambda *event: events.append(event), stderr=None)
        case(protocol.transport is transport, transport.get_protocol() is protocol)
        case(transport.get_returncode(), transport.is_closing(), transport.get_pid() > 1)
        transport.get_pipe_transport(0).write(b"hello")
        await protocol.until("pipe_data_received")
        transport.get_pipe_transport(0).close()
        await protocol.until("connection_lost")
        case(events[:2], sorted(events[2:5], key=repr), events[5:])
        case(transport.get_returncode(), transport.is_closing(), transport.get_protocol())
        transport.close()
        case(transport.is_closing())

    ends = [("pipe_connection_lost", 0, None), ("pipe_connection_lost", 1, None), ("process_exited",)]
    assert parity(body) == (
        [
            (True, True),
            (None, False, True),
            ([("connection_made",), ("pipe_data_received", 1, b"hello")], ends, [("connection_lost", None)]),
            (0, False, None),
            True,
        ],
        [],
    )


def test_what_a_quick_child_says_comes_after_connection_made(parity):
    async def body(case):
        events = []
        transport, protocol = await start(
            "sh", "-c", "echo out; echo err >&2; exit 3", record=lambda *e: events.append(e)
        )
        await protocol.until("connection_lost")
        case(events[0], events[-1], len(events), transport.get_returncode())
        case(bytes(protocol.data[1]), bytes(protocol.data[2]))
        for fd in (0, 1, 2):
            case([event[0] for event in events if event[1:2] == (fd,)])
        transport.close()

    recorded, _ = parity(body)
    assert recorded[:2] == [(("connection_made",), ("connection_lost", None), 8, 3), (b"out\n", b"err\n")]


@pytest.mark.asyncio_since("3.14", "waiters that wake when the process ends, and not with its pipes")
def test_the_exit_is_told_although_pipes_are_open(loop, events):
    """A grandchild has them; connection_lost waits for it."""

    async def body():
        inherited, ours = os.pipe()
        command = f"cat </dev/fd/{inherited} & exit 5"
        record = lambda *event: events.append(event[0])  # noqa: E731
        transport, protocol = await start("sh", "-c", command, pass_fds=(inherited,), record=record)
        os.close(inherited)
        assert await transport._wait() == 5
        await protocol.until("process_exited")
        await turns()
        assert "connection_lost" not in events
        os.write(ours, b"from the grandchild")
        os.close(ours)
        await protocol.until("connection_lost")
        assert protocol.data[1] == b"from the grandchild"
        transport.close()

    loop.run_until_complete(body())
    assert events[-1] == "connection_lost"


def test_much_through_both_pipes(loop):
    much = bytes(range(256)) * 8192

    async def body():
        process = await asyncio.create_subprocess_exec(*BLOCKED, stdin=-1, stdout=-1)
        out, err = await process.communicate(much)
        assert (out, err, process.returncode) == (much, None, 0)

    loop.run_until_complete(body())


@pytest.mark.parametrize("method", ["connection_made", "process_exited", "connection_lost", "pipe_connection_lost"])
def test_an_exception_is_reported(loop, exceptions, events, method):
    """And all goes on."""

    async def body():
        transport, protocol = await start(
            "true", stdin=None, stdout=-1, stderr=None, record=lambda *event: events.append(event[0]), on={method: fail}
        )
        await protocol.until("connection_lost")
        transport.close()

    loop.run_until_complete(body())
    assert sorted(events) == ["connection_lost", "connection_made", "pipe_connection_lost", "process_exited"]
    assert [error for _, error in exceptions.take()] == [("Failure", "in a protocol")]


def test_flow_control_of_the_input(loop, events):
    class Producer(Recording):
        def pause_writing(self):
            self._called("pause_writing")

        def resume_writing(self):
            self._called("resume_writing")

    async def body():
        loop = asyncio.get_running_loop()
        factory = lambda: Producer(lambda *event: events.append(event[0]))  # noqa: E731
        transport, protocol = await loop.subprocess_exec(factory, *BLOCKED, stdout=subprocess.DEVNULL, stderr=None)
        transport.get_pipe_transport(0).write(bytes(1_000_000))
        await protocol.until("resume_writing")
        transport.get_pipe_transport(0).close()
        await protocol.until("connection_lost")
        transport.close()

    loop.run_until_complete(body())
    assert events[:3] == ["connection_made", "pause_writing", "resume_writing"]


@pytest.mark.asyncio_since("3.14", "waiters that wake when the process ends, and not with its pipes")
def test_pausing_a_pipe(loop):
    async def body():
        transport, protocol = await start(*BLOCKED, stderr=None)
        stdout = transport.get_pipe_transport(1)
        stdout.pause_reading()
        transport.get_pipe_transport(0).write(b"x")
        transport.get_pipe_transport(0).close()
        assert await transport._wait() == 0
        await turns()
        assert not protocol.data[1]
        stdout.resume_reading()
        await protocol.until("connection_lost")
        assert protocol.data[1] == b"x"
        transport.close()

    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.12", "exits that are not told from a thread, in its context")
def test_context(loop, events):
    """The creator's, for every call."""

    def look(*event):
        events.append(VARIABLE.get())

    async def body():
        VARIABLE.set("creator's")
        transport, protocol = await start("echo", "x", record=look)
        VARIABLE.set("later")
        await protocol.until("connection_lost")
        transport.close()

    loop.run_until_complete(body())
    assert set(events) == {"creator's"}


# What is known of a transport


def test_classes_and_info(parity):
    async def body(case):
        transport, protocol = await start(*BLOCKED)
        case(isinstance(transport, asyncio.SubprocessTransport), isinstance(transport, asyncio.BaseTransport))
        process = transport.get_extra_info("subprocess")
        case(type(process) is subprocess.Popen, process.pid == transport.get_pid())
        case(transport.get_extra_info("pipe"), transport.get_extra_info("pipe", 3))
        case(isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport))
        case(isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport))
        case(weakref.ref(transport)() is transport)
        events = []
        other = Recording(lambda *event: events.append(event[0]))
        transport.set_protocol(other)
        case(transport.get_protocol() is other)
        transport.kill()
        await other.until("connection_lost")
        case(sorted(events))
        case(process.returncode, process.stdin.closed)
        transport.close()

    assert parity(body)[0][-1] == (-9, True)


def test_repr(loop):
    """As asyncio's, but for the classes."""

    async def body():
        transport, protocol = await start(*BLOCKED, stderr=None)
        pid = transport.get_pid()
        words = repr(transport).split()
        assert words[1:3] == [f"pid={pid}", "running"]
        assert [word.partition("=")[0] for word in words if "=<" in word] == ["stdin", "stdout"]
        transport.close()
        assert f" closed pid={pid} running " in repr(transport)
        await protocol.until("connection_lost")
        assert f" closed pid={pid} returncode=-9 " in repr(transport)

    loop.run_until_complete(body())


def test_debug_mode_tells(parity, caplog):
    async def body(case):
        caplog.clear()
        asyncio.get_running_loop().set_debug(True)
        caplog.set_level(logging.DEBUG, "asyncio")
        transport, protocol = await start("cat", "secret", stdin=subprocess.DEVNULL, stdout=None, stderr=None)
        await protocol.until("connection_lost")
        transport.close()
        transport, protocol = await asyncio.get_running_loop().subprocess_shell(
            lambda: Recording(nothing), "true", stderr=subprocess.STDOUT
        )
        await protocol.until("connection_lost")
        transport.close()
        asyncio.get_running_loop().set_debug(False)
        messages = [record.getMessage() for record in caplog.records]
        case(
            [
                message
                for message in messages
                if "stdin=" in message and "<Subprocess" not in message and "Transport" not in message
            ]
        )
        case(any("secret" in message for message in messages))
        case(sum("exited with return code" in message for message in messages))

    recorded, _ = parity(body)
    assert recorded[0] == [
        "execute program 'cat' stdin=-3",
        "run shell command 'true' stdin=<pipe> stdout=stderr=<pipe>",
    ]
    assert recorded[1:] == [False, 2]


def test_nothing_is_kept(loop):
    """Neither transports nor protocol, without the collector."""

    async def body():
        transport, protocol = await start("echo", "x")
        await protocol.until("connection_lost")
        transport.close()
        await turns()
        protocol.transport = None
        pipes = [transport.get_pipe_transport(fd) for fd in (0, 1, 2)]
        return [weakref.ref(thing) for thing in (transport, protocol, *pipes)]

    with without_collector():
        references = loop.run_until_complete(body())
        assert [reference() for reference in references] == [None] * 5


def test_an_unclosed_transport_warns(parity):
    async def body(case):
        transport, protocol = await start("true")
        await protocol.until("connection_lost")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            protocol.transport = None
            del transport
            gc.collect()
        case([(w.category.__name__, str(w.message).startswith("unclosed transport <")) for w in caught])

    assert parity(body)[0] == [[("ResourceWarning", True)]]
