"""Child processes, and a protocol that records what it is told of one."""

import asyncio
import os

from support.case import describe
from support.peers import Recorder, nothing

BLOCKED = ("cat",)
"""It ends with its input."""


class Recording(Recorder, asyncio.SubprocessProtocol):
    """Records every call, and keeps what came out of the process."""

    def __init__(self, record=nothing, **on):
        super().__init__(record, **on)
        self.data = {1: bytearray(), 2: bytearray()}

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        self._called("pipe_data_received", fd, data)

    def pipe_connection_lost(self, fd, exc):
        self._called("pipe_connection_lost", fd, describe(exc))

    def process_exited(self):
        self._called("process_exited")

    def connection_lost(self, exc):
        self._called("connection_lost", describe(exc))


async def start(*command, record=nothing, on=None, **keywords):
    loop = asyncio.get_running_loop()
    return await loop.subprocess_exec(lambda: Recording(record, **(on or {})), *command, **keywords)


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
