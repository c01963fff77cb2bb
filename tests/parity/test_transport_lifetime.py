"""TCP transports: who keeps whom alive, and what is left when nobody does."""

import asyncio
import gc
import os
import socket
import weakref

import pytest
from support.guard import without_collector
from support.peers import (
    connect,
    reset,
    tcp_pair,
    turns,
)

pytestmark = pytest.mark.every_door


@pytest.mark.ferrio_only("asyncio leaves some of it to the collector")
def test_nothing_is_left_for_the_collector(loop):
    """The protocol is released with the loss, and the transport when nobody keeps it."""

    class Plain(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.set()

    async def body(how):
        with tcp_pair() as (ours, theirs):
            lost.clear()
            transport, protocol = await loop.create_connection(Plain, sock=ours)
            if how == "reset":
                reset(theirs)
            elif how == "end":
                theirs.close()
            else:
                getattr(transport, how)()
            references = weakref.ref(transport), weakref.ref(protocol)
            del protocol
            await lost.wait()
            await turns()
            assert references[1]() is None, f"the protocol is kept after {how}"
            del transport
            assert references[0]() is None, f"the transport is kept after {how}"

    lost = asyncio.Event()
    with without_collector():
        for how in ("close", "abort", "reset", "end"):
            loop.run_until_complete(body(how))


def test_an_unclosed_transport_complains(loop):
    async def body():
        with tcp_pair() as (ours, theirs):
            transport, _ = await connect(ours, lambda *event: None)
            transport.pause_reading()
            # What has been paused for long is not watched any more.
            theirs.sendall(b"x")
            await turns()
            text = f"unclosed transport {transport!r}"
            with pytest.warns(ResourceWarning) as warnings:
                del transport, _
                gc.collect()
            assert [str(warning.message) for warning in warnings] == [text]
            assert ours.fileno() == -1

    loop.run_until_complete(body())


def test_a_loop_that_is_closed_with_a_transport_open(loop):
    async def body():
        return await connect(ours, lambda *event: None)

    with tcp_pair() as (ours, theirs):
        transport, _ = loop.run_until_complete(body())
        loop.close()
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport, _
            gc.collect()


def test_a_number_that_changes_hands(loop):
    """A descriptor that its user closes while it is watched harms nobody, and its next owner gets its own events."""

    async def body():
        with tcp_pair() as (ours, theirs), tcp_pair() as (second, peer):
            transport, protocol = await connect(ours, lambda *event: None)
            number = ours.detach()
            os.dup2(second.fileno(), number)
            moved = socket.socket(fileno=number)
            moved.setblocking(False)
            transport.abort()
            await protocol.lost
            await turns()
            new, its_protocol = await connect(moved, lambda *event: None)
            peer.sendall(b"for the new owner")
            await its_protocol.until("data_received")
            assert its_protocol.data == b"for the new owner"
            new.close()
            await its_protocol.lost

    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.12", "a server that waits for its connections")
def test_methods_can_be_replaced(loop):
    """Tests of other projects put doubles in the place of a transport's methods."""
    written = []

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write = written.append
        transport.write(b"data")
        transport.itself = transport
        transport.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)
        return weakref.ref(transport)

    reference = loop.run_until_complete(main())
    gc.collect()
    assert reference() is None
    assert written == [b"data"]
