"""Minutes of mixed load with random faults; what must be flat is flat at the end, and every byte is accounted for.

Clients of many kinds talk to echo servers in the same loop. Some are reset, aborted, half-closed or cancelled in the
middle. A conversation that was left alone got every byte back; one that was disturbed got back the beginning of what
it sent, and nothing else. After a first part that fills pools and caches, and again at the end, everything is closed
and counted: descriptors, threads, tasks and the process's memory.

    make soak                                   # two minutes
    make soak SECONDS=600 ARGS='--seed 7'
    python tests/soak/soak.py --loop asyncio    # whether it is the load that is wrong
"""

import argparse
import asyncio
import collections
import contextlib
import ctypes
import gc
import os
import random
import socket
import struct
import sys
import tempfile
import time

import ferrio

#: The streams of both work on both loops.
STREAMS = (asyncio, ferrio)

LOOPS = {"ferrio": ferrio.new_event_loop, "asyncio": asyncio.new_event_loop}

#: Conversations at a time.
CROWD = 40
#: Bytes that the process may have grown by between the two counts.
SLACK = 8 << 20


def pattern(size, seed):
    return random.Random(seed).randbytes(size)


class Disturbed(Exception):
    """The conversation was ended on purpose."""


class Echo(asyncio.Protocol):
    """Sends back what comes, and asks the peer to wait when too much does."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()

    def eof_received(self):
        # What waits is sent first.
        self.transport.write_eof()
        return False


class UdpEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)

    def error_received(self, exc):
        pass


class Collector(asyncio.Protocol):
    """Keeps what comes, and says when there is enough of it."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.data = bytearray()
        loop = asyncio.get_running_loop()
        self.done = loop.create_future()
        self.lost = loop.create_future()
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        if len(self.data) >= self.wanted and not self.done.done():
            self.done.set_result(None)

    def pause_writing(self):
        self.room.clear()

    def resume_writing(self):
        self.room.set()

    def connection_lost(self, exc):
        self.room.set()
        self.lost.set_result(exc)
        if not self.done.done():
            self.done.set_result(None)


class Soak:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.counts = collections.Counter()
        self.directory = tempfile.TemporaryDirectory(prefix="soak-")
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        self.content = pattern(300_000, "file")
        self.file.write(self.content)
        self.file.flush()

    # Servers

    async def start(self):
        loop = asyncio.get_running_loop()
        path = os.path.join(self.directory.name, "socket")
        self.servers = [
            await loop.create_server(Echo, "127.0.0.1", 0, backlog=1000),
            await loop.create_unix_server(Echo, path),
            *[await streams.start_server(self.serve_stream, "127.0.0.1", 0, backlog=1000) for streams in STREAMS],
        ]
        self.addresses = [server.sockets[0].getsockname() for server in self.servers]
        self.udp, _ = await loop.create_datagram_endpoint(UdpEcho, local_addr=("127.0.0.1", 0))

    async def serve_stream(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            writer.close()

    async def stop(self):
        for server in self.servers:
            server.close()
            server.abort_clients() if hasattr(server, "abort_clients") else None
            await server.wait_closed()
        self.udp.abort()
        for _ in range(20):
            await asyncio.sleep(0)

    # Conversations

    def sizes(self):
        kind = self.random.random()
        largest = 100 if kind < 0.4 else 20_000 if kind < 0.8 else 400_000
        return [self.random.randint(1, largest) for _ in range(self.random.randint(1, 8))]

    async def connect(self, factory):
        loop = asyncio.get_running_loop()
        address = self.random.choice(self.addresses)
        if isinstance(address, str):
            return await loop.create_unix_connection(factory, address)
        delay = self.random.choice([None, None, 0.01])
        return await loop.create_connection(factory, *address, happy_eyeballs_delay=delay)

    async def by_protocol(self, disturb):
        sizes = self.sizes()
        sent = pattern(sum(sizes), self.random.random())
        transport, protocol = await self.connect(lambda: Collector(len(sent)))
        try:
            at = 0
            for number, size in enumerate(sizes):
                piece = sent[at : at + size]
                if number % 2:
                    transport.writelines([piece[: size // 2], bytearray(piece[size // 2 :])])
                else:
                    transport.write(piece)
                at += size
                await protocol.room.wait()
                if self.random.random() < 0.1:
                    transport.pause_reading()
                    await asyncio.sleep(0)
                    transport.resume_reading()
                await disturb(transport)
            if self.random.random() < 0.3:
                transport.write_eof()
            await protocol.done
        finally:
            # Who closes does not read any more, and an echo that nobody reads keeps what is written waiting.
            over = len(protocol.data) == len(sent) and self.random.random() < 0.8
            transport.close() if over else transport.abort()
            await asyncio.shield(protocol.lost)
            self.check(sent, protocol.data, exact=False)
        self.check(sent, protocol.data)

    async def by_stream(self, disturb):
        sizes = self.sizes()
        sent = pattern(sum(sizes), self.random.random())
        address = self.random.choice(self.addresses)
        streams = self.random.choice(STREAMS)
        if isinstance(address, str):
            reader, writer = await streams.open_unix_connection(address)
        else:
            reader, writer = await streams.open_connection(*address)
        received = bytearray()
        try:
            at = 0
            for size in sizes:
                writer.write(sent[at : at + size])
                at += size
                # The other way round both sides could wait for each other.
                while len(received) < at:
                    data = await reader.read(self.random.choice([1 << 10, 1 << 16, 1 << 18]))
                    if not data:
                        raise Disturbed
                    received += data
                await writer.drain()
                await disturb(writer.transport)
        finally:
            self.check(sent, received, exact=False)
            writer.close()
        self.check(sent, received)
        await writer.wait_closed()

    async def by_sock(self, disturb):
        loop = asyncio.get_running_loop()
        address = self.random.choice(self.addresses)
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        received = bytearray()
        with socket.socket(family) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            sent = pattern(sum(self.sizes()), self.random.random())
            sending = asyncio.ensure_future(loop.sock_sendall(sock, sent))
            try:
                while len(received) < len(sent):
                    data = await loop.sock_recv(sock, self.random.choice([10, 1000, 1 << 17]))
                    if not data:
                        raise Disturbed
                    received += data
                    if self.random.random() < 0.02:
                        await disturb(sock)
            finally:
                self.check(sent, received, exact=False)
                sending.cancel()
                await asyncio.wait([sending])
                if not sending.cancelled():
                    sending.exception()
        self.check(sent, received)

    async def by_file(self, disturb):
        loop = asyncio.get_running_loop()
        offset = self.random.randrange(len(self.content))
        count = self.random.randint(1, len(self.content))
        sent = self.content[offset : offset + count]
        transport, protocol = await self.connect(lambda: Collector(len(sent)))
        try:
            with os.fdopen(os.dup(self.file.fileno()), "rb") as file:
                await loop.sendfile(transport, file, offset, count)
            await disturb(transport)
            await protocol.done
        finally:
            transport.close() if len(protocol.data) == len(sent) else transport.abort()
            await asyncio.shield(protocol.lost)
            self.check(sent, protocol.data, exact=False)
        self.check(sent, protocol.data)

    async def by_datagram(self, disturb):
        loop = asyncio.get_running_loop()
        received = asyncio.Queue()

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                received.put_nowait(data)

        transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=self.udp.get_extra_info("sockname"))
        sent = []
        try:
            for _ in range(20):
                sent.append(self.random.randbytes(self.random.randint(0, 2000)))
                transport.sendto(sent[-1])
                # The network may lose it, even this one, or be slow: then what comes is an older one's.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        while (reply := await received.get()) != sent[-1]:
                            assert reply in sent
                await disturb(transport)
        finally:
            transport.close()

    async def by_process(self, disturb):
        sent = pattern(sum(self.sizes()), self.random.random())
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            if self.random.random() < 0.2:
                process.kill()
            output, _ = await process.communicate(sent)
            self.check(sent, output, exact=process.returncode == 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
            process._transport.close()

    def check(self, sent, received, exact=True):
        if not sent.startswith(received):
            raise AssertionError("bytes came back that were not sent, or not in this order")
        if exact and len(sent) != len(received):
            raise AssertionError(f"{len(received)} of {len(sent)} bytes came back")
        if exact:
            self.counts["bytes"] += len(sent)

    # Faults

    def disturber(self):
        """What a conversation calls between two steps. One in three is disturbed, at some step."""
        left = self.random.randint(0, 6) if self.random.random() < 0.3 else None
        kind = self.random.choice(["reset", "abort", "close"])

        async def disturb(what):
            nonlocal left
            if left is None:
                return
            left -= 1
            if left > 0:
                return
            left = None
            self.counts[kind] += 1
            if kind == "reset":
                sock = what if isinstance(what, socket.socket) else what.get_extra_info("socket")
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if isinstance(what, socket.socket):
                raise Disturbed
            what.close() if kind == "close" else what.abort()
            raise Disturbed

        return disturb

    async def converse(self):
        kinds = [self.by_protocol] * 4 + [self.by_stream] * 4 + [self.by_sock] * 4 + [self.by_file] * 2
        kinds += [self.by_datagram, self.by_process]
        kind = self.random.choice(kinds)
        task = asyncio.ensure_future(kind(self.disturber()))
        if self.random.random() < 0.15:
            # Wherever it is then.
            asyncio.get_running_loop().call_later(self.random.random() * 0.05, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
        except (Disturbed, ConnectionError) as error:
            self.counts[type(error).__name__] += 1
        else:
            self.counts[kind.__name__] += 1

    async def load(self, seconds):
        """A crowd of conversations, each followed by another one until the time is over."""
        await self.start()
        end = time.monotonic() + seconds

        async def one():
            while time.monotonic() < end:
                await self.converse()

        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(one())
        await self.stop()

    def close(self):
        self.file.close()
        self.directory.cleanup()


def count():
    """What must not grow: descriptors, threads, bytes of resident memory."""
    gc.collect()
    # What the C library keeps for later is not what is looked for.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), resident


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--loop", choices=LOOPS, default="ferrio")
    options = parser.parse_args()
    print(f"soak: {options.loop}, {options.seconds:.0f} seconds, --seed {options.seed}", flush=True)
    soak = Soak(options.seed)
    problems = []
    with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: problems.append(repr(context)))
        runner.run(soak.load(options.seconds / 4))
        before = count()
        runner.run(soak.load(options.seconds * 3 / 4))
        after = count()
        problems += [f"a task is left: {task!r}" for task in asyncio.all_tasks(loop)]
    soak.close()
    names, slacks = ("descriptors", "threads", "resident bytes"), (0, 0, SLACK)
    for name, old, new, slack in zip(names, before, after, slacks, strict=True):
        print(f"{name}: {old:,} -> {new:,}")
        if new > old + slack:
            problems.append(f"{name} grew from {old:,} to {new:,}")
    print(", ".join(f"{name} {number:,}" for name, number in sorted(soak.counts.items())))
    for problem in problems[:20]:
        print("PROBLEM", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
