"""Follows a file as it grows, like `tail -F`: on futures and timers of the loop, with no thread and no task of its own.

    python examples/tail.py FILE

A regular file is always "ready", so a loop cannot be asked to watch one; it is looked at from time to time instead.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import BinaryIO

import ferrio


def is_replaced(path: str, file: BinaryIO) -> bool:
    """Whether `path` is another file than the open one by now."""
    try:
        return not os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False  # between the two halves of a rotation


def has_news(path: str, file: BinaryIO) -> bool:
    """Whether the open file has grown or shrunk, or was replaced."""
    return os.fstat(file.fileno()).st_size != file.tell() or is_replaced(path, file)


def news(path: str, file: BinaryIO, interval: float) -> asyncio.Future[None]:
    """A future that is done once there is news of the file."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    timer: asyncio.Handle

    def look() -> None:
        nonlocal timer
        if future.done():
            return  # cancelled in this very turn
        if has_news(path, file):
            future.set_result(None)
        else:
            timer = loop.call_later(interval, look)

    timer = loop.call_soon(look)
    # Whoever waits can be cancelled, and nobody is to look any longer then.
    future.add_done_callback(lambda _: timer.cancel())
    return future


async def follow(path: str, *, from_start: bool = False, interval: float = 0.1) -> AsyncIterator[str]:
    """The lines of `path`, without their ends, each as soon as it is complete.

    A file that was rotated away is read to its end before the new one begins; one that was truncated is read from its
    start. The file is looked at every `interval` seconds.
    """
    file = open(path, "rb")  # noqa: SIM115 - which file it is changes
    try:
        if not from_start:
            file.seek(0, os.SEEK_END)
        partial = b""
        while True:
            replaced = is_replaced(path, file)  # asked before the rest is read, of which nothing is missed then
            while data := file.read(65536):
                *lines, partial = (partial + data).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if replaced:
                try:
                    successor = open(path, "rb")  # noqa: SIM115
                except FileNotFoundError:
                    continue
                file.close()
                file = successor
                if partial:
                    yield partial.decode(errors="replace")
                    partial = b""
            elif os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)
                partial = b""
            else:
                await news(path, file, interval)
    finally:
        file.close()


async def main(path: str) -> None:
    async for line in follow(path):
        print(line, flush=True)


if __name__ == "__main__":
    try:
        ferrio.run(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
