"""Loops that send when the turn ends, or the callback: when that is, and who does not wait for it.

By itself a loop waits for the turn where sends are dear, which no test can arrange; `engine/burst.rs` has tests of how
it finds out. These have loops that always wait, as the door `deferring` has them for the tests of the network.
"""

import asyncio
import contextlib
import socket
import time

import pytest
from support import doors
from support.peers import Recording, connect, nothing, turns

import ferrio

pytestmark = pytest.mark.skipif("deferring" not in doors.DOORS, reason="the extension is a release build")

#: More than is kept for the end of a turn, and less than a socket takes.
MUCH = 20_000


@pytest.fixture(params=["turn", "callback"])
def run(request):
    """`run(main)` runs `main()` on such a loop."""
    with doors.deferring(request.param), contextlib.closing(ferrio.new_event_loop()) as loop:
        yield lambda main: loop.run_until_complete(main())


@pytest.fixture
def run_usual():
    """`run_usual(main)` runs `main()` on a loop as it is."""
    with contextlib.closing(ferrio.new_event_loop()) as loop:
        yield lambda main: loop.run_until_complete(main())


@pytest.fixture
def pair():
    """A transport's socket and its peer. What is sent through Unix sockets has come when the call returns."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def came(sock):
    """What has come until now."""
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return None


def test_the_callback_ends_before_it_is_sent(run, pair):
    async def main():
        ours, theirs = pair
        transport, _ = await connect(ours, nothing)
        transport.write(b"one ")
        transport.writelines([b"two ", bytearray(b"three ")])
        transport.write(memoryview(b"four"))
        assert came(theirs) is None
        await asyncio.sleep(0)
        assert came(theirs) == b"one two three four"
        transport.close()
        await turns()

    run(main)


def test_what_changes_is_sent_as_it_was(run, pair):
    async def main():
        ours, theirs = pair
        transport, _ = await connect(ours, nothing)
        data = bytearray(b"before")
        transport.write(data)
        transport.writelines([data])
        data[:] = b"behind"
        await asyncio.sleep(0)
        assert came(theirs) == b"beforebefore"
        transport.close()
        await turns()

    run(main)


@pytest.mark.parametrize(
    "ask",
    [
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.get_extra_info("socket"),
        lambda transport: transport.set_write_buffer_limits(1000),
        lambda transport: transport.write_eof(),
        lambda transport: transport.close(),
        lambda transport: transport.abort(),
        lambda transport: transport.write(bytes(MUCH)),
        lambda transport: transport.writelines([bytes(MUCH)]),
    ],
    ids=["size", "socket", "limits", "eof", "close", "abort", "write", "writelines"],
)
def test_who_does_not_wait_for_the_end(run, pair, ask):
    async def main():
        ours, theirs = pair
        transport, protocol = await connect(ours, nothing)
        transport.write(b"answer")
        ask(transport)
        assert came(theirs)[:6] == b"answer"
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await protocol.lost

    run(main)


def test_what_a_failing_protocol_wrote_is_sent(run, pair):
    class Failing(Recording):
        def data_received(self, data):
            self.transport.write(b"answer")
            raise ValueError(data)

    async def main():
        loop = asyncio.get_running_loop()
        errors = []
        loop.set_exception_handler(lambda loop, context: errors.append(str(context["exception"])))
        ours, theirs = pair
        _, protocol = await loop.create_unix_connection(Failing, sock=ours)
        theirs.send(b"question")
        await protocol.lost
        assert came(theirs) == b"answer"
        assert errors == ["b'question'"]

    run(main)


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_sends_first(run, pair, leave):
    transports = []

    async def main():
        transport, _ = await connect(pair[0], nothing)
        transports.append(transport)

        def answer():
            transport.write(b"answer")
            raise leave

        asyncio.get_running_loop().call_soon(answer)
        await asyncio.Event().wait()

    with pytest.raises(leave):
        run(main)
    assert came(pair[1]) == b"answer"
    transports.pop().close()
    run(turns)


def test_a_loop_that_stops_sends_first(run, pair):
    async def connected():
        return await connect(pair[0], nothing)

    async def main():
        # Nothing of the loop runs between this and its end.
        transport.write(b"answer")

    transport, _ = run(connected)
    run(main)
    assert came(pair[1]) == b"answer"
    transport.close()
    run(turns)


def test_a_peer_that_is_gone_is_noticed(run, pair):
    async def main():
        ours, theirs = pair
        transport, protocol = await connect(ours, nothing)
        transport.pause_reading()
        theirs.close()
        transport.write(b"answer")
        assert not transport.is_closing()
        assert isinstance(await protocol.lost, BrokenPipeError)

    run(main)


def test_what_the_socket_does_not_take_waits(run, pair):
    async def main():
        ours, theirs = pair
        events = []
        transport, protocol = await connect(ours, lambda *event: events.append(event[0]))
        transport.set_write_buffer_limits(0)
        sent = 0
        while "pause_writing" not in events:
            transport.write(bytes(1000))
            sent += 1000
            await asyncio.sleep(0)
        assert 0 < transport.get_write_buffer_size() <= 1000
        received = 0
        while received < sent:
            received += len(came(theirs) or b"")
            await asyncio.sleep(0)
        assert "resume_writing" in events
        transport.close()
        await protocol.lost

    run(main)


def test_a_slow_turn_does_not_keep_it(run, pair):
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = pair
        transport, _ = await connect(ours, nothing)
        seen = []

        def slow():
            end = time.monotonic() + 0.005
            while time.monotonic() < end:
                pass

        for callback in (lambda: transport.write(b"answer"), slow, lambda: seen.append(came(theirs))):
            loop.call_soon(callback)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert seen == [b"answer"]
        transport.close()
        await turns()

    run(main)


#: So often somebody has sent another piece when a loop begins to keep them.
OFTEN = 64


async def write_in_pieces(transport, times):
    for _ in range(times):
        transport.write(b"one ")
        transport.write(b"two ")
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def after_pieces(pair):
    """A transport whose pieces are kept from now on."""
    transport, _ = await connect(pair[0], nothing)
    await write_in_pieces(transport, OFTEN)
    came(pair[1])
    yield transport
    transport.close()
    await turns()


def test_pieces_are_sent_when_the_callback_ends(run_usual, pair):
    async def main():
        ours, theirs = pair
        transport, _ = await connect(ours, nothing)
        for _ in range(OFTEN - 1):
            transport.write(b"one ")
            assert came(theirs) == b"one "
            transport.write(b"two ")
            assert came(theirs) == b"two "
            await asyncio.sleep(0)
        await write_in_pieces(transport, 1)
        came(theirs)
        transport.write(b"one ")
        transport.write(b"two ")
        assert came(theirs) is None
        # What is next in the turn finds it sent.
        seen = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: seen.set_result(came(theirs)))
        assert await seen == b"one two "
        transport.close()
        await turns()

    run_usual(main)


def test_the_first_of_several_in_one_callback_is_sent_at_once(run_usual, pair):
    async def main():
        ours, theirs = pair
        transport, _ = await connect(ours, nothing)
        for _ in range(2 * OFTEN):
            transport.write(b".")
        first = came(theirs)
        assert first == b"." * OFTEN
        await asyncio.sleep(0)
        assert came(theirs) == b"." * OFTEN
        transport.close()
        await turns()

    run_usual(main)


def test_who_sends_in_one_piece_sends_at_once(run_usual, pair):
    async def main():
        async with after_pieces(pair) as transport:
            # It is the last callback that counts: this one's piece is kept, and the next one's is not.
            for seen in (None, b"three"):
                transport.write(b"three")
                assert came(pair[1]) == seen
                await asyncio.sleep(0)
                came(pair[1])

    run_usual(main)


def test_pieces_and_much_more_leave_in_one_call(run_usual, pair):
    async def main():
        async with after_pieces(pair) as transport:
            transport.write(b"head")
            assert came(pair[1]) is None
            transport.write(bytes(MUCH))
            assert came(pair[1]) == b"head" + bytes(MUCH)

    run_usual(main)


def test_nothing_is_kept_while_the_loop_stands_still(run_usual, pair):
    async def begin():
        transport, _ = await connect(pair[0], nothing)
        await write_in_pieces(transport, OFTEN)
        came(pair[1])
        return transport

    transport = run_usual(begin)
    for piece in (b"one ", b"two "):
        transport.write(piece)
        assert came(pair[1]) == piece
    transport.close()
    run_usual(turns)
