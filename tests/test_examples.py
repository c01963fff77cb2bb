"""The examples run, and print what they should."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

sys.path.insert(0, str(EXAMPLES))
import tail  # noqa: E402

# Runs a script on a loop whose clock goes twenty times as fast.
IN_A_HURRY = """
import runpy, sys
import ferrio

class EventLoop(ferrio.EventLoop):
    def time(self):
        return 20 * super().time()

    def call_later(self, delay, callback, *args, context=None):
        return super().call_later(delay / 20, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        return super().call_at(when / 20, callback, *args, context=context)

ferrio.EventLoop = EventLoop
runpy.run_path(sys.argv[1], run_name="__main__")
"""

NOTEBOOK = r"""
── In \[8\]: the imports ─+
CPython .*, ferrio .*

── In \[ \]: whichever connects first ─+
{connections}

── In \[ \]: a runner ─+
hello

── In \[ \]: timeouts, of 10 and of 1\.6 seconds ─+
The long operation timed out, but we've handled it\.
timeout!
This statement will run regardless\.

── In \[ \]: the date, once a second for five seconds ─+
(....-..-.. ..:..:..(\.\d+)?
){{5}}
── In \[9\], In \[10\]: a task group ─+
started at ..:..:..
Task 1: start
Task 2: start
Task 1: done
Task 2: done
finished at ..:..:..

── In \[11\]: ending a task group from inside ─+
<coroutine object main at 0x[0-9a-f]+>
Task 1: start
Task 2: start
Task 1: done
"""
CONNECTIONS = "(IPv4 connection established.\nIPv6|IPv6 connection established.\nIPv4) connection established."
NO_CONNECTIONS = "asyncio.as_completed.* is an asynchronous iterator from Python 3.13 on: not run."


def run(*arguments, **options):
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=15, **options)


def test_the_notebook():
    done = run("-c", IN_A_HURRY, EXAMPLES / "notebook.py")
    assert (done.returncode, done.stderr) == (0, "")
    connections = CONNECTIONS if sys.version_info >= (3, 13) else NO_CONNECTIONS
    assert re.fullmatch(NOTEBOOK.format(connections=connections), done.stdout), done.stdout


def test_side_by_side():
    small = """
import side_by_side
side_by_side.ROUNDS = 1
side_by_side.WORKLOADS = {name: (workload, 1000) for name, (workload, _) in side_by_side.WORKLOADS.items()}
side_by_side.main()
"""
    done = run("-c", small, cwd=EXAMPLES)
    assert (done.returncode, done.stderr) == (0, "")
    _, title, _, head, *rows = done.stdout.splitlines()
    assert title.startswith("CPython ")
    assert head.split() == ["asyncio", "ferrio", "ratio"]
    assert len(rows) == 6
    assert all(re.fullmatch(r".+ +\d+ +\d+ +\d+\.\dx", row) for row in rows)


class TestTail:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "log"
        path.write_text("old\n")
        return path

    @pytest.fixture
    def follow(self, loop_factory, path):
        """`follow(body)` runs `body(lines)` with the lines of the file, looked at all the time."""

        async def main(body, options):
            lines = tail.follow(str(path), interval=0, **options)
            try:
                await body(lines)
            finally:
                await lines.aclose()

        def follow(body, **options):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main(body, options))

        return follow

    def test_lines_from_the_start(self, path, follow):
        async def body(lines):
            assert await anext(lines) == "old"
            with path.open("a") as file:
                file.write("one\ntwo\n")
            assert [await anext(lines), await anext(lines)] == ["one", "two"]

        follow(body, from_start=True)

    def test_a_line_comes_when_it_is_complete(self, path, follow):
        async def body(lines):
            assert await anext(lines) == "old"
            waiting = asyncio.create_task(anext(lines))
            for part in "be", "gin", "ning":
                with path.open("a") as file:
                    file.write(part)
                for _ in range(10):
                    await asyncio.sleep(0)
                assert not waiting.done()
            with path.open("a") as file:
                file.write("\n")
            assert await waiting == "beginning"

        follow(body, from_start=True)

    def test_only_what_comes_later(self, path, follow):
        async def body(lines):
            waiting = asyncio.create_task(anext(lines))
            await asyncio.sleep(0)
            with path.open("a") as file:
                file.write("new\n")
            assert await waiting == "new"

        follow(body)

    def test_rotation(self, path, follow):
        async def body(lines):
            assert await anext(lines) == "old"
            with path.open("a") as file:
                path.rename(path.with_suffix(".1"))
                path.write_text("in the new file\n")
                file.write("last words, without an end")
            assert [await anext(lines), await anext(lines)] == ["last words, without an end", "in the new file"]

        follow(body, from_start=True)

    def test_truncation(self, path, follow):
        async def body(lines):
            assert await anext(lines) == "old"
            waiting = asyncio.create_task(anext(lines))
            os.truncate(path, 0)
            for _ in range(10):
                await asyncio.sleep(0)
            path.write_text("a\n")
            assert await waiting == "a"

        follow(body, from_start=True)

    def test_whoever_is_cancelled_as_the_news_comes(self, loop, path):
        async def body():
            with path.open("rb") as file:
                tail.news(str(path), file, 0).cancel()
                await asyncio.sleep(0)

        loop.run_until_complete(body())

    def test_whoever_waits_can_be_cancelled(self, path, follow):
        async def body(lines):
            assert await anext(lines) == "old"
            waiting = asyncio.create_task(anext(lines))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        follow(body, from_start=True)

    def test_the_program_and_ctrl_c(self, path):
        command = [sys.executable, "-W", "error", str(EXAMPLES / "tail.py"), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
            # Until it has begun to follow, what is written may count as old: so until a line arrives.
            os.set_blocking(program.stdout.fileno(), False)
            line = ""
            while not line:
                with path.open("a") as file:
                    file.write("hello\n")
                line = program.stdout.readline()
            program.send_signal(signal.SIGINT)
            os.set_blocking(program.stdout.fileno(), True)
            _, errors = program.communicate(timeout=10)
        assert line == "hello\n"
        assert (program.returncode, errors) == (130, "")
