"""TLS: protocols that do as they like."""

import asyncio
import contextlib
import ssl

import pytest
from support.peers import Failure, Recording, fail, turns
from support.tls import Accepted, serving

pytestmark = pytest.mark.usefixtures("engine")


def test_an_exception_in_data_received(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, data_received=fail)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"hello")
            case(type(await protocol.lost).__name__)

    recorded, errors = parity(body)
    assert recorded[-1] == "Failure"
    assert errors == [("Fatal error on SSL protocol", ("Failure", "in a protocol"))]


def test_an_exception_in_eof_received(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, eof_received=fail)) as connect:
            peer = await connect()
            protocol = await made.get()
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.ssl.unwrap()
            await peer.flush()
            case(type(await protocol.lost).__name__)

    recorded, errors = parity(body)
    assert recorded[-1] == "Failure"
    assert errors == [("Error calling eof_received()", ("Failure", "in a protocol"))]


def test_an_exception_in_connection_made(loop, exceptions):
    """It ends the connection, as any that a protocol of a transport raises."""

    async def body():
        lost = []

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                raise Failure

            def connection_lost(self, exc):
                lost.append(type(exc))

        async with serving(Protocol) as connect:
            peer = await connect()
            with contextlib.suppress(ConnectionResetError):
                while await peer.feed():
                    pass
            await turns()
        assert lost == [Failure]

    loop.run_until_complete(body())
    assert [exception for _, (exception, _) in exceptions.take()] == ["Failure"]


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop(loop, leaving):
    """And the loop goes on afterwards."""

    def leave(protocol):
        raise leaving

    async def body():
        made = asyncio.Queue()
        async with serving(lambda: Accepted(lambda *event: None, made, data_received=leave)) as connect:
            peer = await connect()
            protocol = await made.get()
            await peer.write(b"hello")
            await asyncio.shield(protocol.lost)

    running = loop.create_task(body())
    with pytest.raises(leaving):
        loop.run_until_complete(running)
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(running)


def test_each_connection_has_a_context_of_its_own(parity):
    import contextvars

    variable = contextvars.ContextVar("variable", default="nobody's")

    async def body(case):
        def first(protocol):
            variable.set("the connection's")

        def then(protocol):
            case(variable.get())

        made = asyncio.Queue()
        async with serving(
            lambda: Accepted(lambda *event: None, made, connection_made=first, data_received=then)
        ) as connect:
            for _ in range(2):
                peer = await connect()
                protocol = await made.get()
                await peer.write(b"hello")
                await protocol.until("data_received")
                case(variable.get())

    assert parity(body)[0] == ["the connection's", "nobody's"] * 2


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("when", ["connection_made", "data_received", "eof_received"])
def test_the_end_from_inside_of_the_protocol(parity, method, when):
    async def body(case):
        end = lambda protocol: getattr(protocol.transport, method)()  # noqa: E731
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made, **{when: end})) as connect:
            peer = await connect()
            protocol = await made.get()
            with contextlib.suppress(ConnectionError, EOFError, ssl.SSLError):
                await peer.write(b"hello")
                if when == "eof_received":
                    await protocol.until("data_received")
                await peer.close()
            error = await protocol.lost
            case(type(error).__name__)

    recorded, errors = parity(body)
    assert not errors


def test_another_protocol_from_inside_of_the_protocol(parity):
    async def body(case):
        made = asyncio.Queue()

        def exchange(protocol):
            successor = Recording(lambda *event: case("successor", *event))
            protocol.transport.set_protocol(successor)
            successor.transport = protocol.transport
            made.put_nowait(successor)

        async with serving(lambda: Accepted(case, made, data_received=exchange)) as connect:
            peer = await connect()
            await made.get()
            await peer.write(b"one")
            successor = await made.get()
            await peer.write(b"two")
            await successor.until("data_received")
            successor.transport.abort()
            await successor.lost

    recorded, _ = parity(body)
    assert ("successor", "data_received", "bytes", b"two") in recorded


# What asyncio has below a TLS transport


def test_who_replaces_methods_of_the_protocol_below_is_called(parity):
    """A known way to wait until a client's connections are gone: `close()` of the client does not."""

    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect()
            transport = (await made.get()).transport
            below = transport._ssl_protocol
            case(below is transport._ssl_protocol, below is below._transport.get_protocol())
            gone = asyncio.Event()

            def replaced(name, method):
                def call(*arguments):
                    case(name, arguments)
                    if name == "connection_lost":
                        gone.set()
                    return method(*arguments)

                setattr(below, name, call)

            replaced("connection_lost", below.connection_lost)
            replaced("eof_received", below.eof_received)
            transport.close()
            with contextlib.suppress(ssl.SSLWantReadError):
                await peer.close()
            await gone.wait()

    parity(body)


def test_what_the_protocol_below_keeps(parity):
    async def body(case):
        made = asyncio.Queue()
        async with serving(lambda: Accepted(case, made)) as connect:
            peer = await connect()
            protocol = await made.get()
            below = protocol.transport._ssl_protocol
            case(below._app_transport is protocol.transport, below._app_protocol is protocol)
            case(below._sslobj is below._extra["ssl_object"] is protocol.transport.get_extra_info("ssl_object"))
            case(sorted(below._extra), below._transport.get_extra_info("peername") is not None)
            await peer.close()
            await protocol.lost
            case(below._transport)

    parity(body)
