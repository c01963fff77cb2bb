"""Memory: by how much the process grows, divided by what it holds."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from ssl import SSLContext
from types import ModuleType
from typing import Any

from load import Load, Server
from row import Group, Row, Sample, Target, first_line
from session import Session

from .net import ANYWHERE, port_of

GROUP = Group("memory", "Memory", unit="bytes of resident memory for one")

TASKS = 100_000
CONNECTIONS = 10_000

SMALLER = Target(1.0, rivals=("asyncio", "uvloop"))


def resident() -> int:
    """Bytes of this process that are in memory, garbage excluded."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def sleeping_tasks(aio: ModuleType) -> Sample:
    """a task in an hour's `sleep`"""
    before = resident()
    tasks = [aio.create_task(aio.sleep(3600)) for _ in range(TASKS)]
    await aio.sleep(0)
    await aio.sleep(0)
    grown = resident() - before
    for task in tasks:
        task.cancel()
    await aio.wait(tasks)
    return Sample(grown / TASKS)


async def idle_connections(aio: ModuleType, count: int = CONNECTIONS, ssl: SSLContext | None = None) -> Sample:
    """an accepted connection with a Protocol on it, on which nothing happens"""
    open_connections = 0

    class Idle(aio.Protocol):  # type: ignore[misc, name-defined]
        def connection_made(self, transport: Any) -> None:
            nonlocal open_connections
            self.transport = transport
            open_connections += 1

    loop = aio.get_running_loop()
    allow_descriptors(count + 100)
    # The client connects faster than a loop accepts.
    server = await loop.create_server(Idle, *ANYWHERE, backlog=4096, ssl=ssl)
    await loop.run_in_executor(None, resident)  # the thread's own memory is not a connection's
    before = resident()
    command = Load("idle", connections=count, tls=ssl is not None).command(Server(port_of(server), os.getpid()))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        await loop.run_in_executor(None, client.stdout.readline)
        while open_connections < count:
            await aio.sleep(0.01)
        grown = resident() - before
        client.stdin.close()
        await loop.run_in_executor(None, client.wait)
    server.close()
    return Sample(grown / count)


def allow_descriptors(wanted: int) -> None:
    """Raise this process's limit on open files, which the load generator inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise RuntimeError(f"needs {wanted:,} descriptors, the limit is {hard:,}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def add(name: str, body: Callable[[ModuleType], Coroutine[Any, Any, Sample]]) -> None:
    def measure(session: Session) -> Sample:
        return session.run(body(session.aio))

    GROUP.rows.append(Row(name, first_line(body), measure, SMALLER, once=True))


add(f"{TASKS} sleeping tasks", sleeping_tasks)
add(f"{CONNECTIONS} idle connections", idle_connections)
