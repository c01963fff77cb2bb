"""Pipe transports that write: what arrives at the other end, and how it ends."""

import asyncio

import pytest
from support.peers import fail, nothing, turns
from support.pipes import MUCH, connect_read, connect_write, pipe

pytestmark = pytest.mark.every_door


def test_writing_from_begin_to_end(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            case(transport.can_write_eof(), transport.get_write_buffer_limits(), transport.get_write_buffer_size())
            changed = bytearray(b"bytearray ")
            transport.write(b"bytes ")
            transport.write(changed)
            transport.write(memoryview(b"memoryview "))
            transport.write(b"")
            transport.writelines([b"several ", bytearray(b"pieces")])
            changed[:] = b"something "
            case(reader.read(1000))
            transport.write_eof()
            case("ended", transport.is_closing())
            await protocol.until("connection_lost")
            await turns()
            case(writer.closed, reader.read(1000))

    assert parity(body)[0] == [
        "connection_made",
        (True, (16384, 65536), 0),
        b"bytes bytearray memoryview several pieces",
        ("ended", True),
        ("connection_lost", "NoneType", "None"),
        (True, b""),
    ]


@pytest.mark.ferrio_only("asyncio asserts, which -O leaves out")
@pytest.mark.parametrize("data", ["text", None, 3, [b"x"]], ids=repr)
def test_what_is_no_bytes_is_refused(loop, data):
    async def body():
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, nothing)
            with pytest.raises(TypeError, match="data argument must be a bytes, bytearray, or memoryview object, not"):
                transport.write(data)
            transport.close()
            await protocol.until("connection_lost")

    loop.run_until_complete(body())


def test_flow_control(loop, events):
    """The producer is paused above the high mark and goes on at the low one; what is buffered is of the call's time."""

    async def body():
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, lambda *event: events.append(event[0]))
            data = bytearray(MUCH)
            transport.write(data)
            size = transport.get_write_buffer_size()
            assert 0 < size < len(MUCH)
            data[:] = bytes(len(data))
            transport.write(MUCH)
            assert transport.get_write_buffer_size() == size + len(MUCH)
            transport.close()
            _, sink = await connect_read(reader, nothing)
            await sink.until("connection_lost")
            assert sink.data == MUCH + MUCH
            await protocol.until("connection_lost")

    loop.run_until_complete(body())
    assert events == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


def test_limits(parity):
    async def body(case):
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, nothing)
            for limits in [{}, {"high": 400}, {"low": 3}, {"high": 0}, {"high": 5, "low": 5}]:
                transport.set_write_buffer_limits(**limits)
                case(transport.get_write_buffer_limits())
            case.raised(transport.set_write_buffer_limits, high=1, low=2)
            case.raised(transport.set_write_buffer_limits, high=-1)
            transport.close()
            await protocol.until("connection_lost")

    parity(body)


def test_the_reader_goes_away(parity):
    """It is noticed although nothing is written."""

    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            reader.close()
            await protocol.until("connection_lost")
            await turns()
            case(transport.is_closing(), writer.closed)

    assert parity(body)[0] == ["connection_made", ("connection_lost", "NoneType", "None"), (True, True)]


def test_the_reader_goes_away_from_what_is_buffered(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            transport.write(MUCH)
            reader.close()
            await protocol.until("connection_lost")
            case(transport.get_write_buffer_size())

    assert parity(body)[0][-2:] == [("connection_lost", "BrokenPipeError", ""), 0]


def test_writes_to_nobody_are_counted(parity, caplog):
    async def body(case):
        caplog.clear()
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            reader.close()
            for _ in range(7):
                transport.write(b"x")
            await protocol.until("connection_lost")
            case([record.getMessage() for record in caplog.records if record.name == "asyncio"])

    recorded, _ = parity(body)
    assert recorded[1] == ("connection_lost", "BrokenPipeError", "[Errno 32] Broken pipe")
    assert recorded[2] == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2


def test_abort_drops_what_is_buffered(parity):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, case)
            transport.write(MUCH)
            transport.abort()
            case("aborted", transport.is_closing(), transport.get_write_buffer_size())
            await protocol.until("connection_lost")
            case(len(reader.read(len(MUCH))) < len(MUCH), writer.closed)

    assert parity(body)[0][2:] == [("aborted", True, 0), ("connection_lost", "NoneType", "None"), (True, True)]


@pytest.mark.ferrio_only("asyncio calls connection_lost twice, the second time of None")
def test_abort_after_close_is_told_once(loop, events):
    async def body():
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, lambda *event: events.append(event[0]))
            transport.close()
            transport.abort()
            await protocol.until("connection_lost")
            await turns()

    loop.run_until_complete(body())
    assert events == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_an_exception_in_flow_control_is_only_reported(parity, method):
    async def body(case):
        with pipe() as (reader, writer):
            transport, protocol = await connect_write(writer, nothing, **{method: fail})
            transport.write(MUCH)
            transport.close()
            _, sink = await connect_read(reader, nothing)
            await sink.until("connection_lost")
            await protocol.until("connection_lost")
            case(sink.data == MUCH)

    assert parity(body) == ([True], [(f"protocol.{method}() failed", ("Failure", "in a protocol"))])


def test_what_is_only_written_is_not_read(parity):
    """A StreamReader that was given the pipe as its transport finds out that it cannot be paused, and goes on."""

    async def body(case):
        with pipe() as (_, writer):
            transport, protocol = await connect_write(writer, case)
            for method in (transport.is_reading, transport.pause_reading, transport.resume_reading):
                case.raised(method)
            reader = asyncio.StreamReader(limit=1, loop=case.loop)
            reader.set_transport(transport)
            reader.feed_data(b"more than the limit")
            case(await reader.read(100))
            transport.close()
            await protocol.until("connection_lost")

    parity(body)
