"""Readers and writers: on a transport in memory, and on connections whose other end the test holds."""

import asyncio
import contextlib

from support import case
from support.case import describe
from support.peers import tcp_pair

READERS = ["read", "readexactly", "readline", "readuntil"]

#: A message of many pieces.
LARGE = bytes(range(256)) * 1024

#: As much as a read of a large message asks for.
PIECE = 1 << 16


class Transport(asyncio.Transport):
    """A transport in memory, which records what it is asked for."""

    def __init__(self, record=lambda *event: None):
        super().__init__()
        self.record = record
        self.closing = False

    def __repr__(self):
        return "<Transport>"

    def pause_reading(self):
        self.record("pause")

    def resume_reading(self):
        self.record("resume")

    def write(self, data):
        self.record("write", bytes(data))

    def is_closing(self):
        return self.closing

    def close(self):
        self.record("close")
        self.closing = True


async def outcome(awaitable):
    """What it returns, or what it raises, with what a reader's exceptions know."""
    try:
        return await awaitable
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        return describe(error), getattr(error, "partial", None), getattr(error, "consumed", None)
    except (Exception, asyncio.CancelledError) as error:
        return describe(error)


@contextlib.asynccontextmanager
async def stream(aio, **keywords):
    """A reader and a writer on one end of a connection, and the other end in the test's hand."""
    with tcp_pair() as (ours, theirs):
        reader, writer = await aio.open_connection(sock=ours, **keywords)
        try:
            yield reader, writer, theirs
        finally:
            writer.close()
            await case.outcome(writer.wait_closed())


async def serve(aio, callback, **keywords):
    server = await aio.start_server(callback, "127.0.0.1", 0, **keywords)
    return server, server.sockets[0].getsockname()


async def read_pieces(reader, count, size=PIECE):
    """As many bytes, by reads of at most `size`, none of which may be the end."""
    data = bytearray()
    while len(data) < count:
        piece = await reader.read(size)
        assert 0 < len(piece) <= size
        data += piece
    return bytes(data)
