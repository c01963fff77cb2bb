"""Pipes with one end or both in a loop."""

import asyncio
import contextlib
import os

from support.peers import Recording

MUCH = bytes(range(256)) * 4096
"""More than a pipe holds."""


@contextlib.contextmanager
def pipe():
    """The two ends of a pipe, unbuffered files."""
    read, write = os.pipe()
    with open(read, "rb", 0) as reader, open(write, "wb", 0) as writer:
        yield reader, writer


async def connect_read(file, record, **on):
    loop = asyncio.get_running_loop()
    return await loop.connect_read_pipe(lambda: Recording(record, **on), file)


async def connect_write(file, record, **on):
    loop = asyncio.get_running_loop()
    return await loop.connect_write_pipe(lambda: Recording(record, **on), file)
