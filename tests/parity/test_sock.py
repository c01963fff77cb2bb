"""`sock_*`: receiving, sending, connecting and accepting on sockets that the program owns."""

import array
import asyncio
import contextlib
import os
import socket

import pytest
from support.case import outcome
from support.socks import bound_udp, client, connected, fill, listening

pytestmark = pytest.mark.every_door


class TestReceiving:
    def test_what_is_there(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"abcdef")
                case(await loop.sock_recv(ours, 2))
                buffer = bytearray(3)
                case(await loop.sock_recv_into(ours, buffer), bytes(buffer))
                case(await loop.sock_recv(ours, 100))
                theirs.close()
                case(await loop.sock_recv(ours, 100), await loop.sock_recv_into(ours, buffer))

        assert parity(body)[0] == [b"ab", (3, b"cde"), b"f", (b"", 0)]

    def test_what_comes_later(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                loop.call_soon(loop.call_soon, theirs.send, b"later")
                case(await loop.sock_recv(ours, 100))
                buffer = bytearray(10)
                loop.call_soon(loop.call_soon, theirs.send, b"again")
                case(await loop.sock_recv_into(ours, memoryview(buffer)[3:]), bytes(buffer))

        assert parity(body)[0] == [b"later", (5, b"\0\0\0again\0\0")]

    def test_nothing_is_begun_before_the_await(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"x")
                coroutine = loop.sock_recv(ours, 1)
                case(asyncio.iscoroutine(coroutine), ours.recv(1, socket.MSG_PEEK))
                case(await coroutine)

        assert parity(body)[0] == [(True, b"x"), b"x"]

    @pytest.mark.parametrize("size", [(1 << 63) - 1, 1 << 63, 1 << 70, -1, -(1 << 63), None], ids=str)
    def test_sizes_that_there_are_not(self, parity, size):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"xyz")
                kind, _ = await outcome(loop.sock_recv(ours, size))
                case(kind, ours.recv(3))

        parity(body)

    @pytest.mark.parametrize("size", [0, 1, 1 << 20], ids=str)
    def test_sizes(self, parity, size):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"xyz")
                case(await loop.sock_recv(ours, size))

        parity(body)

    @pytest.mark.parametrize("wrong", [-1, "1", None, 1.5])
    def test_what_is_no_size(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"x")
                found = await outcome(loop.sock_recv(ours, wrong))
                case(found[0])

        parity(body)

    @pytest.mark.parametrize("wrong", [b"read-only", 7, None, "text"], ids=repr)
    def test_what_is_no_buffer(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.send(b"x")
                found = await outcome(loop.sock_recv_into(ours, wrong))
                case(found[0], ours.recv(1))

        assert parity(body)[0][0][1] == b"x"

    def test_an_error_of_the_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with client() as sock:
                case(await outcome(loop.sock_recv(sock, 1)))
                case(await outcome(loop.sock_recv_into(sock, bytearray(1))))

        assert parity(body)[0][0][0] == "OSError"


class TestSending:
    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda make: make.__name__)
    def test_all_of_it(self, parity, make):
        """More than fits into the socket: it goes on as the other side reads."""
        data = bytes(range(256)) * (1 << 13)

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                sending = asyncio.create_task(loop.sock_sendall(ours, make(data)))
                received = bytearray()
                while len(received) < len(data):
                    received += await loop.sock_recv(theirs, 1 << 20)
                case(received == data, await sending)

        assert parity(body)[0] == [(True, None)]

    def test_nothing(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await loop.sock_sendall(ours, b""))
                fill(ours)
                case(await loop.sock_sendall(ours, b""))
                theirs.close()

        assert parity(body)[0] == [None, None]

    @pytest.mark.ferrio_only("asyncio mixes up items and bytes")
    def test_items_of_more_than_one_byte(self, parity):
        """A buffer counts in bytes, whatever it is made of."""
        numbers = array.array("q", range(100_000))

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                sending = asyncio.create_task(loop.sock_sendall(ours, numbers))
                received = bytearray()
                while len(received) < len(numbers) * 8:
                    received += await loop.sock_recv(theirs, 1 << 20)
                await sending
                case(received == numbers.tobytes())

        assert parity(body)[0] == [True]

    def test_to_who_has_gone(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                theirs.close()
                case(await outcome(loop.sock_sendall(ours, b"x")))
            with connected() as (ours, theirs):
                fill(ours)
                loop.call_later(0.001, theirs.close)
                case((await outcome(loop.sock_sendall(ours, b"x")))[0])

        assert parity(body)[0][0] == ("BrokenPipeError", "[Errno 32] Broken pipe")

    @pytest.mark.parametrize("wrong", ["text", 7, None], ids=repr)
    def test_what_is_no_data(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, _):
                case((await outcome(loop.sock_sendall(ours, wrong)))[0])

        assert parity(body)[0] == ["TypeError"]


class TestConnecting:
    def test_connect_and_accept(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server, client() as sock:
                accepting = asyncio.create_task(loop.sock_accept(server))
                case(await loop.sock_connect(sock, server.getsockname()))
                conn, address = await accepting
                with conn:
                    case(address == sock.getsockname(), conn.gettimeout(), conn.getpeername() == sock.getsockname())
                    await loop.sock_sendall(conn, b"hello")
                    case(await loop.sock_recv(sock, 100))

        assert parity(body)[0] == [None, (True, 0.0, True), b"hello"]

    def test_refused(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server:
                address = server.getsockname()
            with client() as sock:
                kind, text = await outcome(loop.sock_connect(sock, address))
                case(kind, text.split("(")[0])
            with client() as sock:
                with pytest.raises(ConnectionRefusedError) as raised:
                    await loop.sock_connect(sock, address)
                case(raised.value.errno)

        assert parity(body)[0] == [("ConnectionRefusedError", "[Errno 111] Connect call failed "), 111]

    def test_an_address_is_any_sequence(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server, client() as sock:
                await loop.sock_connect(sock, list(server.getsockname()))
                case(sock.getpeername() == server.getsockname())
            with client() as sock:
                case(await outcome(loop.sock_connect(sock, ["127.0.0.1"])))

        assert parity(body)[0] == [True, ("ValueError", "not enough values to unpack (expected 2, got 1)")]

    def test_a_name_is_resolved(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening() as server, client() as sock:
                accepting = asyncio.create_task(loop.sock_accept(server))
                await loop.sock_connect(sock, ("localhost", server.getsockname()[1]))
                conn, _ = await accepting
                conn.close()
                case(sock.getpeername() == server.getsockname())

        assert parity(body)[0] == [True]

    def test_unix(self, parity, tmp_path):
        async def body(case):
            loop = asyncio.get_running_loop()
            path = str(tmp_path / f"{case.name}.sock")
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as sock:
                server.setblocking(False)
                sock.setblocking(False)
                case(await outcome(loop.sock_connect(sock, path)))
                server.bind(path)
                server.listen()
                await loop.sock_connect(sock, path)
                conn, address = await loop.sock_accept(server)
                conn.close()
                case(address)
            os.unlink(path)

        events, _ = parity(body)
        assert events[0][0] == "FileNotFoundError"

    @pytest.mark.parametrize("wrong", [None, 7, (), ("127.0.0.1",), ("127.0.0.1", "port", 3, 4, 5, 6)], ids=repr)
    def test_what_is_no_address(self, parity, wrong):
        async def body(case):
            loop = asyncio.get_running_loop()
            with client() as sock:
                found = await outcome(loop.sock_connect(sock, wrong))
                case(isinstance(found, tuple))

        assert parity(body)[0] == [True]

    def test_many_accepted_in_order(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with listening(backlog=64) as server, contextlib.ExitStack() as stack:
                names = []
                for _ in range(20):
                    sock = stack.enter_context(client())
                    await loop.sock_connect(sock, server.getsockname())
                    names.append(sock.getsockname())
                accepted = [await loop.sock_accept(server) for _ in names]
                case([address for _, address in accepted] == names)
                for conn, _ in accepted:
                    conn.close()

        assert parity(body)[0] == [True]


class TestDatagrams:
    def test_to_and_from(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours, bound_udp() as theirs:
                receiving = asyncio.create_task(loop.sock_recvfrom(theirs, 100))
                await asyncio.sleep(0)
                case(await loop.sock_sendto(ours, b"datagram", theirs.getsockname()))
                data, address = await receiving
                case(data, address == ours.getsockname())
                buffer = bytearray(100)
                receiving = asyncio.create_task(loop.sock_recvfrom_into(theirs, buffer))
                await asyncio.sleep(0)
                await loop.sock_sendto(ours, b"another", theirs.getsockname())
                count, address = await receiving
                case(bytes(buffer[:count]), address == ours.getsockname())

        assert parity(body)[0] == [8, (b"datagram", True), (b"another", True)]

    def test_limits(self, parity):
        """What does not fit is cut off; an empty datagram is one."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours, bound_udp() as theirs:
                for data in (b"0123456789", b"", b"0123456789", b"abc"):
                    await loop.sock_sendto(ours, data, theirs.getsockname())
                case((await loop.sock_recvfrom(theirs, 4))[0])
                case((await loop.sock_recvfrom(theirs, 4))[0])
                buffer = bytearray(10)
                case((await loop.sock_recvfrom_into(theirs, buffer, 3))[0], bytes(buffer))
                case((await loop.sock_recvfrom_into(theirs, buffer))[0], bytes(buffer))

        assert parity(body)[0] == [b"0123", b"", (3, b"012" + bytes(7)), (3, b"abc" + bytes(7))]

    @pytest.mark.parametrize("nbytes", [-1, 11, 0, None])
    def test_counts(self, parity, nbytes):
        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours, bound_udp() as theirs:
                await loop.sock_sendto(ours, b"xyz", theirs.getsockname())
                found = await outcome(loop.sock_recvfrom_into(theirs, bytearray(10), nbytes))
                case(found[0])

        parity(body)

    def test_too_big(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with bound_udp() as ours:
                case(await outcome(loop.sock_sendto(ours, bytes(1 << 17), ours.getsockname())))

        assert parity(body)[0] == [("OSError", "[Errno 90] Message too long")]

    def test_unix(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected(socket.SOCK_DGRAM) as (ours, theirs):
                theirs.send(b"one")
                theirs.send(b"two")
                case(await loop.sock_recvfrom(ours, 10), await loop.sock_recv(ours, 10))

        assert parity(body)[0] == [((b"one", None), b"two")]


class Stubborn(socket.socket):
    """A socket whose methods do less than they could."""

    sent = 0

    def send(self, data, *args):
        self.sent += 1
        return super().send(data[:3], *args)

    def recv(self, size, *args):
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked % 3:
            raise BlockingIOError
        return super().recv(size, *args)


def test_methods_that_do_a_part_or_nothing(parity):
    """The kernel has nothing new to tell, and the coroutine must not wait for that."""

    async def body(case):
        loop = asyncio.get_running_loop()
        with connected() as (ours, theirs), Stubborn(fileno=ours.detach()) as sock:
            sock.setblocking(False)
            case(await loop.sock_sendall(sock, b"0123456789"))
            case(theirs.recv(100))
            theirs.send(b"abc")
            case(await loop.sock_recv(sock, 1))
            case(await loop.sock_recv(sock, 1))
            case(sock.sent, sock.asked)

    assert parity(body)[0] == [None, b"0123456789", b"a", b"b", (4, 6)]


def test_methods_of_a_subclass_are_called(parity):
    def counted(name):
        def method(self, *args):
            self.calls.append(name)
            return getattr(socket.socket, name)(self, *args)

        return method

    names = ["recv", "recv_into", "recvfrom", "recvfrom_into", "send", "sendto"]
    counting = type("Counting", (socket.socket,), {name: counted(name) for name in names})

    async def body(case):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs, counting(fileno=ours.detach()) as sock:
            sock.calls = []
            sock.setblocking(False)
            for receive in (
                lambda: loop.sock_recv(sock, 10),
                lambda: loop.sock_recv_into(sock, bytearray(10)),
                lambda: loop.sock_recvfrom(sock, 10),
                lambda: loop.sock_recvfrom_into(sock, bytearray(10)),
            ):
                theirs.send(b"hello")
                case(await receive())
            await loop.sock_sendall(sock, b"hello")
            case(await outcome(loop.sock_sendto(sock, b"hello", None)))
            case(sock.calls)

    assert parity(body)[0][-1] == names
