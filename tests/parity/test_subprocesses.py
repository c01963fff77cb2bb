"""Child processes: what a protocol is told of one, how it ends, and that it leaves nothing behind."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref

import pytest
from support.case import describe
from support.scripts import run_script

pytestmark = pytest.mark.every_door

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")

BLOCKED = ("cat",)
"""It ends with its input."""


class Failure(Exception):
    pass


def fail(*args):
    raise Failure("in a protocol")


class Recording(asyncio.SubprocessProtocol):
    """Records every call, and lets a coroutine wait for one. What a method does besides is in `on`, by its name."""

    def __init__(self, record, **on):
        self.record = record
        self.on = on
        self.transport = None
        self.data = {1: bytearray(), 2: bytearray()}
        self.calls = asyncio.Queue()

    def _called(self, name, *arguments):
        self.record(name, *arguments)
        self.calls.put_nowait(name)
        if name in self.on:
            self.on[name](self)

    async def until(self, name):
        """Returns once the method has been called, again if it was waited for before."""
        while await self.calls.get() != name:
            pass

    def connection_made(self, transport):
        self.transport = transport
        self._called("connection_made")

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        self._called("pipe_data_received", fd, data)

    def pipe_connection_lost(self, fd, exc):
        self._called("pipe_connection_lost", fd, describe(exc))

    def process_exited(self):
        self._called("process_exited")

    def connection_lost(self, exc):
        self._called("connection_lost", describe(exc))


def nothing(*event):
    pass


async def start(*command, record=nothing, on=None, **keywords):
    loop = asyncio.get_running_loop()
    return await loop.subprocess_exec(lambda: Recording(record, **(on or {})), *command, **keywords)


async def turns(count=5):
    """As many turns of the loop, in which whatever is ready by itself has run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def start_and_end(status, **keywords):
    """A process that has ended, which the loop cannot have noticed yet. Its status is there to be fetched."""
    stdin, ours = os.pipe()
    try:
        transport, protocol = await start("sh", "-c", f"read line; exit {status}", stdin=stdin, **keywords)
    finally:
        os.close(stdin)
        os.close(ours)
    os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
    return transport, protocol


@pytest.fixture(autouse=True)
def no_zombies():
    """No test leaves a child, be it running or to be reaped."""
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


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


# How a process ends


@pytest.mark.parametrize("method", ["terminate", "kill", "send_signal"])
def test_signals(parity, method):
    async def body(case):
        transport, protocol = await start(*BLOCKED)
        getattr(transport, method)(*([signal.SIGUSR1] if method == "send_signal" else []))
        await protocol.until("connection_lost")
        case(transport.get_returncode())
        with pytest.raises(ProcessLookupError):
            getattr(transport, method)(*([signal.SIGUSR1] if method == "send_signal" else []))
        transport.close()

    number = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGUSR1}[method]
    assert parity(body)[0] == [-number]


def test_a_signal_that_is_none(loop):
    async def body():
        transport, protocol = await start(*BLOCKED)
        transport.send_signal(0)
        with pytest.raises(OSError, match="Invalid argument"):
            transport.send_signal(4711)
        assert transport.get_returncode() is None
        transport.close()
        await protocol.until("connection_lost")

    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.13", "descriptors for processes, where a thread reaped them at once")
def test_an_ended_process_is_not_signalled(loop):
    """Neither before nor after it has been reaped, although the loop has not noticed."""

    async def body():
        transport, protocol = await start_and_end(0)
        transport.kill()
        os.waitpid(transport.get_pid(), 0)
        for _ in range(100):
            transport.kill()
        await protocol.until("connection_lost")
        transport.close()

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio signals by number")
def test_a_reaped_number_is_anothers(loop):
    """The exit status is somebody else's, and so may the number be: it gets no signal."""

    async def body():
        transport, protocol = await start_and_end(0)
        os.waitpid(transport.get_pid(), 0)
        # As near to a number that is used again as can be without wearing all of them out.
        path = "/proc/sys/kernel/ns_last_pid"
        other = None
        with contextlib.suppress(OSError):
            with open(path, "w") as file:
                file.write(str(transport.get_pid() - 1))
            other = subprocess.Popen(BLOCKED, stdin=subprocess.PIPE)
        transport.kill()
        await protocol.until("connection_lost")
        transport.close()
        if other is not None:
            other.communicate()
            assert other.returncode == 0

    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.12", "descriptors for processes, where a thread reaped them at once")
def test_a_status_that_somebody_else_has(parity, caplog):
    async def body(case):
        caplog.clear()
        transport, protocol = await start_and_end(7)
        os.waitpid(transport.get_pid(), 0)
        await protocol.until("connection_lost")
        case(transport.get_returncode())
        messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        case(len(messages), "will report returncode 255" in messages[0])
        transport.close()

    assert parity(body)[0] == [255, (1, True)]


@pytest.mark.ferrio_only("asyncio reports 255")
def test_a_status_that_popen_has(loop, caplog):
    async def body():
        transport, protocol = await start_and_end(7)
        assert transport.get_extra_info("subprocess").wait() == 7
        await protocol.until("connection_lost")
        assert transport.get_returncode() == 7
        transport.close()

    loop.run_until_complete(body())
    assert not caplog.records


def test_waiting(parity):
    """Any number may wait, give up, and come too late."""

    async def body(case):
        process = await asyncio.create_subprocess_exec(*BLOCKED, stdin=-1)
        for _ in range(3):
            try:
                await asyncio.wait_for(process.wait(), 0)
            except TimeoutError:
                case("timeout")
        waiting = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        await turns()
        waiting[1].cancel()
        await turns()
        process.stdin.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        case([result if isinstance(result, int) else describe(result) for result in results])
        case(await process.wait())

    assert parity(body)[0] == ["timeout"] * 3 + [[0, ("CancelledError", ""), 0], 0]


def test_close_kills_and_tells(parity):
    async def body(case):
        transport, protocol = await start(*BLOCKED)
        transport.close()
        transport.close()
        case(transport.is_closing(), transport.get_returncode())
        await protocol.until("connection_lost")
        case(transport.get_returncode())
        transport.close()

    assert parity(body)[0] == [(True, None), -signal.SIGKILL]


@pytest.mark.ferrio_only("asyncio's close() reaps the process, whose status is then unknown")
def test_close_of_a_process_that_has_ended(loop, caplog):
    async def body():
        transport, protocol = await start_and_end(7)
        transport.close()
        await protocol.until("connection_lost")
        assert transport.get_returncode() == 7

    loop.run_until_complete(body())
    assert not caplog.records


def test_many_at_once(loop):
    async def one(number):
        process = await asyncio.create_subprocess_exec("sh", "-c", f"echo {number}; exit {number}", stdout=-1)
        out, _ = await process.communicate()
        assert (out, process.returncode) == (b"%d\n" % number, number)

    async def body():
        await asyncio.gather(*map(one, range(30)))

    loop.run_until_complete(body())


# What is asked of Popen


REFUSED = [
    {"universal_newlines": True},
    {"bufsize": 1},
    {"bufsize": -1},
    {"text": True},
    {"encoding": "utf-8"},
    {"errors": "strict"},
    {"shell": True},
    {"shell": False},
    {"nonsense": 1},
    {"stdin": 3.5},
]


@pytest.mark.parametrize("keywords", REFUSED, ids=lambda keywords: "-".join(map(str, *keywords.items())))
def test_what_is_refused(parity, keywords):
    async def body(case):
        loop = asyncio.get_running_loop()
        for run in [loop.subprocess_exec, loop.subprocess_shell]:
            if keywords == {"shell": run == loop.subprocess_shell}:
                continue
            try:
                await run(lambda: Recording(nothing), "true", **keywords)
            except Exception as error:
                case(describe(error))

    recorded, _ = parity(body)
    assert len(recorded) == (1 if "shell" in keywords else 2)


def test_commands_that_are_refused(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        for command in [["true"], 3, None]:
            with pytest.raises(ValueError, match="cmd must be a string"):
                await loop.subprocess_shell(fail, command)
        for program in ["/no/such/program", "/", "a\0b"]:
            try:
                await loop.subprocess_exec(lambda: Recording(case), program)
            except (OSError, ValueError) as error:
                case(describe(error))
        with pytest.raises(Failure):
            await loop.subprocess_exec(fail, "true")

    assert len(parity(body)[0]) == 3


def test_what_reaches_popen(parity, tmp_path):
    async def body(case):
        async def run(*command, **keywords):
            process = await asyncio.create_subprocess_exec(*command, stdout=-1, **keywords)
            return (await process.communicate())[0]

        case(await run("pwd", cwd="/"))
        case(await run("sh", "-c", "echo $NAME", env={"NAME": "value", "PATH": os.environ["PATH"]}))
        case(await run("sh", "-c", "echo out; echo err >&2", stderr=subprocess.STDOUT))
        case(await run(b"echo", b"bytes", tmp_path.name))
        with open(tmp_path / "file", "w+b") as file:
            file.write(b"from a file")
            file.seek(0)
            case(await run(*BLOCKED, stdin=file))
        process = await asyncio.create_subprocess_shell(b"echo $0", stdout=-1)
        case(await process.communicate())
        transport, protocol = await start("true", stdin=subprocess.DEVNULL, stdout=None, stderr=subprocess.STDOUT)
        case([transport.get_pipe_transport(fd) for fd in (0, 1, 2, 3, -1, "x")])
        await protocol.until("connection_lost")
        transport.close()

    recorded, _ = parity(body)
    assert recorded[2] == b"out\nerr\n"


def test_a_session_and_a_group_of_its_own(parity):
    async def body(case):
        process = await asyncio.create_subprocess_exec(*BLOCKED, stdin=-1, start_new_session=True)
        case(os.getsid(process.pid) == process.pid)
        await process.communicate(b"")

    assert parity(body)[0] == [True]


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

    gc.collect()
    gc.disable()
    try:
        references = loop.run_until_complete(body())
        assert [reference() for reference in references] == [None] * 5
    finally:
        gc.enable()


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


# Where a process is started from


def test_off_the_main_thread(loop_factory):
    results = []

    async def body():
        process = await asyncio.create_subprocess_exec(*BLOCKED, stdin=-1, stdout=-1)
        results.append((await process.communicate(b"x"), process.returncode))

    def run():
        loop = loop_factory()
        try:
            loop.run_until_complete(body())
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [((b"x", None), 0)]


@pytest.mark.parametrize("handler", ["SIG_IGN", "reaps"])
@pytest.mark.ferrio_only("asyncio may find no process to watch")
def test_where_others_have_the_signal(handler):
    """The kernel, or a handler, takes the status: the end is told all the same."""
    body = f"""
    import logging
    logging.disable(logging.CRITICAL)

    def reap(*args):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, {{"SIG_IGN": signal.SIG_IGN, "reaps": reap}}["{handler}"])

    async def main():
        codes = set()
        for _ in range(20):
            process = await asyncio.create_subprocess_exec("true")
            codes.add(await process.wait())
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        print((await process.communicate(b"x"))[0], codes <= {{0, 255}})

    loop = new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    """
    assert run_script("ferrio", body)[::2] == (["b'x' True"], 0)


NO_PIDFD = """
import ctypes, struct

# Everything is allowed but system call 434, pidfd_open, of which the kernel knows nothing from now on.
program = b"".join(struct.pack("HBBI", *line) for line in [
    (0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000),
])
buffer = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.create_string_buffer(filter), 0, 0):
    print("no seccomp")
    raise SystemExit
try:
    os.pidfd_open(os.getpid())
except OSError as error:
    assert error.errno == 38, error
"""


def without_pidfd(body):
    output, errors, status = run_script("ferrio", NO_PIDFD + textwrap.dedent(body))
    if output == ["no seccomp"]:
        pytest.skip("the kernel has no seccomp")
    assert not errors
    assert status == 0
    return output


def test_where_processes_have_no_descriptors():
    body = """
    async def main():
        async def one(number):
            process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
            return await process.wait()

        print(await asyncio.gather(*map(one, range(10))))
        process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
        # A thread that is done may still be about to end.
        while len(os.listdir("/proc/self/task")) > 2:
            await asyncio.sleep(0)
        print(threading.active_count())
        process.send_signal(0)
        process.terminate()
        print(await process.wait())
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(asyncio.SubprocessProtocol, "cat")
        transport.close()
        print(await transport._wait())

    loop = new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    """
    assert without_pidfd(body) == [str(list(range(10))), "1", "-15", "-9"]


def test_a_loop_that_closes_before_the_process_ends_without_descriptors():
    """The thread reaps: there is no zombie."""
    body = """
    import gc, time

    async def main():
        return await asyncio.get_running_loop().subprocess_exec(asyncio.SubprocessProtocol, "cat")

    loop = new_event_loop()
    transport, protocol = loop.run_until_complete(main())
    loop.close()
    transport.close()
    process = transport.get_extra_info("subprocess")
    [pipe.close() for pipe in (process.stdin, process.stdout, process.stderr)]
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no zombie")
    """
    assert without_pidfd(body) == ["no zombie"]


@pytest.mark.ferrio_only("asyncio leaves the descriptor of the process open")
def test_the_loop_closes_before_the_process_ends(loop):
    async def body():
        return await start(*BLOCKED, stdout=None, stderr=None)

    transport, protocol = loop.run_until_complete(body())
    loop.close()
    process = transport.get_extra_info("subprocess")
    transport.close()
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    protocol.transport = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del transport
        gc.collect()


@pytest.mark.parametrize("turn", range(6))
def test_a_cancelled_start_leaves_nothing(loop, turn):
    """Whenever it comes: no process, no descriptor."""

    async def body():
        task = asyncio.ensure_future(start(*BLOCKED))
        await turns(turn)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            transport, protocol = task.result()
            transport.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())
    gc.collect()


@pytest.mark.ferrio_only("asyncio leaves half a transport, which fails in its __del__")
@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_pipe_that_cannot_be_connected(parity, monkeypatch, name):
    """The error is raised when the process has ended; the protocol hears nothing."""

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            getattr(self, name).close()
            processes.append(self)

    async def body(case):
        try:
            await start("sleep", "1000", record=case)
        except ValueError as error:
            case(describe(error))
        process = processes.pop()
        await turns()
        case(process.returncode, process.stdin.closed, process.stdout.closed, process.stderr.closed)

    processes = []
    monkeypatch.setattr(subprocess, "Popen", Popen)
    assert parity(body) == ([("ValueError", "I/O operation on closed file"), (-9, True, True, True)], [])
    gc.collect()


@pytest.mark.ferrio_only("asyncio leaks the process that it has no descriptor for")
def test_out_of_descriptors():
    """Wherever they end while a process is started: an error, and nothing left behind."""
    body = """
    import resource

    async def main():
        async def one():
            process = await asyncio.create_subprocess_exec("sleep", "1000", stdin=-1, stdout=-1, stderr=-1)
            process.kill()
            await process.communicate(b"")
            return process.returncode

        await one()
        before = len(os.listdir("/proc/self/fd"))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        outcomes = set()
        for room in range(14):
            held = [os.dup(0) for _ in range(30)]
            top = max(held)
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1 + room, hard))
            try:
                outcomes.add(await one())
            except OSError as error:
                outcomes.add(error.errno)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                for fd in held:
                    os.close(fd)
        await asyncio.sleep(0)
        print(sorted(outcomes), len(os.listdir("/proc/self/fd")) - before)

    loop = new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        print("no child")
    """
    output, errors, status = run_script("ferrio", body)
    assert (output, errors, status) == (["[-9, 24] 0", "no child"], "", 0)


def test_tools_can_tell_who_spawns(parity, monkeypatch):
    """Who refuses calls that block inside a loop lets this one pass, by the names of a file and a function."""
    spawn = subprocess.Popen

    def body(case):
        def watched(*args, **kwargs):
            frame, found = sys._getframe(), False
            while frame:
                code = frame.f_code
                found |= code.co_filename.endswith("asyncio/base_events.py") and code.co_name == "subprocess_exec"
                frame = frame.f_back
            case(found)
            return spawn(*args, **kwargs)

        async def main():
            transport, protocol = await start("true")
            await protocol.until("connection_lost")
            transport.close()

        monkeypatch.setattr(subprocess, "Popen", watched)
        case.loop.run_until_complete(main())

    assert parity(body)[0] == [True]
