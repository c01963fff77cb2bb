"""TLS contexts, a peer that is driven record by record, and connections with both ends on the loop."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from .peers import Accepted, Recording, turns

CERTIFICATES = Path(__file__).parent.parent / "certificates"
AUTHORITY = CERTIFICATES / "ca.pem"

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def server_context(certificate="server.pem", version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / certificate)
    return limited(context, version)


def client_context(certificate=None, version=None):
    """Trusts the tests' authority, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(AUTHORITY)
    if certificate:
        context.load_cert_chain(CERTIFICATES / certificate)
    return limited(context, version)


def limited(context, version):
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Peer:
    """The other end of a connection, on a socket of its own and over memory BIOs: nothing is sent, received or answered
    but what the test says."""

    def __init__(self, sock, context, server_side=False, server_hostname="localhost"):
        sock.setblocking(False)
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hostname = None if server_side else server_hostname
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=hostname)

    async def flush(self):
        """Sends what there is to send."""
        if data := self.outgoing.read():
            await self.loop.sock_sendall(self.sock, data)

    async def feed(self):
        """Receives something; false at the end of the stream."""
        data = await self.loop.sock_recv(self.sock, 1 << 16)
        self.incoming.write(data)
        return bool(data)

    async def call(self, method, *arguments):
        """A method of the SSLObject, with as much input as it wants. EOFError if that ends."""
        while True:
            try:
                result = method(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
                if not await self.feed():
                    raise EOFError from None
            else:
                await self.flush()
                return result

    async def handshake(self):
        await self.call(self.ssl.do_handshake)

    async def write(self, data):
        await self.call(self.ssl.write, data)

    async def read(self, size=1 << 16):
        return await self.call(self.ssl.read, size)

    async def read_exactly(self, size):
        data = b""
        while len(data) < size:
            data += await self.read(size - len(data))
        return data

    async def read_to_end(self):
        """Everything up to the peer's close_notify, or to the end of the stream: the data, and which it was."""
        data = b""
        while True:
            try:
                chunk = await self.read()
            except EOFError:
                return data, "end of file"
            except ConnectionResetError:
                return data, "reset"
            if not chunk:
                return data, "close_notify"
            data += chunk

    async def close(self):
        """The closing, from this side, to its end."""
        await self.call(self.ssl.unwrap)

    def abandon(self):
        self.sock.close()


def serving(factory, context=None, **options):
    """A TLS server on this loop; gives what connects a Peer to it."""

    @contextlib.asynccontextmanager
    async def manager():
        loop = asyncio.get_running_loop()
        peers, protocols = [], []

        def make():
            protocols.append(factory())
            return protocols[-1]

        server = await loop.create_server(make, "127.0.0.1", 0, ssl=context or server_context(), **options)

        async def connect(client=None, shake=True, **arguments):
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, server.sockets[0].getsockname())
            peers.append(Peer(sock, client or client_context(), **arguments))
            if shake:
                await peers[-1].handshake()
            return peers[-1]

        connect.address = server.sockets[0].getsockname()
        try:
            yield connect
        finally:
            for peer in peers:
                peer.abandon()
            for protocol in protocols:
                if transport := getattr(protocol, "transport", None):
                    transport.abort()
            server.close()
            await turns()

    return manager()


@contextlib.asynccontextmanager
async def listening():
    """A plain listening socket; gives its address and what accepts from it."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepted = []

        async def accept():
            sock, _ = await loop.sock_accept(listener)
            accepted.append(sock)
            return sock

        try:
            yield listener.getsockname(), accept
        finally:
            for sock in accepted:
                sock.close()


versions = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])


class Plain(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport


def echo(protocol):
    protocol.transport.write(bytes(protocol.data))
    protocol.data.clear()


async def outcome(awaitable):
    """What is raised, without the line of C that CPython puts into the text."""
    try:
        await awaitable
    except Exception as error:
        return type(error).__name__, str(error).partition(" (_ssl.c")[0]
    return "nothing raised"


@contextlib.asynccontextmanager
async def connected(case, server=None, client=None, server_on=None, **client_on):
    """Two ends on the loop under test: the client's protocol and the server's, both recording."""
    loop = asyncio.get_running_loop()
    made = asyncio.Queue()
    listener = await loop.create_server(
        lambda: Accepted(lambda *event: case("server", *event), made, **(server_on or {})),
        "127.0.0.1",
        0,
        ssl=server or server_context(),
    )
    _, ours = pair = await loop.create_connection(
        lambda: Recording(lambda *event: None, **client_on),
        *listener.sockets[0].getsockname(),
        ssl=client or client_context(),
        server_hostname="localhost",
    )
    theirs = await made.get()
    del pair, _
    try:
        yield ours, theirs
    finally:
        for protocol in (ours, theirs):
            if protocol.transport:
                protocol.transport.abort()
            await protocol.lost
        listener.close()


def encrypted(peer, data):
    peer.ssl.write(data)
    return peer.outgoing.read()
