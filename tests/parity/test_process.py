"""create_subprocess_exec, create_subprocess_shell and Process: a child process with streams."""

import asyncio
import inspect
import logging
import os
import signal
import weakref
from subprocess import DEVNULL, PIPE, STDOUT

import pytest
from support.case import outcome
from support.guard import without_collector
from support.peers import MUCH, turns
from support.traces import package

import ferrio
from ferrio import _ferrio

pytestmark = pytest.mark.every_door

CAT = ("cat",)


def shell(script, **keywords):
    """A process that runs `script`, with streams for what `keywords` does not name."""
    return lambda aio: aio.create_subprocess_exec(
        "sh", "-c", script, **{"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, **keywords}
    )


# What they are


def test_signatures():
    for name in ("create_subprocess_exec", "create_subprocess_shell"):
        function = getattr(ferrio, name)
        assert inspect.iscoroutinefunction(function)
        assert inspect.signature(function) == inspect.signature(getattr(asyncio, name))
    for name in ("wait", "communicate", "_feed_stdin", "_read_stream"):
        function = getattr(_ferrio.Process, name)
        assert inspect.iscoroutinefunction(function)
        assert inspect.signature(function) == inspect.signature(getattr(asyncio.subprocess.Process, name))


def test_class(loop):
    async def body():
        process = await ferrio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        assert type(process) is _ferrio.Process
        assert isinstance(process, asyncio.subprocess.Process)
        assert isinstance(process._protocol, asyncio.SubprocessProtocol)
        assert isinstance(process.stdin, ferrio.StreamWriter)
        assert isinstance(process.stdout, ferrio.StreamReader)
        assert process.stderr is None
        assert process.pid == process._transport.get_pid()
        assert repr(process) == f"<Process {process.pid}>"
        assert repr(process._protocol) == (
            f"<SubprocessStreamProtocol stdin={process.stdin!r} stdout={process.stdout!r}>"
        )
        process.attribute = 1
        await process.communicate()

    loop.run_until_complete(body())


def test_what_is_refused(parity):
    async def body(case):
        aio = package(case)
        for call in (
            lambda: aio.create_subprocess_exec(),
            lambda: aio.create_subprocess_exec("true", program="true"),
            lambda: aio.create_subprocess_shell(),
            lambda: aio.create_subprocess_shell("true", None, None, None, 10, 11),
            lambda: aio.create_subprocess_shell("true", cmd="true"),
            lambda: aio.create_subprocess_shell("true", None, stdin=None),
        ):
            case.raised(call)
        for coroutine in (
            aio.create_subprocess_exec("no such program"),
            aio.create_subprocess_exec("true", text=True),
            aio.create_subprocess_shell("true", universal_newlines=True),
            aio.create_subprocess_exec("true", unknown=1),
        ):
            case(await outcome(coroutine))

    parity(body)


# Talking to it


NOTHING = pytest.param(None, marks=pytest.mark.asyncio_since("3.12", "the end of an input that is None"))


@pytest.mark.parametrize("data", [NOTHING, b"", b"some data", b"x" * MUCH, bytearray(b"mutable")])
def test_communicate(parity, data):
    async def body(case):
        process = await package(case).create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        case(process.returncode)
        stdout, stderr = await process.communicate(data)
        case(stdout == bytes(data or b""), stderr, process.returncode, process.stdin.is_closing())

    parity(body)


def test_every_mixture_of_pipes(parity):
    async def body(case):
        for stdin in (None, PIPE):
            for stdout in (DEVNULL, PIPE):
                for stderr in (DEVNULL, PIPE, STDOUT):
                    command = shell("echo out; echo err >&2; exit 3", stdin=stdin, stdout=stdout, stderr=stderr)
                    process = await command(package(case))
                    case(await process.communicate(), process.returncode)

    parity(body)


def test_a_command_line(parity):
    async def body(case):
        create = package(case).create_subprocess_shell
        process = await create("cat; echo $NAME; exit 7", PIPE, PIPE, STDOUT, env={**os.environ, "NAME": "value"})
        case(await process.communicate(b"input "), process.returncode)
        process = await create(cmd="echo something long", stdout=PIPE, limit=4)
        case(process.stdout._limit, await outcome(process.stdout.readline()), await process.wait())

    parity(body)


def test_conversation(parity):
    async def body(case):
        process = await package(case).create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            await process.stdin.drain()
            case(await process.stdout.readline())
        process.stdin.close()
        case(await process.stdin.wait_closed(), await process.stdout.read(), await process.wait())

    parity(body)


def test_a_process_that_does_not_read(parity):
    """Its input breaks, and communicate() does not mind."""

    async def body(case):
        process = await shell("exec <&-; echo done; exit 1")(package(case))
        case(await process.communicate(b"x" * MUCH), process.returncode)
        process = await shell("exec <&-; echo done; exec sleep 100")(package(case))
        await process.stdout.readline()
        process.stdin.write(b"x" * MUCH)
        case((await outcome(process.stdin.drain()))[0] in ("BrokenPipeError", "ConnectionResetError"))
        case(await outcome(process.stdin.wait_closed()))
        process.kill()
        case(await process.wait())

    _, errors = parity(body)
    assert errors == []


def test_output_slower_than_it_comes(parity):
    async def body(case):
        process = await shell("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end", limit=1000)(package(case))
        while not process.stdout._paused:
            await turns()
        case(len(await process.stdout.readexactly(MUCH)), await process.stdout.read(), await process.wait())

    parity(body)


@pytest.mark.ferrio_only("asyncio loses it")
def test_what_a_cancelled_communicate_has_read(parity):
    async def body(case):
        read_end, write_end = os.pipe()
        process = await shell("read line; echo first; read line; echo second", stdin=read_end)(package(case))
        os.close(read_end)
        communicating = asyncio.ensure_future(process.communicate())
        await turns()
        waiter = process.stdout._waiter
        os.write(write_end, b"line\n")
        while process.stdout._waiter in (None, waiter):
            await turns()
        communicating.cancel()
        case(await outcome(communicating))
        os.write(write_end, b"line\n")
        os.close(write_end)
        case(await process.communicate(), process.returncode)

    recorded, _ = parity(body)
    assert recorded == [("CancelledError", ""), ((b"first\nsecond\n", b""), 0)]


# Its end


@pytest.mark.parametrize("method", ["kill", "terminate", "send_signal"])
def test_signals(parity, method):
    async def body(case):
        process = await package(case).create_subprocess_exec(*CAT, stdin=PIPE)
        arguments = (signal.SIGINT,) if method == "send_signal" else ()
        case(getattr(process, method)(*arguments), await process.wait(), process.returncode)
        process.stdin.close()
        await turns()
        case.raised(getattr(process, method), *arguments)

    parity(body)


def test_many_wait(parity):
    async def body(case):
        process = await package(case).create_subprocess_exec(*CAT, stdin=PIPE)
        waiting = [asyncio.ensure_future(process.wait()) for _ in range(3)]
        await turns()
        waiting[1].cancel()
        await turns()
        process.stdin.close()
        case([await outcome(task) for task in waiting], await process.wait())

    parity(body)


def test_many_processes(parity):
    async def body(case):
        async def one(number):
            process = await shell(f"cat; echo {number}")(package(case))
            return (await process.communicate(b"%d " % number))[0]

        case(await asyncio.gather(*map(one, range(20))))

    parity(body)


def test_two_hundred_processes(parity):
    async def body(case):
        async def one(number):
            process = await shell(f"cat; exit {number % 100}")(package(case))
            return *await process.communicate(b"%d" % number), process.returncode

        case(await asyncio.gather(*map(one, range(200))))

    parity(body)


def test_input_that_is_closed_early(parity):
    async def body(case):
        process = await shell("exec <&-; echo done; exit 3")(package(case))
        case(await process.communicate(bytes(2 * MUCH)), process.returncode)

    parity(body)


@pytest.mark.asyncio_since("3.14", "waiters that wake when the process ends, and not with its pipes")
@pytest.mark.parametrize("by", ["wait", "communicate"])
def test_a_grandchild_keeps_the_pipe(parity, tmp_path, by):
    """The exit is told at once; the output ends with the last who can write to it."""

    async def body(case):
        # It goes on when this is opened.
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        process = await shell(f"(read line <{fifo}; echo late) & echo early; exit 4")(package(case))
        if by == "wait":
            case(await process.wait(), await process.stdout.readline())
            fifo.write_text("\n")
            case(await process.stdout.read())
        else:
            communicating = asyncio.ensure_future(process.communicate())
            while process.returncode is None:
                await asyncio.sleep(0)
            case(communicating.done())
            fifo.write_text("\n")
            case(await communicating)
        case(process.returncode)
        fifo.unlink()

    parity(body)


# What they are made of


def test_debug_mode_tells(parity, caplog):
    async def body(case):
        case.loop.set_debug(True)
        case.loop.slow_callback_duration = 100
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            process = await shell("exec <&-; echo; exit")(package(case))
            await process.stdout.readline()
            await process.communicate(b"x" * MUCH)
        texts = [record.getMessage().replace(str(process.pid), "PID") for record in caplog.records]
        case(sorted(text for text in texts if "communicate" in text and "stdin got" not in text))

    parity(body)


def test_overridden(loop):
    class Mine(_ferrio.Process):
        async def _feed_stdin(self, input):
            await super()._feed_stdin(input.upper())

        async def wait(self):
            return "waited", await super().wait()

    async def body():
        process = await ferrio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        mine = Mine(process._transport, process._protocol, loop)
        assert await mine.communicate(b"data") == (b"DATA", None)
        assert await mine.wait() == ("waited", 0)
        assert repr(mine) == f"<Mine {process.pid}>"

    loop.run_until_complete(body())


@pytest.mark.parametrize("ours", ["loop", "processes"])
def test_with_asyncios_other_half(ours):
    async def body(aio):
        process = await aio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        process.stdin.write(b"line\n")
        await process.stdin.drain()
        assert await process.stdout.readline() == b"line\n"
        assert await process.communicate(b"x" * MUCH) == (b"x" * MUCH, None)
        assert process.returncode == 0

    loop = ferrio.new_event_loop() if ours == "loop" else asyncio.new_event_loop()
    try:
        loop.run_until_complete(body(asyncio if ours == "loop" else ferrio))
    finally:
        loop.close()


def test_nothing_stays():
    async def body():
        # Without a writer: it and the protocol know each other, as in asyncio.
        process = await shell("echo", stdin=DEVNULL)(ferrio)
        await process.communicate()
        await process.wait()
        await turns(10)
        parts = (process, process.stdout, process.stderr, process._protocol, process._transport)
        return list(map(weakref.ref, parts))

    with without_collector():
        gone = ferrio.run(body())
        assert [part() for part in gone] == [None] * len(gone)
