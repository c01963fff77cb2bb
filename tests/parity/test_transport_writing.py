"""TCP transports: what is sent, in which order, and when a producer is paused."""

import asyncio

import pytest
from support.peers import (
    MUCH,
    connect,
    receive_all,
    receive_exactly,
    shrink,
    tcp_pair,
)

pytestmark = pytest.mark.every_door


@pytest.mark.ferrio_only("asyncio sends what it has become")
@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
def test_mutable_data_is_sent_as_it_was(loop, kind, method):
    async def body():
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            data = kind(b"\1" * MUCH)
            last = kind(b"\1" * 1000)
            for chunk in (data, last):
                transport.write(chunk) if method == "write" else transport.writelines([chunk])
            data[:] = b"\2" * len(data)
            last[:] = b"\2" * len(last)
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            assert received == b"\1" * (MUCH + 1000)
            await protocol.lost

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio tries to send with every writelines, and chokes on empty chunks")
def test_writes_are_sent_in_order(loop):
    """More chunks than the kernel takes in one call, empty ones among them, by both methods."""
    chunks = [bytes([n % 251]) * (n % 7) for n in range(5000)]

    async def body():
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, lambda *event: None)
            transport.write(bytes(MUCH))
            waiting = transport.get_write_buffer_size()
            assert waiting > 0
            for chunk in chunks:
                transport.write(chunk)
            transport.writelines(iter(chunks))
            transport.writelines([])
            transport.writelines([b"", bytearray(), memoryview(b"")])
            total = sum(map(len, chunks))
            assert transport.get_write_buffer_size() == waiting + 2 * total
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            assert received == bytes(MUCH) + b"".join(chunks) * 2
            await protocol.lost
            assert transport.get_write_buffer_size() == 0

    loop.run_until_complete(body())


def test_a_hundred_thousand_writes(parity):
    """Whether somebody has to pause is for the kernel to say, which takes more or less of larger pieces."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            chunks = [b"%06d" % number for number in range(100_000)]
            for chunk in chunks:
                transport.write(chunk)
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(received == b"".join(chunks), await protocol.lost)

    parity(body)


def test_a_hundred_thousand_chunks(parity):
    """Some of them are empty."""

    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            chunks = [b"%06d" % number if number % 3 else b"" for number in range(100_000)]
            transport.writelines(chunks)
            for nothing in ([], [b""], [b"", bytearray()]):
                transport.writelines(nothing)
            transport.writelines(chunk for chunk in (b"the", b"", b"end"))
            transport.close()
            received = await asyncio.get_running_loop().run_in_executor(None, receive_all, theirs)
            case(received == b"".join(chunks) + b"theend", await protocol.lost)

    parity(body)


@pytest.mark.at_once("it waits for the bytes in the turn that writes them")
def test_writelines_goes_out_at_once(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three "), b"", b"four"])
            case(receive_exactly(theirs, 18), transport.get_write_buffer_size())
            transport.writelines([b"alone"])
            case(receive_exactly(theirs, 5))
            transport.close()
            await protocol.lost

    parity(body)


@pytest.mark.asyncio_since("3.14", "this text")
@pytest.mark.parametrize("data", ["text", None, 7, ["list"]], ids=repr)
def test_what_is_no_data(parity, data):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, case)
            case.raised(transport.write, data)
            transport.abort()
            case.raised(transport.write, data)
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1][0] == recorded[2][0] == "TypeError"


@pytest.mark.ferrio_only("asyncio keeps the chunks before the wrong one, and sends them some day")
def test_writelines_with_a_wrong_chunk_writes_nothing(loop):
    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
                transport.writelines([b"one", "two"])
            assert transport.get_write_buffer_size() == 0
            transport.close()
            assert receive_all(await _after(protocol.lost, theirs)) == b""

    loop.run_until_complete(body())


async def _after(future, value):
    await future
    return value


def test_flow_control(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            case(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(high=1000)
            case(transport.get_write_buffer_limits())
            transport.set_write_buffer_limits(low=100)
            case(transport.get_write_buffer_limits())
            for high in (1 << 70, float("inf"), 4000.0):
                transport.set_write_buffer_limits(high, 100.0)
                case(int(transport.get_write_buffer_limits()[0]))
            case.raised(transport.set_write_buffer_limits, high=1, low=2)
            case.raised(transport.set_write_buffer_limits, high=-1)
            transport.write(bytes(MUCH))
            transport.write(b"more")
            # Lower marks: it is paused already.
            transport.set_write_buffer_limits(high=0)
            case(transport.get_write_buffer_limits())
            await asyncio.get_running_loop().run_in_executor(None, receive_exactly, theirs, MUCH + 4)
            await protocol.until("resume_writing")
            case(transport.get_write_buffer_size())
            transport.close()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded.count("pause_writing") == recorded.count("resume_writing") == 1
    assert ("ValueError", "high (1) must be >= low (2) must be >= 0") in recorded


def test_lower_limits_pause_at_once(parity):
    async def body(case):
        with tcp_pair() as (ours, theirs):
            shrink(ours, theirs)
            transport, protocol = await connect(ours, case)
            transport.set_write_buffer_limits(high=100_000_000)
            transport.write(bytes(MUCH))
            case("lower")
            transport.set_write_buffer_limits(high=1)
            transport.abort()
            await protocol.lost

    recorded, _ = parity(body)
    assert recorded[1:3] == ["lower", "pause_writing"]


@pytest.mark.patience(120)
def test_more_than_two_gib(loop):
    """The kernel takes at most 2 GiB less a page in one call; numbers must not be cut to 32 bits."""
    size = (2 << 30) + 12345
    try:
        data = bytes(size)
    except MemoryError:
        pytest.skip("not enough memory")

    def receive(sock):
        buffer = bytearray(1 << 20)
        received = 0
        while count := sock.recv_into(buffer):
            received += count
        return received

    async def body():
        with tcp_pair() as (ours, theirs):
            transport, protocol = await connect(ours, lambda *event: None)
            transport.write(data)
            assert 0 < transport.get_write_buffer_size() < size
            transport.close()
            assert await asyncio.get_running_loop().run_in_executor(None, receive, theirs) == size
            await protocol.lost

    loop.run_until_complete(body())
