"""TCP transports: how a connection ends, from either side and in halves."""

import asyncio
import contextlib
import logging
import socket

import pytest
from support.peers import (
    MUCH,
    connect,
    receive_all,
    receive_exactly,
    reset,
    shrink,
    tcp_pair,
    turns,
)

pytestmark = pytest.mark.every_door


# What protocols are told


def test_a_reset_by_the_peer(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            _, protocol = await connect(ours, case)
            reset(theirs)
            case(type(await protocol.lost))
            await turns()

    recorded, errors = parity(body)
    lost = ("connection_lost", "ConnectionResetError", "[Errno 104] Connection reset by peer")
    assert recorded == ["connection_made", lost, ConnectionResetError]
    assert not errors


def test_a_reset_while_output_waits(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            transport.pause_reading()
            transport.write(bytes(MUCH))
            reset(theirs)
            case(isinstance(await protocol.lost, ConnectionError), transport.get_write_buffer_size())

    parity(body)


@pytest.mark.asyncio_since("3.14", "writelines that looks")
def test_writing_to_a_connection_that_is_lost(parity, caplog):
    """It is ignored, and from the fifth time on logged."""

    async def body(case):
        with tcp_pair() as (ours, theirs), caplog.at_level(logging.WARNING, "asyncio"):
            caplog.clear()
            transport, protocol = await connect(ours, case)
            transport.abort()
            for _ in range(7):
                transport.write(b"x")
                transport.writelines([b"x"])
                case(len(caplog.records))
            transport.write(b"")
            await protocol.lost
            transport.write(b"x")
            case([record.message for record in caplog.records])

    recorded, _ = parity(body)
    assert recorded[-1] == ["socket.send() raised exception."] * 11


# Closing


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_ending_it_from_inside(parity, how, where):
    """connection_lost comes once, through the ready queue and so never from inside the call."""

    async def body(case):
        def end(protocol):
            case("begin")
            for _ in range(2):
                getattr(protocol.transport, how)()
            case("end", protocol.transport.is_closing())

        with tcp_pair() as (ours, theirs):
            theirs.sendall(b"hello")
            _, protocol = await connect(ours, case, **{where: end})
            with contextlib.suppress(OSError):  # it may be gone
                theirs.shutdown(socket.SHUT_WR)
            await protocol.lost
            await turns()
            case(ours.fileno())

    recorded, _ = parity(body)
    begin = recorded.index("begin")
    assert recorded[begin + 1] == ("end", True)
    assert recorded.count(("connection_lost", "NoneType", "None")) == 1


def test_what_was_written_before_close_is_delivered(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            data = bytes(range(256)) * 4000
            transport.write(data)
            transport.close()
            case(transport.is_closing(), transport.get_write_buffer_size() > 0)
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(received == data, await protocol.lost, transport.get_write_buffer_size())

    recorded, _ = parity(body)
    assert recorded[-1] == (True, None, 0)


@pytest.mark.parametrize("end", ["close", "abort", "pause_reading"])
def test_what_is_ready_when_it_ends_is_not_received(parity, end):
    """By a callback of the same turn, before the transport's own."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            theirs.sendall(b"never received")
            asyncio.get_running_loop().call_soon(getattr(transport, end))
            await turns()
            case("ended")
            transport.close()
            await protocol.lost

    assert not any("never received" in str(event) for event in parity(body)[0])


def test_chunks_that_end_the_connection(parity):
    """Nothing of them is sent."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)

            def chunks():
                yield b"one"
                transport.abort()
                yield b"two"

            transport.writelines(chunks())
            await protocol.lost
            case(receive_all(theirs))

    recorded, _ = parity(body)
    assert recorded[-1] == b""


def test_write_eof_of_a_closing_transport(parity):
    """It does nothing, and what is written is told nothing of it."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.write(bytes(MUCH))
            transport.close()
            transport.write_eof()
            case.raised(transport.write, b"x")
            transport.abort()
            await protocol.lost

    parity(body)


def test_abort_drops_what_waits(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.write(bytes(MUCH))
            transport.abort()
            case(transport.get_write_buffer_size(), await protocol.lost)

    recorded, _ = parity(body)
    assert recorded[-1] == (0, None)


def test_aborting_while_closing_ends_it_once(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.write(bytes(MUCH))
            transport.close()
            transport.abort()
            await protocol.lost
            await turns()

    recorded, _ = parity(body)
    assert recorded.count(("connection_lost", "NoneType", "None")) == 1


@pytest.mark.asyncio_since("3.14", "one end for it")
def test_closing_while_resumed(parity):
    """resume_writing that ends the connection, called when the last byte has gone."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case, resume_writing=lambda p: p.transport.abort())
            transport.set_write_buffer_limits(0)
            transport.write(bytes(MUCH))
            await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, MUCH)
            await protocol.lost
            await turns()

    recorded, _ = parity(body)
    assert recorded == ["connection_made", "pause_writing", "resume_writing", ("connection_lost", "NoneType", "None")]


# Half-close


@pytest.mark.at_once("it waits for the bytes in the turn that writes them")
@pytest.mark.parametrize("keep", [True, False, None])
def test_end_of_input(parity, keep):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case, eof_received=lambda p: keep)
            theirs.sendall(b"last words")
            theirs.shutdown(socket.SHUT_WR)
            await protocol.until("eof_received")
            await turns()
            case(transport.is_closing(), transport.is_reading())
            if keep:
                transport.write(b"answer")
                case(receive_exactly(theirs, 6))
                transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1:3] == [("data_received", "bytes", b"last words"), "eof_received"]


@pytest.mark.ferrio_only("asyncio tells of it again")
def test_the_end_of_input_is_told_once(loop, events):
    """Also to who pauses and resumes afterwards."""

    async def body():
        with tcp_pair() as (ours, theirs):
            record = lambda *event: events.append(event[0])  # noqa: E731
            transport, protocol = await connect(ours, record, eof_received=lambda p: True)
            theirs.shutdown(socket.SHUT_WR)
            await protocol.until("eof_received")
            transport.pause_reading()
            transport.resume_reading()
            await turns()
            transport.close()
            await protocol.lost

    loop.run_until_complete(body())
    assert events == ["connection_made", "eof_received", "connection_lost"]


@pytest.mark.asyncio_since("3.12", "the same for writelines")
def test_write_eof_comes_behind_what_waits(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            case(transport.can_write_eof())
            transport.write(bytes(MUCH))
            transport.write_eof()
            transport.write_eof()
            case.raised(transport.write, b"more")
            case.raised(transport.writelines, [b"more"])
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(len(received), transport.is_closing())
            theirs.sendall(b"still here")
            await protocol.until("data_received")
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert (MUCH, False) in recorded
    assert ("RuntimeError", "Cannot call write() after write_eof()") in recorded
