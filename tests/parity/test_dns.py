"""`getaddrinfo` and `getnameinfo`: what needs no name server is answered by the C library, in a thread or at once."""

import asyncio
import logging
import socket
import threading

import pytest
from support.case import describe, outcome

pytestmark = pytest.mark.every_door

QUERIES = {
    "IPv4": ("127.0.0.1", 80),
    "IPv6": ("::1", 80),
    "a zone": ("fe80::1%lo", 80),
    "localhost": ("localhost", 80),
    "any": (None, 80),
    "empty host": ("", 80),
    "bytes": (b"127.0.0.1", 80),
    "port as text": ("127.0.0.1", "80"),
    "port as bytes": ("127.0.0.1", b"80"),
    "service": ("127.0.0.1", "http"),
    "no port": ("127.0.0.1", None),
    "port 0": ("127.0.0.1", 0),
    "not quite an address": ("127.1", 80),
    "a number": ("2130706433", 80),
    "leading zero": ("127.0.0.01", 80),
    "trailing dot": ("127.0.0.1.", 80),
    "a space": ("127.0.0.1 ", 80),
}
OPTIONS = {
    "none": {},
    "stream": {"type": socket.SOCK_STREAM},
    "datagram": {"type": socket.SOCK_DGRAM},
    "TCP": {"proto": socket.IPPROTO_TCP},
    "IPv4 only": {"family": socket.AF_INET, "type": socket.SOCK_STREAM},
    "IPv6 only": {"family": socket.AF_INET6, "type": socket.SOCK_STREAM},
    "numeric": {"flags": socket.AI_NUMERICHOST, "type": socket.SOCK_STREAM},
    "passive": {"flags": socket.AI_PASSIVE, "type": socket.SOCK_STREAM},
    "UDP over a stream": {"proto": socket.IPPROTO_UDP, "type": socket.SOCK_STREAM},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_getaddrinfo(parity, query, options):
    """The answer is the C library's, whichever way it was found; so are its refusals."""

    async def body(case):
        case(await outcome(asyncio.get_running_loop().getaddrinfo(*query, **options)))

    events, _ = parity(body)
    try:
        expected = socket.getaddrinfo(*query, **options)
    except OSError as error:
        expected = describe(error)
    assert events == [expected]


def test_the_kinds_of_what_is_found(loop):
    """The enumerations, not bare numbers."""
    ((family, kind, protocol, canonical, address),) = loop.run_until_complete(
        loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    )
    assert isinstance(family, socket.AddressFamily)
    assert isinstance(kind, socket.SocketKind)
    assert (protocol, canonical, address) == (socket.IPPROTO_TCP, "", ("127.0.0.1", 80))


@pytest.mark.parametrize("wrong", [(1, 80), ("localhost", 1.5), ([], 80), ("\ud800", 80), ("a" * 300, 80)], ids=ascii)
def test_what_is_no_query(parity, wrong):
    async def body(case):
        found = await outcome(asyncio.get_running_loop().getaddrinfo(*wrong))
        case(found[0])

    parity(body)


@pytest.mark.parametrize("null", ["127.0.0.1\0", "local\0host"], ids=ascii)
def test_a_null_in_the_name(parity, null):
    async def body(case):
        found = await outcome(asyncio.get_running_loop().getaddrinfo(null, 80))
        case(found[0])

    parity(body)


def test_getnameinfo(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        case(await outcome(loop.getnameinfo(("127.0.0.1", 80), flags)))
        case(await outcome(loop.getnameinfo(("::1", 80, 0, 0), flags)))
        case(await outcome(loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)))
        case(await outcome(loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICSERV)))
        case(await outcome(loop.getnameinfo(("localhost", 80), flags)))
        case(await outcome(loop.getnameinfo(7)))
        case(await outcome(loop.getnameinfo(())))

    events, _ = parity(body)
    assert events[:2] == [("127.0.0.1", "80"), ("::1", "80")]


def test_a_replaced_resolver(parity, monkeypatch):
    """Programs and tests put their own function into `socket`: every query for a name goes there."""
    asked = []

    def resolver(host, port, family=0, type=0, proto=0, flags=0):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)

    async def body(case):
        asked.clear()
        case(await asyncio.get_running_loop().getaddrinfo("name.invalid", 80))
        case(list(asked))

    assert parity(body)[0][1] == ["name.invalid"]


def test_the_default_executor_is_asked(parity):
    """For a name; so a program's own executor sees the query, and a shut-down one refuses it."""

    async def body(case):
        loop = asyncio.get_running_loop()
        await loop.shutdown_default_executor()
        case(await outcome(loop.getaddrinfo("localhost", 80)))
        case(await outcome(loop.getnameinfo(("127.0.0.1", 80), 0)))

    assert parity(body)[0] == [("RuntimeError", "Executor shutdown has been called")] * 2


def test_cancelled(parity, monkeypatch):
    """The wait ends at once; the thread goes on alone, and its answer is nobody's."""

    async def body(case):
        entered, leave = threading.Event(), threading.Event()

        def resolver(*args, **kwargs):
            entered.set()
            assert leave.wait(10)
            return []

        monkeypatch.setattr(socket, "getaddrinfo", resolver)
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(loop.getaddrinfo("name.invalid", 80))
        while not entered.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        case(task.cancelled())
        leave.set()
        await loop.shutdown_default_executor()

    assert parity(body) == ([True], [])


@pytest.mark.parametrize("is_slow", [True, False])
def test_debug_mode_tells_of_slow_answers(parity, caplog, monkeypatch, is_slow):
    caplog.set_level(logging.DEBUG, "asyncio")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [("the", "answer")])

    async def body(case):
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        # Below zero every answer is slow: what is told is tested, not the clock.
        loop.slow_callback_duration = -1 if is_slow else 1000
        caplog.clear()
        case(await loop.getaddrinfo("name.invalid", 80, type=socket.SOCK_STREAM))
        records = [record for record in caplog.records if "address info" in record.getMessage()]
        loop.slow_callback_duration = 1000
        case([(record.levelname, record.getMessage().split(" took ")[0]) for record in records])
        caplog.clear()

    events, _ = parity(body)
    assert [level for level, _ in events[1]] == ["DEBUG", "INFO" if is_slow else "DEBUG"]
