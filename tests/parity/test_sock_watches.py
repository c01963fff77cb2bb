"""`sock_*` after a wait, which may have left the kernel watching the descriptor."""

import asyncio
import gc
import os
import socket
import time

import pytest
from support.peers import turns
from support.socks import connected, fill

pytestmark = pytest.mark.every_door


async def wait_and_receive(loop, ours, theirs):
    """A receive that has to wait first, and what it gets."""
    receiving = asyncio.create_task(loop.sock_recv(ours, 10))
    await turns(2)
    theirs.send(b"waited")
    return await receiving


class TestAfterAWait:
    """A wait may leave the kernel watching the descriptor for the next one; nobody must notice."""

    @pytest.mark.parametrize("again", [1, 2, 5])
    def test_another_wait(self, parity, again):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                for _ in range(again):
                    case(await wait_and_receive(loop, ours, theirs))
                    theirs.send(b"there")
                    await turns(3)
                    case(await loop.sock_recv(ours, 10))

        parity(body)

    def test_the_number_has_another_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs), connected() as (first, second):
                case(await wait_and_receive(loop, ours, theirs))
                number = ours.fileno()
                ours.close()
                os.dup2(first.fileno(), number)
                with socket.socket(fileno=number) as reused:
                    case(await wait_and_receive(loop, reused, second))
                    case(await wait_and_receive(loop, reused, second))

        assert parity(body)[0] == [b"waited"] * 3

    @pytest.mark.parametrize("watched", [False, True])
    def test_the_object_goes_when_its_number_has_another_socket(self, parity, watched):
        """What is undone with it is not the other's, be that watched already or not."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (first, second):
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                with theirs:
                    case(await wait_and_receive(loop, ours, theirs))
                    number = ours.fileno()
                    ours.close()
                    os.dup2(first.fileno(), number)
                    with socket.socket(fileno=number) as reused:
                        if watched:
                            receiving = asyncio.create_task(loop.sock_recv(reused, 10))
                            await turns(2)
                        del ours
                        gc.collect()
                        if watched:
                            second.send(b"x")
                            case(await receiving)
                        case(await wait_and_receive(loop, reused, second))

        parity(body)

    def test_another_object_has_the_descriptor(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                with socket.socket(fileno=ours.detach()) as other:
                    case(await wait_and_receive(loop, other, theirs))

        parity(body)

    def test_a_transport_takes_the_socket(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                reader, writer = await asyncio.open_connection(sock=ours)
                theirs.send(b"to the reader")
                case(await reader.readexactly(13))
                writer.close()
                await writer.wait_closed()

        parity(body)

    def test_a_reader(self, parity):
        """It is told in every turn, and the next coroutine is told too."""

        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                calls = []
                loop.add_reader(ours, calls.append, 1)
                theirs.send(b"x")
                await turns(5)
                case(len(calls) > 2, loop.remove_reader(ours), loop.remove_reader(ours))
                case(ours.recv(10))
                case(await wait_and_receive(loop, ours, theirs))

        assert parity(body)[0] == [b"waited", (True, True, False), b"x", b"waited"]

    def test_the_other_direction(self, parity):
        async def body(case):
            loop = asyncio.get_running_loop()
            with connected() as (ours, theirs):
                case(await wait_and_receive(loop, ours, theirs))
                filled = fill(ours)
                sending = asyncio.create_task(loop.sock_sendall(ours, b"end"))
                await turns(3)
                case(sending.done(), len(theirs.recv(filled, socket.MSG_WAITALL)) > 0)
                await sending
                case(await wait_and_receive(loop, ours, theirs))

        parity(body)

    def test_a_duplicate_lives_on(self, loop_factory):
        """What comes there is not told to a loop that has nothing to do with it any more, or once."""
        loop = loop_factory()

        async def main():
            with connected() as (ours, theirs):
                await wait_and_receive(loop, ours, theirs)
                with ours.dup():
                    ours.close()
                    theirs.send(b"x")
                    begin = time.thread_time()
                    await asyncio.sleep(0.2)
                    return time.thread_time() - begin

        try:
            spent = min(loop.run_until_complete(main()) for _ in range(3))
        finally:
            loop.close()
        assert spent < 0.1, "the loop was awake while it slept"
