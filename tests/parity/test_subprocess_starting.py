"""Child processes: started from any thread, beside other handlers of SIGCHLD, on older kernels, and in vain."""

import asyncio
import gc
import logging
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest
from support.case import describe
from support.peers import turns
from support.processes import BLOCKED, start
from support.scripts import run_script

pytestmark = [pytest.mark.every_door, pytest.mark.usefixtures("no_zombies")]


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


REFUSE = """
import ctypes, struct

def refuse(*lines):
    program = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(program)
    filter = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.create_string_buffer(filter), 0, 0):
        print("no seccomp")
        raise SystemExit
"""

NO_PIDFD = """
# Everything is allowed but system call 434, pidfd_open, of which the kernel knows nothing from now on.
refuse((0x20, 0, 0, 0), (0x15, 0, 1, 434), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000))
try:
    os.pidfd_open(os.getpid())
except OSError as error:
    assert error.errno == 38, error
"""


def without_pidfd(body, how=NO_PIDFD):
    output, errors, status = run_script("ferrio", REFUSE + how + textwrap.dedent(body))
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


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of epoll_ctl is another elsewhere")
def test_where_the_descriptor_cannot_be_watched():
    """As when the user's share of watches is used up. A process without pipes needs no other."""
    how = """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
free = os.dup(0)
os.close(free)
# epoll_ctl, 233, of what is opened from now on is ENOSPC, 28.
refuse(
    (0x20, 0, 0, 0), (0x15, 0, 3, 233), (0x20, 0, 0, 32), (0x35, 0, 1, free), (0x06, 0, 0, 0x00050000 | 28),
    (0x06, 0, 0, 0x7FFF0000),
)
"""
    body = """
    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        print(await process.wait(), os.dup(0) == free)

    loop.run_until_complete(main())
    loop.close()
    """
    assert without_pidfd(body, how) == ["3 True"]


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


@pytest.mark.ferrio_only("asyncio leaves the process running")
def test_a_log_that_refuses_the_record(parity, monkeypatch, caplog):
    """The error is raised when the process has ended."""

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    class Refuses(logging.Filter):
        def filter(self, record):
            if "created" in record.getMessage():
                raise ZeroDivisionError("in the filter")
            return True

    async def body(case):
        asyncio.get_running_loop().set_debug(True)
        try:
            await start("sleep", "1000", record=case)
        except ZeroDivisionError as error:
            case(describe(error))
        await turns()
        case(processes.pop().returncode)

    processes = []
    refuses = Refuses()
    logger = logging.getLogger("asyncio")
    monkeypatch.setattr(subprocess, "Popen", Popen)
    caplog.set_level(logging.DEBUG, "asyncio")
    logger.addFilter(refuses)
    try:
        assert parity(body)[0] == [("ZeroDivisionError", "in the filter"), -9]
    finally:
        logger.removeFilter(refuses)


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
