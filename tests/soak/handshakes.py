"""Many TLS handshakes: memory is flat.

Client and server are in one loop: a connection is two handshakes. Connections end in many ways: closed, aborted,
given up in the handshake, refused for the certificate, with a peer that speaks another language. The process's memory
is looked at in equal steps; after the first of them, which fills pools and caches, it may not grow.

    make handshakes                              # 50,000 on each way to OpenSSL: a few minutes
    make handshakes HANDSHAKES=5000
    python tests/soak/handshakes.py --loop asyncio    # whether it is OpenSSL that grows
"""

import argparse
import asyncio
import contextlib
import gc
import os
import socket
import ssl
import time
from pathlib import Path

import ferrio

CERTIFICATES = Path(__file__).parent.parent / "certificates"
LOOPS = {"ferrio": ferrio.new_event_loop, "asyncio": asyncio.new_event_loop}

#: Connections at a time.
CROWD = 20
STEPS = 10
#: Bytes that the process may grow by after the first step. A connection that stays is ten thousands.
SLACK = 3 << 20


class Serve(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Ask(asyncio.Protocol):
    def __init__(self):
        self.answered = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        if not self.answered.done():
            self.answered.set_result(data)

    def connection_lost(self, exc):
        if not self.lost.done():
            self.lost.set_result(exc)


def contexts(version):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(CERTIFICATES / "server.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(CERTIFICATES / "ca.pem")
    client.minimum_version = client.maximum_version = version
    return server, client


async def connect(address, client, hostname="localhost"):
    loop = asyncio.get_running_loop()
    return await loop.create_connection(Ask, *address, ssl=client, server_hostname=hostname)


async def talks_and_closes(address, client):
    transport, protocol = await connect(address, client)
    transport.write(b"hello")
    assert await protocol.answered == b"hello"
    transport.close()
    await protocol.lost


async def aborts(address, client):
    transport, protocol = await connect(address, client)
    transport.write(b"hello" * 1000)
    transport.abort()
    await protocol.lost


async def does_not_trust(address, client):
    with contextlib.suppress(ssl.SSLCertVerificationError):
        await connect(address, client, "somebody.else")
        raise AssertionError("the certificate of localhost was taken for another's")


async def gives_up(address, client):
    connecting = asyncio.ensure_future(connect(address, client))
    for _ in range(6):
        await asyncio.sleep(0)
    connecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        transport, protocol = await connecting
        transport.abort()
        await protocol.lost


async def speaks_another_language(address, client):
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while await loop.sock_recv(sock, 1000):
                pass


#: What a connection does, most of them the first.
ENDS = (talks_and_closes, talks_and_closes, talks_and_closes, aborts, does_not_trust, gives_up, speaks_another_language)


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def handshakes(count):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # of those who speak another language
    pairs = [contexts(version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
    servers = [await loop.create_server(Serve, "127.0.0.1", 0, ssl=server) for server, _ in pairs]
    turns = iter(range(count // 2 // STEPS * STEPS))

    async def one_after_the_other(until):
        for turn in turns:
            which = turn % 2
            await ENDS[turn % len(ENDS)](servers[which].sockets[0].getsockname(), pairs[which][1])
            if turn >= until:
                return

    sizes = []
    step = count // 2 // STEPS
    for number in range(STEPS):
        async with asyncio.TaskGroup() as group:
            for _ in range(CROWD):
                group.create_task(one_after_the_other((number + 1) * step - CROWD))
        sizes.append(resident())
        print(f"  {2 * (number + 1) * step:7} handshakes  {sizes[-1] / 2**20:7.2f} MiB", flush=True)
    for server in servers:
        server.close()
        await server.wait_closed()
    return sizes[-1] - sizes[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=50_000)
    parser.add_argument("--loop", choices=LOOPS, default="ferrio")
    arguments = parser.parse_args()
    ways = ("direct", "portable") if arguments.loop == "ferrio" else ("asyncio",)
    grown = {}
    for way in ways:
        os.environ["FERRIO_TLS"] = way
        print(f"{way}:")
        begin = time.monotonic()
        with asyncio.Runner(loop_factory=LOOPS[arguments.loop]) as runner:
            grown[way] = runner.run(handshakes(arguments.handshakes))
        print(f"  grown by {grown[way] / 1024:.0f} KiB in {time.monotonic() - begin:.0f} s")
    return int(any(growth > SLACK for growth in grown.values()))


if __name__ == "__main__":
    raise SystemExit(main())
