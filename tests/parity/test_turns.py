"""The order of a turn, `stop()`, and that nobody starves."""

import asyncio
import contextlib
import os
import signal
import socket
import threading

import pytest
from support.loops import turn

pytestmark = pytest.mark.every_door


@pytest.fixture
def pair():
    """Two connected sockets, both non-blocking."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def test_first_in_first_out(parity):
    def body(case):
        for number in range(100):
            case.loop.call_soon(case, number)
        turn(case.loop)

    assert parity(body)[0] == list(range(100))


def test_callbacks_of_a_turn_run_in_the_next(parity):
    def body(case):
        def chain(number):
            case(number)
            case.loop.call_soon(chain, number + 1)

        case.loop.call_soon(chain, 0)
        case.loop.call_soon(case, "beside")
        for _ in range(3):
            turn(case.loop)
            case("turn")

    assert parity(body)[0] == [0, "beside", "turn", 1, "turn", 2, "turn"]


def test_tasks_take_turns(parity):
    async def body(case):
        async def worker(name):
            for number in range(3):
                case(name, number)
                await asyncio.sleep(0)

        await asyncio.gather(*[worker(name) for name in "abc"])

    assert parity(body)[0] == [(name, number) for number in range(3) for name in "abc"]


def test_a_future_wakes_in_order(parity):
    """Tasks, done-callbacks and plain callbacks come in the order in which they were queued."""

    async def body(case):
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        async def waiter(name):
            await future
            case(name)

        tasks = [loop.create_task(waiter("task 1"))]
        await asyncio.sleep(0)
        future.add_done_callback(lambda future: case("callback 1"))
        tasks.append(loop.create_task(waiter("task 2")))
        await asyncio.sleep(0)
        future.add_done_callback(lambda future: case("callback 2"))
        loop.call_soon(case, "before")
        future.set_result(None)
        loop.call_soon(case, "after")
        await asyncio.gather(*tasks)

    assert parity(body)[0] == ["before", "task 1", "callback 1", "task 2", "callback 2", "after"]


def test_io_is_polled_between_turns(parity, pair):
    """What is readable before a turn is called in it, behind what was ready, before what the turn queues."""
    ours, theirs = pair

    def body(case):
        def readable():
            case("read", ours.recv(1))

        def chain(number):
            case(number)
            if number < 3:
                case.loop.call_soon(chain, number + 1)
            if number == 1:
                theirs.send(b"x")

        case.loop.add_reader(ours, readable)
        case.loop.call_soon(chain, 0)
        turn(case.loop, 5)
        case.loop.remove_reader(ours)

    assert parity(body)[0] == [0, 1, 2, ("read", b"x"), 3]


def test_io_before_timers(parity, pair):
    ours, theirs = pair

    def body(case):
        theirs.send(b"x")
        case.loop.call_later(-1, case, "timer")
        case.loop.call_soon(case, "soon")
        case.loop.add_reader(ours, lambda: case("read", ours.recv(1)))
        turn(case.loop)
        case.loop.remove_reader(ours)

    assert parity(body)[0] == ["soon", ("read", b"x"), "timer"]


class TestStop:
    def test_finishes_the_batch(self, parity):
        def body(case):
            case.loop.call_soon(case, "before")
            case.loop.call_soon(case.loop.stop)
            case.loop.call_soon(case, "after")
            case.loop.call_soon(case.loop.call_soon, case, "next turn")
            case.loop.run_forever()
            case("stopped")
            turn(case.loop)

        assert parity(body)[0] == ["before", "after", "stopped", "next turn"]

    def test_before_the_run_is_one_turn(self, parity):
        def body(case):
            case.loop.call_soon(case.loop.call_soon, case, "second turn")
            case.loop.call_soon(case, "first turn")
            case.loop.stop()
            case.loop.run_forever()
            case("stopped")
            case.loop.stop()
            case.loop.run_forever()

        assert parity(body)[0] == ["first turn", "stopped", "second turn"]

    def test_twice_is_once(self, parity):
        def body(case):
            case.loop.stop()
            case.loop.stop()
            case.loop.call_soon(case.loop.stop)
            case.loop.run_forever()
            case("stopped")
            case.loop.call_soon(case.loop.call_soon, case.loop.call_soon, case.loop.stop)
            case.loop.call_soon(case.loop.call_soon, case, "runs on")
            case.loop.run_forever()
            case("stopped")

        assert parity(body)[0] == ["stopped", "runs on", "stopped"]

    def test_of_a_loop_with_nothing_to_do(self, parity):
        def body(case):
            case.loop.call_later(1e6, case, "never")
            case.loop.stop()
            case.loop.run_forever()
            case("stopped")

        assert parity(body)[0] == ["stopped"]

    def test_polls_once(self, parity, pair):
        """A stopped turn still sees what is ready."""
        ours, theirs = pair

        def body(case):
            theirs.send(b"x")
            case.loop.add_reader(ours, lambda: case(ours.recv(1)))
            case.loop.call_later(-1, case, "timer")
            turn(case.loop)
            case.loop.remove_reader(ours)

        assert parity(body)[0] == [b"x", "timer"]

    def test_from_a_task(self, parity):
        def body(case):
            async def main():
                case("main")
                case.loop.stop()
                await asyncio.sleep(0)
                case("main goes on")

            task = case.loop.create_task(main())
            case.loop.run_forever()
            case("stopped")
            case.loop.run_until_complete(task)

        assert parity(body)[0] == ["main", "stopped", "main goes on"]

    def test_inside_run_until_complete(self, parity):
        def body(case):
            future = case.loop.create_future()
            case.loop.call_soon(case.loop.stop)
            case.raised(case.loop.run_until_complete, future)
            case.loop.call_soon(future.set_result, "result")
            case(case.loop.run_until_complete(future))

        assert parity(body)[0] == [("RuntimeError", "Event loop stopped before Future completed."), "result"]

    def test_at_the_moment_of_completion(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.add_done_callback(lambda future: case("done callback"))
            case.loop.call_soon(future.set_result, "result")
            case.loop.call_soon(case.loop.call_soon, case.loop.stop)
            case(case.loop.run_until_complete(future))

        assert parity(body)[0] == ["done callback", "result"]


class TestFairness:
    """A flood of one kind does not keep the others from their turn."""

    def flood(self, loop, over):
        async def body():
            while not over():
                await asyncio.sleep(0)

        return body()

    def test_bare_yields_and_sockets(self, loop, pair, events):
        ours, theirs = pair
        loop.add_reader(ours, lambda: events.append(ours.recv(1)))
        loop.call_soon(theirs.send, b"x")
        loop.run_until_complete(self.flood(loop, lambda: events))
        loop.remove_reader(ours)
        assert events == [b"x"]

    def test_bare_yields_and_timers(self, loop, events):
        loop.call_later(0.001, events.append, "timer")
        loop.run_until_complete(self.flood(loop, lambda: events))
        assert events == ["timer"]

    def test_bare_yields_and_threads(self, loop, events):
        """The other thread gets the interpreter's lock, and is heard."""
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(events.append, "thread"))
        loop.call_soon(thread.start)
        loop.run_until_complete(self.flood(loop, lambda: events))
        thread.join()
        assert events == ["thread"]

    def test_bare_yields_and_executors(self, loop, events):
        async def main():
            flood = loop.create_task(self.flood(loop, lambda: events))
            events.append(await loop.run_in_executor(None, int))
            await flood
            await loop.shutdown_default_executor()

        loop.run_until_complete(main())
        assert events == [0]

    def test_bare_yields_and_signals(self, loop, events):
        loop.add_signal_handler(signal.SIGUSR1, events.append, "signal")
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_until_complete(self.flood(loop, lambda: events))
        loop.remove_signal_handler(signal.SIGUSR1)
        assert events == ["signal"]

    def test_sockets_and_tasks(self, loop, pair, events):
        """Readable for ever, and writable for ever: tasks and timers go on."""
        ours, theirs = pair
        theirs.send(b"x")
        reads = []
        loop.add_reader(ours, reads.append, None)
        loop.add_writer(theirs, reads.append, None)

        async def main():
            for number in range(100):
                events.append(number)
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)

        loop.run_until_complete(main())
        loop.remove_reader(ours)
        loop.remove_writer(theirs)
        assert events == list(range(100))
        assert reads

    def test_threads_and_tasks(self, loop, events):
        """A thread that hands over all the time does not keep the loop to itself."""
        over = threading.Event()

        def body():
            while not over.is_set():
                loop.call_soon_threadsafe(int)

        async def main():
            for number in range(100):
                events.append(number)
                await asyncio.sleep(0)

        thread = threading.Thread(target=body)
        thread.start()
        loop.run_until_complete(main())
        over.set()
        thread.join()
        assert events == list(range(100))

    def test_done_futures_and_tasks(self, parity):
        """Awaiting what is done takes no turn; awaiting a bare yield takes one."""

        async def body(case):
            loop = asyncio.get_running_loop()
            done = loop.create_future()
            done.set_result(None)

            async def other():
                for number in range(3):
                    case("other", number)
                    await asyncio.sleep(0)

            task = loop.create_task(other())
            for number in range(3):
                await done
                case("done", number)
            await task

        recorded, _ = parity(body)
        assert recorded == [("done", 0), ("done", 1), ("done", 2), ("other", 0), ("other", 1), ("other", 2)]


@pytest.mark.ferrio_only("asyncio serves everybody else twice before")
def test_nobody_waits_for_two_rounds(loop):
    """What becomes ready right behind a wait that found everybody ready."""
    served = []
    with contextlib.ExitStack() as stack:
        pairs = [tuple(map(stack.enter_context, socket.socketpair())) for _ in range(51)]
        late = len(pairs) - 1

        def serve(number):
            ours, theirs = pairs[number]
            ours.recv(1)
            served.append(number)
            if number == late:
                loop.stop()
                return
            if len(served) == 1:
                pairs[late][1].send(b"x")
            theirs.send(b"x")

        for number, (ours, theirs) in enumerate(pairs):
            loop.add_reader(ours, serve, number)
            if number != late:
                theirs.send(b"x")
        loop.run_forever()
        for ours, _ in pairs:
            loop.remove_reader(ours)
    assert served.index(late) <= len(pairs) + 16
