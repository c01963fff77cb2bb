"""Pipe transports that read: what a protocol is told, and in which order."""

import asyncio

import pytest
from support.peers import Recording, fail, nothing, turns
from support.pipes import MUCH, connect_read, connect_write, pipe

pytestmark = pytest.mark.every_door


def test_reading_from_begin_to_end(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case)
            case(protocol.transport is transport, transport.get_protocol() is protocol, transport.is_reading())
            writer.write(b"hello")
            await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")
            await turns()
            case(transport.is_closing(), transport.is_reading(), reader.closed, transport.get_protocol())

    assert parity(body) == (
        [
            "connection_made",
            (True, True, True),
            ("data_received", "bytes", b"hello"),
            "eof_received",
            ("connection_lost", "NoneType", "None"),
            (True, False, True, None),
        ],
        [],
    )


def test_what_was_there_before_is_read_after_connection_made(parity):
    async def body(case):
        with pipe() as (reader, writer):
            writer.write(b"early")
            writer.close()
            _, protocol = await connect_read(reader, case)
            await protocol.until("connection_lost")

    recorded, _ = parity(body)
    assert recorded == [
        "connection_made",
        ("data_received", "bytes", b"early"),
        "eof_received",
        ("connection_lost", "NoneType", "None"),
    ]


def test_much_arrives_whole(loop):
    async def body():
        with pipe() as (reader, writer):
            _, source = await connect_write(writer, nothing)
            _, sink = await connect_read(reader, nothing)
            source.transport.write(MUCH)
            source.transport.write(MUCH)
            source.transport.close()
            await sink.until("connection_lost")
            return sink.data

    assert loop.run_until_complete(body()) == MUCH + MUCH


def test_an_exception_of_data_received_is_reported_and_the_pipe_goes_on(loop, exceptions, events):
    async def body():
        with pipe() as (reader, writer):
            _, protocol = await connect_read(reader, lambda *event: events.append(event), data_received=fail)
            for _ in range(2):
                writer.write(b"x")
                await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())
    assert [error for _, error in exceptions.take()] == [("Failure", "in a protocol")] * 2
    assert events[-1] == ("connection_lost", "NoneType", "None")


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
def test_an_exception_at_either_end_is_reported(loop, exceptions, events, method):
    async def body():
        with pipe() as (reader, writer):
            _, protocol = await connect_read(reader, lambda *event: events.append(event[0]), **{method: fail})
            writer.write(b"x")
            await protocol.until("data_received")
            writer.close()
            await protocol.until("connection_lost")
            await turns()
            assert reader.closed

    loop.run_until_complete(body())
    assert events == ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert [error for _, error in exceptions.take()] == [("Failure", "in a protocol")]


@pytest.mark.parametrize("method", ["connection_made", "data_received", "connection_lost"])
def test_system_exit_leaves_the_loop(loop, method):
    """At once, and the loop can go on."""

    def leave(protocol):
        transports.append(protocol.transport)
        raise SystemExit

    async def body():
        _, protocol = await connect_read(reader, nothing, **{method: leave})
        transports.append(protocol.transport)
        writer.write(b"x")
        if method == "connection_lost":
            transports[0].close()
        await asyncio.sleep(3600)

    async def end():
        transports[0].close()
        await turns()

    transports = []
    with pipe() as (reader, writer):
        task = loop.create_task(body())
        with pytest.raises(SystemExit):
            loop.run_forever()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(end())
        assert reader.closed


def test_pause_stops_delivery_at_once(parity):
    """And resume_reading() delivers what is left, with nothing new."""

    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case, data_received=lambda p: p.transport.pause_reading())
            writer.write(b"first")
            await protocol.until("data_received")
            case(transport.is_reading())
            writer.write(b"second")
            await turns()
            case("resumes")
            transport.resume_reading()
            await protocol.until("data_received")
            transport.pause_reading()
            transport.resume_reading()
            transport.resume_reading()
            case(transport.is_reading())
            transport.close()
            transport.pause_reading()
            transport.resume_reading()
            case(transport.is_reading())
            await protocol.until("connection_lost")

    recorded, _ = parity(body)
    assert recorded.index("resumes") < recorded.index(("data_received", "bytes", b"second"))


def test_paused_before_it_has_begun(parity):
    async def body(case):
        with pipe() as (reader, writer):
            writer.write(b"early")
            transport, protocol = await connect_read(
                reader, case, connection_made=lambda p: p.transport.pause_reading()
            )
            await turns()
            case("resumes")
            transport.resume_reading()
            await protocol.until("data_received")
            transport.close()
            await protocol.until("connection_lost")

    recorded, _ = parity(body)
    assert recorded[:2] == ["connection_made", "resumes"]


def test_close_is_told_in_a_later_turn_and_once(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case)
            transport.close()
            transport.close()
            case("closed", transport.is_closing(), reader.closed)
            await protocol.until("connection_lost")
            await turns()
            transport.close()
            await turns()
            case(reader.closed)

    assert parity(body)[0] == [
        "connection_made",
        ("closed", True, False),
        ("connection_lost", "NoneType", "None"),
        True,
    ]


@pytest.mark.parametrize("end", ["close", "pause_reading"])
def test_what_is_ready_when_it_ends_is_not_read(parity, end):
    """By a callback of the same turn, before the transport's own."""

    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_read(reader, case)
            writer.write(b"never read")
            asyncio.get_running_loop().call_soon(getattr(transport, end))
            await turns()
            case("ended")
            transport.close()
            await protocol.until("connection_lost")

    assert ("data_received", "bytes", b"never read") not in parity(body)[0]


def test_close_in_connection_made(parity):
    async def body(case):
        with pipe() as (reader, writer):
            writer.write(b"never read")
            _, protocol = await connect_read(reader, case, connection_made=lambda p: p.transport.close())
            await protocol.until("connection_lost")

    assert parity(body)[0] == ["connection_made", ("connection_lost", "NoneType", "None")]


def test_another_protocol_gets_what_comes(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, first = await connect_read(reader, case)
            second = Recording(lambda *event: case("second", *event))
            transport.set_protocol(second)
            case(transport.get_protocol() is second)
            writer.write(b"x")
            await second.until("data_received")
            transport.close()
            await second.until("connection_lost")

    recorded, _ = parity(body)
    assert [event[0] for event in recorded[2:]] == ["second", "second"]
