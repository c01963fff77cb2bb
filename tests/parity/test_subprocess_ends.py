"""Child processes: how they end, and who learns of it."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess

import pytest
from support.case import describe
from support.peers import turns
from support.processes import BLOCKED, start, start_and_end

pytestmark = [pytest.mark.every_door, pytest.mark.usefixtures("no_zombies")]


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
