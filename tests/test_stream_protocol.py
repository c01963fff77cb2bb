"""StreamReaderProtocol: the end of a connection, callbacks of a server, and who is held."""

import asyncio
import gc
import weakref

import pytest
from support.peers import turns
from support.streams import Transport, outcome
from support.traces import package


def test_wait_closed(parity):
    async def body(case):
        for exc in (None, ValueError("lost")):
            for early in (False, True):
                protocol = package(case).StreamReaderProtocol(package(case).StreamReader())
                transport = Transport(case)
                protocol.connection_made(transport)
                writer = package(case).StreamWriter(transport, protocol, None, case.loop)
                waiting = asyncio.ensure_future(outcome(writer.wait_closed())) if early else None
                await turns()
                transport.closing = True
                protocol.connection_lost(exc)
                case(await waiting if waiting else await outcome(writer.wait_closed()))
                case(await outcome(writer.wait_closed()), protocol._closed.done())
                case(protocol._transport, protocol._task, protocol._stream_reader)

    parity(body)


def test_nobody_waits_for_an_end_that_failed(parity):
    """No exception is reported as never retrieved."""

    async def body(case):
        for ask in (False, True):
            protocol = package(case).StreamReaderProtocol(package(case).StreamReader())
            protocol.connection_made(Transport())
            if ask:
                protocol._closed.done()
            protocol.connection_lost(ValueError("lost"))
            del protocol
            gc.collect()
        await turns()

    _, errors = parity(body)
    assert errors == []


def test_a_connection_that_is_not_wanted(parity):
    async def body(case):
        class Aborted(Transport):
            def abort(self):
                case("abort")

        protocol = package(case).StreamReaderProtocol(package(case).StreamReader())
        protocol._reject_connection = True
        protocol.connection_made(Aborted(case))
        case(protocol._transport)

    _, errors = parity(body)
    assert len(errors) == 1


def test_reader_is_held_weakly(parity):
    async def body(case):
        reader = package(case).StreamReader()
        protocol = package(case).StreamReaderProtocol(reader)
        gone = weakref.ref(reader)
        transport = Transport(case)
        protocol.connection_made(transport)
        del reader
        gc.collect()
        case(gone(), protocol._stream_reader)
        protocol.data_received(b"for nobody")
        case(protocol.eof_received())
        protocol.connection_lost(None)

    parity(body)


@pytest.mark.asyncio_since("3.14", "_replace_transport, also of the reader")
def test_over_ssl(parity):
    class Encrypted(Transport):
        def get_extra_info(self, name, default=None):
            return "context" if name == "sslcontext" else default

    async def body(case):
        reader = package(case).StreamReader()
        protocol = package(case).StreamReaderProtocol(reader)
        protocol.connection_made(Transport(case))
        case(protocol._over_ssl)
        protocol._replace_transport(new := Encrypted(case))
        case(protocol._over_ssl, reader._transport is new, protocol._transport is new)
        case(protocol.eof_received(), reader.at_eof())

    parity(body)


@pytest.mark.asyncio_since("3.14", "all of it")
def test_callback_of_a_server(parity):
    async def body(case):
        class Escaping(BaseException):
            pass

        def plain(reader, writer):
            case("plain", type(reader).__name__, type(writer).__name__, writer.transport is transport)
            writer.transport.closing = True

        def failing(reader, writer):
            raise ValueError("failed")

        def escaping(reader, writer):
            writer.transport.closing = True
            raise Escaping

        async def served(reader, writer):
            case("served", await reader.readline())
            writer.close()

        async def failing_later(reader, writer):
            await asyncio.sleep(0)
            raise ValueError("failed later")

        async def cancelled(reader, writer):
            raise asyncio.CancelledError

        for callback in (plain, failing, escaping, served, failing_later, cancelled):
            transport = Transport(case)
            reader = package(case).StreamReader()
            gone = weakref.ref(reader)
            protocol = package(case).StreamReaderProtocol(reader, callback)
            del reader
            case(callback.__name__, gone() is not None, protocol._strong_reader is gone())
            try:
                protocol.connection_made(transport)
            except Escaping:
                case("escaped")
            else:
                case(protocol._strong_reader)
            protocol.data_received(b"line\n")
            await turns(5)
            case(transport.closing, type(protocol._task).__name__)
            del protocol
            gc.collect()
            case(gone() is None)

    parity(body)
