"""Child processes: what is asked of Popen, and what is refused."""

import asyncio
import os
import subprocess

import pytest
from support.case import describe
from support.peers import Failure, fail, nothing
from support.processes import BLOCKED, Recording, start

pytestmark = [pytest.mark.every_door, pytest.mark.usefixtures("no_zombies")]

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
