"""Networks, peers and programs at their worst: nothing is lost, leaked or closed twice, and nothing grows."""

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
import tracemalloc

import pytest
from support.peers import MUCH, Recording, receive_all, reset, shrink, tcp_pair, turns


def descriptors():
    """What is open, by number."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found


def threads():
    return len(os.listdir("/proc/self/task"))


def run(loop_factory, main):
    """Runs `main()` and gives back its result; the exception handler must not be called."""
    loop = loop_factory()
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        result = loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        return result
    finally:
        loop.close()
        assert not reported


def quiet(*_):
    """A recorder for protocols whose calls are not what is looked at."""


class Held:
    """Descriptors that something else in the program opens, and that nobody else may close."""

    def __init__(self):
        self.open = []

    def take(self, count=3):
        for _ in range(count):
            number = os.open("/dev/null", os.O_RDONLY)
            self.open.append((number, os.pread(number, 1, 0)))

    def check(self):
        for number, _ in self.open:
            assert os.readlink(f"/proc/self/fd/{number}") == "/dev/null", "a descriptor was closed that is another's"

    def close(self):
        self.check()
        for number, _ in self.open:
            os.close(number)
        self.open.clear()


@contextlib.contextmanager
def listening(family=socket.AF_INET, backlog=100):
    with socket.create_server(
        ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family, backlog=backlog
    ) as sock:
        sock.setblocking(False)
        yield sock


CONNECTIONS = {
    "numbers": {},
    "local": {"local_addr": ("127.0.0.1", 0)},
    "a race": {"happy_eyeballs_delay": 0.0001},
    "a name": {"host": "localhost", "family": socket.AF_INET},
}


@pytest.mark.ferrio_only("asyncio leaves a server that was cancelled in its first turn, and the losers of a race")
class TestCancelledAtEveryAwait:
    """Whatever a coroutine was waiting for when it is cancelled: its descriptors are closed, and no others."""

    async def cancelled_after(self, count, coroutine):
        """Cancels a coroutine after so many turns, and opens descriptors all the while; whether it was done."""
        held = Held()
        task = asyncio.ensure_future(coroutine)
        for _ in range(count):
            await asyncio.sleep(0)
            held.take(1)
        done = task.done()
        task.cancel()
        held.take()
        with contextlib.suppress(asyncio.CancelledError):
            transport, *_ = await task
            transport.close()
        held.take()
        # What was cancelled goes as it likes, but not later than this.
        await turns(10)
        held.close()
        return done

    async def until_done(self, make):
        """Cancels `make()` after no turn, one turn, and so on, until it is done before; how often that was."""
        loop, before = asyncio.get_running_loop(), None
        for count in range(200):
            # A thread that resolves a name opens files, and is waited for here.
            with concurrent.futures.ThreadPoolExecutor() as executor:
                loop.set_default_executor(executor)
                if await self.cancelled_after(count, make()):
                    return count
            if before is None:
                # The first round may make what stays: the executor's thread, a resolver's socket.
                await turns(10)
                before = descriptors()
            else:
                assert descriptors() == before, f"cancelled after {count} turns"
        raise AssertionError("it never ended")

    @pytest.mark.parametrize("how", CONNECTIONS)
    def test_create_connection(self, loop_factory, how):
        async def main():
            loop = asyncio.get_running_loop()
            with listening() as server:
                port = server.getsockname()[1]
                options = {"host": "127.0.0.1", "port": port} | CONNECTIONS[how]

                def make():
                    # Accepted and dropped, or the queue fills up.
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            server.accept()[0].close()
                    return loop.create_connection(asyncio.Protocol, **options)

                return await self.until_done(make)

        assert run(loop_factory, main) >= 1

    @pytest.mark.parametrize("how", ["numbers", "a race"])
    def test_create_connection_to_a_full_queue(self, loop_factory, how):
        async def main():
            loop = asyncio.get_running_loop()
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(listening(backlog=0))
                for _ in range(4):
                    sock = stack.enter_context(socket.socket())
                    sock.setblocking(False)
                    sock.connect_ex(server.getsockname())
                options = {"host": "127.0.0.1", "port": server.getsockname()[1]} | CONNECTIONS[how]
                before = descriptors()
                for count in range(8):
                    await self.cancelled_after(count, loop.create_connection(asyncio.Protocol, **options))
                    assert descriptors() == before

        run(loop_factory, main)

    def test_create_unix_connection(self, loop_factory, tmp_path):
        async def main():
            loop = asyncio.get_running_loop()
            path = str(tmp_path / "socket")
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path)
                server.listen(1000)
                return await self.until_done(lambda: loop.create_unix_connection(asyncio.Protocol, path))

        assert run(loop_factory, main) >= 1

    def test_create_server(self, loop_factory):
        async def main():
            loop = asyncio.get_running_loop()

            async def make():
                return (await loop.create_server(asyncio.Protocol, "127.0.0.1", 0),)

            return await self.until_done(make)

        assert run(loop_factory, main) >= 1

    def test_create_datagram_endpoint(self, loop_factory):
        async def main():
            loop = asyncio.get_running_loop()
            return await self.until_done(
                lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            )

        assert run(loop_factory, main) >= 1


class TestPeersThatReset:
    """A connection that is reset at a stage of its life is lost once, and takes nobody along."""

    async def serve(self, provoke):
        """A server, what `provoke(port)` does to it, and whether it still answers; what its connections were told."""
        told = []

        class Server(asyncio.Protocol):
            def connection_made(self, transport):
                self.calls = ["made"]
                told.append(self.calls)
                self.transport = transport

            def data_received(self, data):
                self.calls.append("data")
                self.transport.write(data)

            def eof_received(self):
                self.calls.append("eof")

            def connection_lost(self, exc):
                self.calls.append(type(exc).__name__)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Server, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await provoke(port)
        await turns(20)
        calls = [list(one) for one in told]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"still there?")
        assert await reader.readexactly(12) == b"still there?"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return calls

    @pytest.mark.parametrize("stage", ["at once", "accepted", "answered", "while it writes", "half closed"])
    def test_at_every_stage(self, loop_factory, stage):
        async def provoke(port):
            socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
            for sock in socks:
                if stage != "at once":
                    await turns(5)
                if stage in ("answered", "half closed"):
                    sock.send(b"hello")
                    await turns(5)
                    assert sock.recv(5) == b"hello"
                if stage == "half closed":
                    sock.shutdown(socket.SHUT_WR)
                if stage == "while it writes":
                    shrink(sock)
                    sock.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            sock.send(bytes(1 << 16))
                            await turns(2)
                reset(sock)

        calls = run(loop_factory, lambda: self.serve(provoke))
        assert len(calls) == 5
        for one in calls:
            assert one[0] == "made"
            assert one[-1] in ("ConnectionResetError", "BrokenPipeError", "NoneType")
            assert sum(call not in ("made", "data", "eof") for call in one) == 1
        if stage in ("at once", "accepted", "answered"):
            assert all(one[-1] == "ConnectionResetError" for one in calls)


class TestAReaderThatDoesNotRead:
    def test_megabytes_wait(self, parity):
        """The producer is told once, what waits is all there, and an abort frees it."""

        async def body(case):
            with tcp_pair() as (ours, theirs):
                shrink(ours, theirs)
                loop = asyncio.get_running_loop()
                transport, protocol = await loop.create_connection(lambda: Recording(case), sock=ours)
                chunk = bytes(MUCH)
                for _ in range(64):
                    transport.write(chunk)
                    await turns(1)
                case(transport.get_write_buffer_size() > 60 * MUCH)
                await turns(20)
                transport.abort()
                case(transport.get_write_buffer_size())
                await protocol.lost

        events, _ = parity(body)
        assert events.count(("pause_writing",)) + events.count("pause_writing") == 1

    def test_bytes_are_not_copied(self, loop):
        """What waits is the caller's own object: a thousand references to one megabyte are one megabyte."""

        async def main():
            with tcp_pair() as (ours, theirs):
                shrink(ours, theirs)
                transport, protocol = await loop.create_connection(lambda: Recording(quiet), sock=ours)
                chunk = bytes(MUCH)
                resident = [resident_bytes()]
                for _ in range(1000):
                    transport.write(chunk)
                resident.append(resident_bytes())
                transport.abort()
                await protocol.lost
                return resident[1] - resident[0]

        grown = loop.run_until_complete(main())
        if "ferrio" in type(loop).__module__:
            assert grown < 50 * MUCH

    def test_more_chunks_than_one_call_takes(self, parity):
        """Thousands of chunks, of which the kernel takes 1024 at once."""
        chunks = [b"%d," % number for number in range(3000)]

        async def body(case):
            with tcp_pair() as (ours, theirs):
                loop = asyncio.get_running_loop()
                shrink(ours, theirs)
                transport, protocol = await loop.create_connection(lambda: Recording(quiet), sock=ours)
                transport.write(bytes(MUCH))
                transport.writelines(chunks)
                for chunk in chunks:
                    transport.write(chunk)
                received = []
                receiver = threading.Thread(target=lambda: received.append(receive_all(theirs)))
                receiver.start()
                transport.close()
                case(await protocol.lost)
                receiver.join()
                case(received[0] == bytes(MUCH) + 2 * b"".join(chunks))

        assert parity(body)[0] == [None, True]


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.asyncio_since("3.14", "servers that wait for all")
class TestManyConnections:
    @pytest.mark.patience(60)
    def test_opened_and_dropped(self, loop_factory):
        """Two thousand, however they end: no descriptor, thread or object is left, and memory does not grow."""

        async def main():
            loop = asyncio.get_running_loop()
            lost = opened = 0

            class Echo(asyncio.Protocol):
                def connection_made(self, transport):
                    self.transport = transport

                def data_received(self, data):
                    self.transport.write(data)

                def connection_lost(self, exc):
                    nonlocal lost
                    lost += 1

            server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000)
            address = server.sockets[0].getsockname()

            async def one(number):
                transport, protocol = await loop.create_connection(lambda: Recording(quiet), *address)
                if number % 3:
                    transport.write(b"x" * (number % 7))
                if number % 2:
                    transport.abort()
                else:
                    transport.close()
                await protocol.lost

            async def round_of(count):
                nonlocal opened
                for begin in range(0, count, 100):
                    await asyncio.gather(*map(one, range(begin, begin + 100)))
                opened += count
                while lost < opened:
                    await asyncio.sleep(0)

            await round_of(200)
            before, count = descriptors(), threads()
            tracemalloc.start()
            try:
                first = tracemalloc.get_traced_memory()[0]
                await round_of(1800)
                grown = tracemalloc.get_traced_memory()[0] - first
            finally:
                tracemalloc.stop()
            assert descriptors().keys() == before.keys()
            assert threads() == count
            server.close()
            await server.wait_closed()
            return grown

        # Pools, tables: what stays does not grow with the number of connections.
        assert run(loop_factory, main) < 1800 * 200

    def test_threads_are_as_many_as_before(self, loop_factory):
        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            before = threads()
            pairs = [await loop.create_connection(lambda: Recording(quiet), *address) for _ in range(100)]
            during = threads()
            for transport, protocol in pairs:
                transport.close()
                await protocol.lost
            server.close()
            await server.wait_closed()
            return during - before

        grown = run(loop_factory, main)
        assert grown == 0 or loop_factory is asyncio.new_event_loop


def test_a_connection_that_floods(loop_factory):
    """Two ends that send each other all that they get, for ever: tasks and timers go on, one turn after the other."""

    async def main():
        loop = asyncio.get_running_loop()
        turned = []

        class Echo(Recording):
            def data_received(self, data):
                turned.append(len(data))
                self.transport.write(data)

        with tcp_pair() as (ours, theirs):
            theirs.setblocking(False)
            first, one = await loop.create_connection(lambda: Echo(quiet), sock=ours)
            second, other = await loop.create_connection(lambda: Echo(quiet), sock=theirs)
            first.write(bytes(1 << 17))
            timer = loop.create_future()
            loop.call_later(0.01, timer.set_result, None)
            for _ in range(200):
                await asyncio.sleep(0)
            await timer
            first.abort()
            second.abort()
            await one.lost
            await other.lost
            return len(turned)

    assert run(loop_factory, main) > 10


class NoDescriptor(socket.socket):
    """A socket that says of itself what a closed one says."""

    def fileno(self):
        return -1


@pytest.mark.ferrio_only("asyncio raises the same or fails in a callback, and leaves a transport of nothing behind")
class TestSocketsThatAreNone:
    """What has no descriptor is an error of who gave it."""

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    @pytest.mark.parametrize("way", ["never open", "closed by the factory"])
    def test_connections(self, loop_factory, kind, way):
        async def main():
            loop, is_stream = asyncio.get_running_loop(), kind == socket.SOCK_STREAM
            sock = (NoDescriptor if way == "never open" else socket.socket)(socket.AF_INET, kind)

            def factory():
                sock.close()
                return asyncio.Protocol() if is_stream else asyncio.DatagramProtocol()

            connect = loop.create_connection if is_stream else loop.create_datagram_endpoint
            with sock, pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                await connect(factory, sock=sock)

        run(loop_factory, main)

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_numbers_that_are_far_off(self, loop_factory, kind):
        """Whoever is known by its number has no room made for all numbers below."""

        class FarOff(socket.socket):
            def fileno(self):
                return (1 << 31) - 1

        async def main():
            loop, is_stream = asyncio.get_running_loop(), kind == socket.SOCK_STREAM
            factory = asyncio.Protocol if is_stream else asyncio.DatagramProtocol
            connect = loop.create_connection if is_stream else loop.create_datagram_endpoint
            with FarOff(socket.AF_INET, kind) as sock, pytest.raises(OSError, match="Bad file descriptor"):
                await connect(factory, sock=sock)

        run(loop_factory, main)

    def test_servers(self, loop_factory):
        async def main():
            with NoDescriptor() as sock, pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=sock)

        run(loop_factory, main)
