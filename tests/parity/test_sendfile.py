"""`sendfile` and `sock_sendfile`: files that the kernel sends, or that are read and sent."""

import asyncio
import contextlib
import io
import os
import socket
import tempfile
import threading

import pytest
from support.case import outcome
from support.peers import MUCH, connect, receive_all, reset, shrink, tcp_pair, turns

pytestmark = pytest.mark.every_door

CONTENT = bytes(range(256)) * 16


@contextlib.contextmanager
def a_file(content=CONTENT):
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        file.seek(7)
        yield file


@contextlib.contextmanager
def a_file_for_a_slow_peer():
    """A file, and a connection whose kernel takes a small part of it."""
    with a_file(bytes(5 * MUCH)) as file, tcp_pair() as (ours, theirs):
        shrink(ours, theirs)
        yield file, ours, theirs


@contextlib.contextmanager
def received_by(sock):
    """A thread that receives all that comes to `sock`; the bytes are in the list once it has ended."""
    result = []
    thread = threading.Thread(target=lambda: result.append(receive_all(sock)))
    thread.start()
    yield result
    thread.join()


def quiet(*_):
    """A recorder for protocols whose calls are not what is looked at."""


PARTS = [(0, None), (0, 10), (100, 50), (4000, 1000), (4096, 5), (9999, None), (0, 1 << 70)]


class TestOverASocket:
    @pytest.mark.asyncio_since("3.14", "nothing to send behind the end of a file")
    @pytest.mark.parametrize(("offset", "count"), PARTS)
    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_a_part_of_it(self, parity, offset, count, kind):
        """By the kernel, and for what is no file by reading: the bytes, their number, and the position afterwards."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file() as file, tcp_pair() as (ours, theirs), received_by(theirs) as received:
                source = file if kind == "file" else io.BytesIO(CONTENT)
                with ours:
                    case(await outcome(loop.sock_sendfile(ours, source, offset, count)), source.tell())
            case(received)

        if count is not None and count > 1 << 63 and kind == "file":
            pytest.skip("asyncio gives it to the system call, which refuses")
        parity(body)

    def test_more_than_the_socket_takes(self, parity):
        content = os.urandom(5 * MUCH)

        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file(content) as file, tcp_pair() as (ours, theirs):
                shrink(ours, theirs)
                with received_by(theirs) as received, ours:
                    case(await loop.sock_sendfile(ours, file), file.tell())
                case(received == [content])

        assert parity(body)[0] == [(len(content), len(content)), True]

    def test_an_empty_file(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file(b"") as file, tcp_pair() as (ours, _):
                case(await loop.sock_sendfile(ours, file))

        assert parity(body)[0] == [0]

    @pytest.mark.parametrize(
        ("offset", "count"), [(-1, None), (None, None), ("1", None), (1.0, None), (0, 0), (0, -5), (0, "1"), (0, 1.5)]
    )
    def test_wrong_numbers(self, parity, offset, count):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file() as file, tcp_pair() as (ours, _):
                case(await outcome(loop.sock_sendfile(ours, file, offset, count)), file.tell())

        assert parity(body)[0][0][0][0] in ("ValueError", "TypeError")

    def test_a_file_of_text(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with tcp_pair() as (ours, _), open(os.devnull) as file:
                case(await outcome(loop.sock_sendfile(ours, file)))

        assert parity(body)[0] == [("ValueError", "file should be opened in binary mode")]

    def test_a_datagram_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file() as file, socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                case(await outcome(loop.sock_sendfile(sock, file)))

        assert parity(body)[0] == [("ValueError", "only SOCK_STREAM type sockets are supported")]

    @pytest.mark.parametrize("kind", ["memory", "pipe", "no fileno"])
    def test_what_is_no_file_without_the_fallback(self, parity, kind):
        class Bare:
            pass

        async def body(case):
            loop = asyncio.get_running_loop()
            reading, writing = os.pipe()
            with tcp_pair() as (ours, _), open(reading, "rb") as pipe, open(writing, "wb"):
                source = {"memory": io.BytesIO(b"x"), "pipe": pipe, "no fileno": Bare()}[kind]
                found = await outcome(loop.sock_sendfile(ours, source, 0, 1, fallback=False))
                # The position of a pipe cannot be set, which asyncio tells by an error of its own.
                case(found if kind != "pipe" else isinstance(found, tuple))

        parity(body)

    def test_a_peer_that_resets(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
                await turns()
                theirs.recv(1)
                reset(theirs)
                with contextlib.suppress(ConnectionError):
                    await sending
                    case("no error")
                case(0 < file.tell() < 5 * MUCH)

        assert parity(body)[0] == [True]

    @pytest.mark.ferrio_only("asyncio's does not move the position")
    def test_cancelled(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
                await turns()
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
                ours.close()
                case(file.tell() == len(receive_all(theirs)) > 0)

        assert parity(body)[0] == [True]

    @pytest.mark.ferrio_only("asyncio's leaves it behind what was read")
    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_cancelled_before_anything_is_sent(self, parity, kind):
        async def body(case):
            loop = asyncio.get_running_loop()
            # Not TCP, where there is room again when the other end's kernel has acknowledged what was sent.
            ours, theirs = socket.socketpair()
            with a_file() as file, ours, theirs:
                ours.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while ours.send(bytes(MUCH)):
                        pass
                source = file if kind == "file" else io.BytesIO(CONTENT)
                sending = asyncio.ensure_future(loop.sock_sendfile(ours, source, 100))
                while kind == "memory" and source.tell() != len(CONTENT):
                    await asyncio.sleep(0)
                await turns()
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending
                case(source.tell())

        assert parity(body)[0] == [100]

    @pytest.mark.ferrio_only("asyncio sends from whatever has the file's number now")
    def test_a_file_that_is_closed_meanwhile(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                sending = asyncio.ensure_future(loop.sock_sendfile(ours, file))
                await turns()
                number = file.fileno()
                file.close()
                other = os.open("/dev/zero", os.O_RDONLY)
                with received_by(theirs):
                    case(other == number, await outcome(sending))
                    ours.close()
                os.close(other)

        assert parity(body)[0] == [(True, ("ValueError", "I/O operation on closed file"))]


class TestOverATransport:
    @pytest.mark.asyncio_since("3.14", "nothing to send behind the end of a file")
    @pytest.mark.parametrize(("offset", "count"), [part for part in PARTS if part[1] is None or part[1] < 1 << 63])
    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_between_what_is_written(self, parity, offset, count, kind):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file() as file, tcp_pair() as (ours, theirs), received_by(theirs) as received:
                source = file if kind == "file" else io.BytesIO(CONTENT)
                transport, protocol = await connect(ours, quiet)
                transport.write(b"before")
                case(await loop.sendfile(transport, source, offset, count), source.tell())
                transport.write(b"after")
                transport.close()
                case(await protocol.lost)
            case(received)

        parity(body)

    @pytest.mark.ferrio_only("asyncio's peer does not always get all of it when the transport is closed right behind")
    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_behind_a_full_buffer(self, parity, kind):
        """What was written before waits in the buffer; the producer is told of that, and of nothing else."""
        content = os.urandom(MUCH)

        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file(content) as file, tcp_pair() as (ours, theirs):
                shrink(ours, theirs)
                source = file if kind == "file" else io.BytesIO(content)
                transport, protocol = await connect(ours, case)
                transport.write(bytes(MUCH))
                case(transport.get_write_buffer_size() > 0)
                with received_by(theirs) as received:
                    case(await loop.sendfile(transport, source))
                    case(transport.is_reading())
                    transport.close()
                    await protocol.lost
                case(received == [bytes(MUCH) + content])

        events, _ = parity(body)
        assert events.count("pause_writing") == events.count("resume_writing") == 1
        assert events[-1] is True

    @pytest.mark.asyncio_since("3.12", "a writelines() of its own")
    def test_nothing_can_be_written_meanwhile(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                transport, protocol = await connect(ours, quiet)
                sending = asyncio.ensure_future(loop.sendfile(transport, file))
                await turns()
                case.raised(transport.write, b"x")
                case.raised(transport.writelines, [b"x"])
                case(transport.is_reading())
                with received_by(theirs):
                    case(await sending, transport.is_reading())
                    transport.write(b"x")
                    transport.close()
                    await protocol.lost

        assert parity(body)[0][0] == ("RuntimeError", "unable to write; sendfile is in progress")

    @pytest.mark.parametrize("paused", [False, True])
    def test_what_comes_in_waits(self, parity, paused):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                transport, protocol = await connect(ours, case)
                if paused:
                    transport.pause_reading()
                sending = asyncio.ensure_future(loop.sendfile(transport, file))
                await turns()
                theirs.send(b"hello")
                await turns()
                case("sending")
                receiver = threading.Thread(target=receive_all, args=(theirs,))
                receiver.start()
                await sending
                case("sent", transport.is_reading())
                if paused:
                    transport.resume_reading()
                await protocol.until("data_received")
                transport.close()
                await protocol.lost
                receiver.join()

        parity(body)

    def test_a_closing_transport(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file() as file, tcp_pair() as (ours, _):
                transport, protocol = await connect(ours, case)
                transport.close()
                case(await outcome(loop.sendfile(transport, file)), file.tell())
                await protocol.lost

        assert ("RuntimeError", "Transport is closing") in [event[0] for event in parity(body)[0]]

    @pytest.mark.parametrize("how", ["close", "abort"])
    @pytest.mark.ferrio_only("asyncio's goes on with a descriptor that is closed, or waits for ever")
    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_a_transport_that_is_closed_meanwhile(self, parity, how, kind):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                source = file if kind == "file" else io.BytesIO(bytes(5 * MUCH))
                transport, protocol = await connect(ours, case)
                sending = asyncio.ensure_future(loop.sendfile(transport, source))
                await turns(50)
                getattr(transport, how)()
                with received_by(theirs):
                    case((await outcome(sending))[0])
                    case(await protocol.lost)

        events = parity(body)[0]
        assert "ConnectionError" in events
        assert None in events

    def test_a_peer_that_resets(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                transport, protocol = await connect(ours, quiet)
                sending = asyncio.ensure_future(loop.sendfile(transport, file))
                await turns()
                reset(theirs)
                case(isinstance(await asyncio.wait_for(asyncio.gather(sending, return_exceptions=True), 10), list))
                case(isinstance(sending.exception(), ConnectionError), 0 < file.tell() < 5 * MUCH)
                transport.write(b"x")
                transport.write(b"x")
                case(type(await protocol.lost).__name__ in ("ConnectionResetError", "BrokenPipeError", "NoneType"))

        parity(body)

    def test_a_peer_that_resets_before_there_is_room(self, parity):
        """What is read goes on behind what the transport was given, whether that has sent it or not."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with tcp_pair() as (ours, theirs):
                shrink(ours, theirs)
                with contextlib.suppress(BlockingIOError):
                    while ours.send(bytes(MUCH)):
                        pass
                source = io.BytesIO(bytes(5 * MUCH))
                transport, protocol = await connect(ours, quiet)
                transport.set_write_buffer_limits(0)
                sending = asyncio.ensure_future(loop.sendfile(transport, source))
                while transport.get_write_buffer_size() == 0:
                    await asyncio.sleep(0)
                reset(theirs)
                await asyncio.wait([sending])
                case(isinstance(sending.exception(), ConnectionError), 0 < source.tell() < 5 * MUCH)
                await protocol.lost

        assert parity(body)[0] == [(True, True)]

    @pytest.mark.parametrize("kind", ["file", "memory"])
    def test_cancelled(self, parity, kind):
        """The transport is as it was, and goes on."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                source = file if kind == "file" else io.BytesIO(bytes(5 * MUCH))
                transport, protocol = await connect(ours, quiet)
                sending = asyncio.ensure_future(loop.sendfile(transport, source))
                await turns(50)
                sending.cancel()
                case(await asyncio.wait([sending]) and sending.cancelled(), transport.is_reading())
                case(transport.get_protocol() is protocol)
                with received_by(theirs) as received:
                    transport.write(b"after")
                    transport.close()
                    case(await protocol.lost)
                case(received[0].endswith(b"\0after"))

        assert parity(body)[0] == [(True, True), True, None, True]

    @pytest.mark.ferrio_only("asyncio's is a KeyError")
    def test_two_at_a_time(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file_for_a_slow_peer() as (file, ours, theirs):
                transport, protocol = await connect(ours, quiet)
                sending = asyncio.ensure_future(loop.sendfile(transport, file))
                await turns()
                case(await outcome(loop.sendfile(transport, file)))
                with received_by(theirs) as received:
                    case(await sending)
                    transport.close()
                    await protocol.lost
                case(len(received[0]))

        text = "unable to sendfile; sendfile is in progress"
        assert parity(body)[0] == [("RuntimeError", text), 5 * MUCH, 5 * MUCH]

    def test_a_transport_that_knows_no_files(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with a_file() as file:
                transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, family=socket.AF_INET)
                found = await outcome(loop.sendfile(transport, file))
                case(found[0], found[1].split("<")[0])
                transport.close()
                await turns()

        assert parity(body)[0] == [("RuntimeError", "sendfile is not supported for transport ")]

    def test_without_the_fallback(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with tcp_pair() as (ours, _):
                transport, protocol = await connect(ours, quiet)
                case(await outcome(loop.sendfile(transport, io.BytesIO(b"x"), fallback=False)))
                case(transport.is_reading())
                transport.close()
                await protocol.lost

        assert parity(body)[0] == [("SendfileNotAvailableError", "not a regular file"), True]
