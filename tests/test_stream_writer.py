"""StreamWriter and FlowControlMixin: writing and draining into a transport in memory."""

import asyncio
import gc
import warnings

import pytest
from support.case import neutral
from support.peers import turns
from support.streams import Transport, outcome
from support.traces import package

import ferrio
from ferrio._ferrio import FlowControlMixin


def test_writer(parity):
    class Other:
        def __getattr__(self, name):
            return lambda *args: (name, args)

        def is_closing(self):
            return True

    async def body(case):
        writer = package(case).StreamWriter(Other(), None, None, case.loop)
        case(writer.write(b"data"), writer.writelines([b"x"]), writer.write_eof(), writer.can_write_eof())
        case(writer.close(), writer.is_closing(), writer.get_extra_info("name"), writer.get_extra_info("name", 1))
        case(type(writer.transport).__name__, writer._complete_fut.done(), writer._complete_fut.result())

    parity(body)


def test_drain(parity):
    async def body(case):
        reader = package(case).StreamReader()
        protocol = package(case).StreamReaderProtocol(reader)
        transport = Transport(case)
        protocol.connection_made(transport)
        writer = package(case).StreamWriter(transport, protocol, reader, case.loop)
        case(await outcome(writer.drain()))
        protocol.pause_writing()
        case.raised(protocol.pause_writing)
        draining = [asyncio.ensure_future(outcome(writer.drain())) for _ in range(3)]
        await turns()
        case([task.done() for task in draining], len(protocol._drain_waiters))
        draining[1].cancel()
        await turns()
        case([task.done() for task in draining], len(protocol._drain_waiters))
        protocol.resume_writing()
        case.raised(protocol.resume_writing)
        case(await asyncio.gather(*draining), len(protocol._drain_waiters))
        protocol.pause_writing()
        draining = [asyncio.ensure_future(outcome(writer.drain())) for _ in range(3)]
        await turns()
        transport.closing = True
        protocol.connection_lost(ValueError("lost") if case else None)
        case(await asyncio.gather(*draining), await outcome(writer.drain()))
        writer._reader = None
        case(await outcome(writer.drain()), await outcome(writer.wait_closed()))

    parity(body)


def test_drain_of_a_closing_transport_gives_the_loop_a_turn(parity):
    async def body(case):
        protocol = package(case).StreamReaderProtocol(None)
        transport = Transport(case)
        transport.closing = True
        writer = package(case).StreamWriter(transport, protocol, None, case.loop)
        case.loop.call_soon(case, "between")
        case(await outcome(writer.drain()))

    recorded, _ = parity(body)
    assert recorded == ["between", None]


@pytest.mark.parametrize("name", ["FlowControlMixin", "StreamReaderProtocol"])
def test_overridden_drain_helper(loop, name):
    base = FlowControlMixin if name == "FlowControlMixin" else ferrio.StreamReaderProtocol

    class Derived(base):
        async def _drain_helper(self):
            calls.append("drain")

        def _get_close_waiter(self, stream):
            calls.append(stream)
            return asyncio.sleep(0)

    async def body():
        protocol = Derived(*(() if base is FlowControlMixin else (None,)))
        writer = ferrio.StreamWriter(Transport(), protocol, None, loop)
        await writer.drain()
        await writer.wait_closed()
        assert calls == ["drain", writer]
        writer.close()

    calls = []
    loop.run_until_complete(body())


@pytest.mark.asyncio_since("3.13", "a warning")
@pytest.mark.parametrize("closing", [False, True])
def test_a_writer_that_is_not_closed(parity, closing):
    async def body(case):
        transport = Transport(case)
        transport.closing = closing
        writer = package(case).StreamWriter(transport, None, None, case.loop)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del writer
            gc.collect()
        case([(warning.category.__name__, neutral(str(warning.message))) for warning in caught])

    parity(body)
