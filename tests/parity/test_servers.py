"""Servers: listening, accepting, and the connections that they made."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import resource
import socket
import weakref

import pytest
from support.guard import without_collector
from support.peers import Accepted, receive_all, reset, turns

pytestmark = pytest.mark.every_door


@contextlib.asynccontextmanager
async def serving(factory, **options):
    """A server on a free port of 127.0.0.1, and a function that connects to it. It is aborted in the end."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **options)
    address = server.sockets[0].getsockname()
    try:
        with contextlib.ExitStack() as stack:

            def connect():
                sock = stack.enter_context(socket.create_connection(address))
                sock.settimeout(10)
                return sock

            yield server, connect
            server.close()
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 10)


def test_a_connection_from_begin_to_end(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as (server, connect):
            case(server.is_serving(), len(server.sockets), type(server.sockets[0]).__name__)
            case(server.get_loop() is asyncio.get_running_loop(), isinstance(server, asyncio.AbstractServer))
            client = connect()
            protocol = await made.get()
            transport = protocol.transport
            case(transport.get_extra_info("peername") == client.getsockname())
            case(transport.get_extra_info("sockname") == client.getpeername())
            sock = transport.get_extra_info("socket")
            case(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0, sock.family, sock.type)
            case(transport.get_extra_info("socket") is sock, os.get_inheritable(sock.fileno()))
            client.sendall(b"hello")
            await protocol.until("data_received")
            transport.write(b"answer")
            transport.close()
            await protocol.lost
            case(receive_all(client))

    parity(body)


def test_closing(parity):
    """The connections go on; wait_closed waits for them, in either order."""

    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as (server, connect):
            connect()
            protocol = await made.get()
            waiting = asyncio.create_task(server.wait_closed())
            await turns()
            case(waiting.done())
            server.close()
            server.close()
            case(server.is_serving(), server.sockets)
            await turns()
            case(waiting.done(), protocol.transport.is_closing())
            protocol.transport.close()
            await protocol.lost
            await waiting
            await server.wait_closed()

    parity(body)


def test_waiting_before_closing(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as (server, connect):
            waiting = asyncio.create_task(server.wait_closed())
            connect()
            (await made.get()).transport.abort()
            await turns()
            case(waiting.done())
            server.close()
            await waiting

    parity(body)


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
@pytest.mark.asyncio_since("3.13", "methods for all clients")
def test_ending_all_connections(parity, method):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as (server, connect):
            clients = [connect() for _ in range(3)]
            protocols = [await made.get() for _ in clients]
            getattr(server, method)()
            case([await protocol.lost for protocol in protocols], server.is_serving())
            # It goes on to serve.
            connect()
            (await made.get()).transport.abort()

    recorded, _ = parity(body)
    assert recorded == [([None] * 3, True)]


@pytest.mark.ferrio_only("asyncio's socket complains as well")
def test_a_client_that_is_dropped_leaves_the_server(loop):
    """An abandoned transport complains, and is not waited for."""

    async def body():
        class Abandoned(asyncio.Protocol):
            def connection_made(self, transport):
                transport.pause_reading()
                made.set_result(None)

        made = loop.create_future()
        server = await loop.create_server(Abandoned, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await made
            await turns()
            gc.collect()
            server.close()
            await server.wait_closed()

    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.run_until_complete(body())


# Starting


def test_starting_later(parity):
    async def body(case):
        made = asyncio.Queue()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Accepted(case, made), "127.0.0.1", 0, start_serving=False)
        address = server.sockets[0].getsockname()
        case(server.is_serving())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for _ in range(2):
            case(await server.start_serving(), server.is_serving())
        with socket.create_connection(address):
            protocol = await made.get()
        await protocol.lost
        server.close()
        await server.wait_closed()

    parity(body)


@pytest.mark.ferrio_only("asyncio raises TypeError, and says from then on that it serves")
def test_starting_when_closed(parity):
    async def body(case):
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        with pytest.raises(RuntimeError, match="^server <.*> is closed$"):
            await server.start_serving()
        case(server.is_serving())

    assert parity(body)[0] == [False]


@pytest.mark.asyncio_since("3.14", "an end for the connections of a cancelled server")
def test_serve_forever(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made), start_serving=False) as (server, connect):
            forever = asyncio.create_task(server.serve_forever())
            await turns()
            case(server.is_serving())
            with pytest.raises(RuntimeError, match="is already being awaited on serve_forever()"):
                await server.serve_forever()
            connect()
            await made.get()
            forever.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forever
            case(server.is_serving(), server.sockets)
            with pytest.raises(RuntimeError, match="is closed"):
                await server.serve_forever()

    recorded, _ = parity(body)
    assert ("connection_lost", "NoneType", "None") in recorded


def test_closing_ends_serve_forever(parity):
    async def body(case):
        async with serving(asyncio.Protocol) as (server, _):
            forever = asyncio.create_task(server.serve_forever())
            await turns()
            server.close()
            with pytest.raises(asyncio.CancelledError):
                await forever
            case("ended")

    parity(body)


@pytest.mark.asyncio_since("3.13", "a wait for connections that works")
def test_context_manager(parity):
    async def body(case):
        made = asyncio.Queue()
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Accepted(case, made), "127.0.0.1", 0) as server:
            case(server.is_serving())
            with socket.create_connection(server.sockets[0].getsockname()):
                await made.get()
        case(server.is_serving())

    parity(body)


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", ["127.0.0.1", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], "localhost"])
def test_hosts(parity, host):
    async def body(case):
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, 0)
        case(sorted({sock.getsockname()[0] for sock in server.sockets}), len(server.sockets))
        server.close()
        await server.wait_closed()

    parity(body)


@pytest.mark.parametrize("host", [None, ""])
def test_every_address(parity, host):
    """One socket a family, and the one of IPv6 does not take IPv4's port."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = await loop.create_server(asyncio.Protocol, host, port)
        case(sorted(sock.getsockname()[0] for sock in server.sockets))
        for sock in server.sockets:
            if sock.family == socket.AF_INET6:
                case(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        server.close()
        await server.wait_closed()

    parity(body)


@pytest.mark.parametrize("reuse", [True, False, None])
def test_options(parity, reuse):
    async def body(case):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, reuse_address=reuse, reuse_port=reuse)
        sock = server.sockets[0]
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_KEEPALIVE):
            case(sock.getsockopt(socket.SOL_SOCKET, option))
        server.close()
        await server.wait_closed()

    parity(body)


@pytest.mark.asyncio_since("3.14", "keep_alive")
def test_keep_alive(parity):
    async def body(case):
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, keep_alive=True)
        case(server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        server.close()
        await server.wait_closed()

    assert parity(body)[0] == [1]


def test_a_socket_of_the_users(parity):
    async def body(case):
        made = asyncio.Queue()
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        server = await asyncio.get_running_loop().create_server(lambda: Accepted(case, made), sock=sock)
        case(sock.gettimeout())
        with socket.create_connection(address):
            await made.get()
        server.close()
        case(sock.fileno())
        await server.wait_closed()

    parity(body)


@pytest.mark.asyncio_since("3.13", "these texts")
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"host": "127.0.0.1", "port": 0, "sock": True},
        {"sock": "udp"},
        {"host": "127.0.0.1", "port": 0, "ssl": True},
        {"host": "127.0.0.1", "port": 0, "ssl_handshake_timeout": 1},
        {"host": "127.0.0.1", "port": 0, "ssl_shutdown_timeout": 1},
        {"host": "192.0.2.1", "port": 0},
    ],
    ids=str,
)
def test_wrong_arguments(parity, arguments):
    async def body(case):
        kinds = {True: socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
        with socket.socket(type=kinds.get(arguments.get("sock"), socket.SOCK_STREAM)) as sock:
            options = arguments | ({"sock": sock} if "sock" in arguments else {})
            try:
                await asyncio.get_running_loop().create_server(asyncio.Protocol, **options)
            except Exception as error:
                case(type(error).__name__, str(error).replace(repr(sock), "SOCK"))

    recorded, _ = parity(body)
    assert len(recorded) == 1


@pytest.mark.asyncio_since("3.13", "this text")
def test_an_address_in_use(parity):
    async def body(case):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
            try:
                await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port)
            except OSError as error:
                case(error.errno, str(error).replace(str(port), "PORT"))

    recorded, _ = parity(body)
    assert recorded[0][0] == errno.EADDRINUSE


@pytest.mark.ferrio_only("asyncio leaves the sockets open, and those that listen in the loop")
def test_a_socket_that_cannot_listen(loop):
    """Then none does, and create_server closes all."""

    async def body():
        class Deaf(socket.socket):
            def listen(self, backlog):
                listening.append(self)
                if len(listening) == 2:
                    raise OSError(errno.EADDRINUSE, "in use")
                super().listen(backlog)

        listening = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", Deaf)
            with pytest.raises(OSError, match="in use"):
                await loop.create_server(asyncio.Protocol, ["127.0.0.1", "127.0.0.2"], 0)
        assert [sock.fileno() for sock in listening] == [-1, -1]

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio says that it serves, and the first socket does")
def test_a_server_that_cannot_listen_yet(loop):
    """It has not begun, with no socket, and can be started again."""

    async def body():
        class Deaf(socket.socket):
            def listen(self, backlog):
                listening.append(self)
                super().listen(backlog)
                if len(listening) == 2:
                    raise OSError(errno.EADDRINUSE, "in use")

        listening, made = [], asyncio.Queue()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", Deaf)
            server = await loop.create_server(
                lambda: Accepted(lambda *event: None, made), ["127.0.0.1", "127.0.0.2"], 0, start_serving=False
            )
        with pytest.raises(OSError, match="in use"):
            await server.start_serving()
        assert not server.is_serving()
        with socket.create_connection(listening[0].getsockname()):
            await turns()
            assert made.empty()
            await server.start_serving()
            (await made.get()).transport.abort()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(body())


# Accepting


def test_many_at_once(parity):
    """More than the batch of one turn."""

    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made), backlog=10) as (_, connect):
            for _ in range(5):
                clients = [connect() for _ in range(9)]
                protocols = [await made.get() for _ in clients]
                names = {protocol.transport.get_extra_info("peername") for protocol in protocols}
                case(names == {client.getsockname() for client in clients})
                for protocol in protocols:
                    protocol.transport.abort()

    assert parity(body)[0] == [True] * 5


def test_a_client_that_resets_at_once(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as (_, connect):
            reset(connect())
            client = connect()
            while True:
                protocol = await made.get()
                if protocol.transport.get_extra_info("peername") == client.getsockname():
                    break
            case("served")
            protocol.transport.abort()

    parity(body)


@pytest.mark.ferrio_only("asyncio is silent outside of debug mode")
def test_a_factory_that_fails(loop, exceptions):
    """It is reported, the connection is closed, and the server goes on."""

    async def body():
        made = asyncio.Queue()

        def factory():
            if not failures:
                return Accepted(lambda *event: None, made)
            raise failures.pop()

        failures = [ValueError("in a factory")]
        async with serving(factory) as (_, connect):
            assert receive_all(await _run(connect)) == b""
            connect()
            (await made.get()).transport.abort()

    loop.run_until_complete(body())
    text = "Error on transport creation for incoming connection"
    assert exceptions.take() == [(text, ("ValueError", "in a factory"))]


async def _run(connect):
    client = connect()
    await turns()
    return client


@pytest.mark.ferrio_only("asyncio stumbles over an assertion, and leaves the connections to the collector")
@pytest.mark.parametrize("place", [1, 11])
def test_a_factory_that_closes_the_server(loop, place):
    """Its own connection, and those that would be accepted with it, are nobody's."""

    async def body():
        def factory():
            calls.append(None)
            if len(calls) == place:
                server.close()
            return asyncio.Protocol()

        calls = []
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with contextlib.ExitStack() as clients:
            for _ in range(20):
                clients.enter_context(socket.create_connection(address))
            while server.is_serving():
                await asyncio.sleep(0)
            await turns()
            assert len(calls) == place
        await asyncio.wait_for(server.wait_closed(), 10)

    loop.run_until_complete(body())


def test_closing_inside_connection_made(loop):
    async def body():
        class Closing(asyncio.Protocol):
            def connection_made(self, transport):
                server.close()
                transport.close()

        server = await loop.create_server(Closing, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            await asyncio.wait_for(server.wait_closed(), 10)
            assert receive_all(client) == b""

    loop.run_until_complete(body())


@pytest.mark.ferrio_only("asyncio tells of it once for each place in the queue")
def test_out_of_descriptors(loop, exceptions):
    """It is told once, and after a second the connection that waited is accepted."""

    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made)) as (_, connect):
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            client = connect()
            highest = os.dup(client.fileno())
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
            try:
                while not exceptions.contexts:
                    await asyncio.sleep(0)
                start = loop.time()
                await turns(100)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            protocol = await asyncio.wait_for(made.get(), 10)
            assert loop.time() - start > 0.5
            protocol.transport.abort()

    loop.run_until_complete(body())
    (context,) = exceptions.contexts
    assert type(context["socket"]).__name__ == "TransportSocket"
    ((message, error),) = exceptions.take()
    assert message == "socket.accept() out of system resource"
    assert error == ("OSError", f"[Errno {errno.EMFILE}] Too many open files")


def test_closing_while_out_of_descriptors(loop, exceptions):
    """No timer is left to wake a server that is closed."""

    async def body():
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with serving(asyncio.Protocol) as (_, connect):
            client = connect()
            highest = os.dup(client.fileno())
            os.close(highest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, limits[1]))
            try:
                while not exceptions.take():
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    loop.run_until_complete(body())


variable = contextvars.ContextVar("variable", default=0)


@pytest.mark.asyncio_since("3.15", "a context for each accepted connection")
def test_each_connection_has_a_copy_of_the_servers_context(parity):
    async def body(case):
        def note(protocol):
            case(variable.get())
            variable.set(variable.get() + 1)

        def factory():
            note(None)
            names = ["connection_made", "data_received", "connection_lost"]
            return Accepted(lambda *event: None, made, **dict.fromkeys(names, note))

        made = asyncio.Queue()
        variable.set(10)
        async with serving(factory) as (_, connect):
            variable.set(100)
            for _ in range(2):
                client = connect()
                protocol = await made.get()
                client.sendall(b"x")
                await protocol.until("data_received")
                protocol.transport.close()
                await protocol.lost

    recorded, _ = parity(body)
    assert recorded == [10, 11, 12, 13] * 2


def test_repr(parity):
    async def body(case):
        async with serving(asyncio.Protocol) as (server, _):
            case(repr(server) == f"<Server sockets={server.sockets!r}>")
            server.close()
            case(repr(server))

    recorded, _ = parity(body)
    assert recorded == [True, "<Server sockets=()>"]


def test_streams(parity):
    """The standard library's streams on both ends."""

    async def body(case):
        async def serve(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for line in (b"one\n", b"x" * 50_000 + b"\n"):
                writer.write(line)
                await writer.drain()
                answer = await reader.readline()
                case(len(answer), answer[:5])
            writer.write_eof()
            case(await reader.read())
            writer.close()
            await writer.wait_closed()

    parity(body)


@pytest.mark.ferrio_only("asyncio leaves some of it to the collector")
def test_nothing_is_left_for_the_collector(loop):
    async def body():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await turns()
            server.abort_clients()
        server.close()
        await server.wait_closed()
        return weakref.ref(server)

    with without_collector():
        assert loop.run_until_complete(body())() is None
