"""What a program finds when it looks at the classes themselves, and the private attributes that it may set."""

import asyncio
import copy
import inspect
import socket
import struct
import subprocess
import threading

import pytest

import ferrio

CLASSES = ["Future", "Task", "Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"]
CLASSES += ["Queue", "LifoQueue", "PriorityQueue", "TaskGroup", "Timeout", "Runner"]
CLASSES += ["StreamReader", "StreamReaderProtocol", "StreamWriter"]


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_class_is_called_with(name):
    """Containers for dependencies, and mocks with a specification, look at that."""
    own, asyncios = (inspect.signature(getattr(module, name)) for module in (ferrio, asyncio))
    own, asyncios = ([(p.name, p.kind) for p in signature.parameters.values()] for signature in (own, asyncios))
    # Task: `eager_start` is a parameter since Python 3.12.
    assert own[: len(asyncios)] == asyncios


@pytest.mark.parametrize("value", [None, 0, 1, "", "yes", [], True, False], ids=repr)
def test_flags_are_looked_at_as_if_does(parity, value):
    async def body(case):
        future = case.classes.Future(loop=case.loop)
        future._asyncio_future_blocking = value
        case(future._asyncio_future_blocking)
        case.raised(setattr, future, "_log_traceback", value)
        case(future._log_traceback)
        task = asyncio.current_task()
        task._log_destroy_pending = value
        case(task._log_destroy_pending)

    parity(body)


def test_a_flag_that_cannot_be_looked_at(parity):
    class Undecided:
        def __bool__(self):
            raise ZeroDivisionError

    async def body(case):
        future = case.classes.Future(loop=case.loop)
        for name in ("_asyncio_future_blocking", "_log_traceback"):
            case.raised(setattr, future, name, Undecided())
            case(getattr(future, name))

    parity(body)


@pytest.mark.parametrize("how_many", [1, 3])
def test_a_callback_that_says_it_is_another_can_be_removed(parity, how_many):
    class Stranger:
        def __call__(self, future):
            raise AssertionError

        def __eq__(self, other):
            return False

    async def body(case):
        future, callback = case.classes.Future(loop=case.loop), Stranger()
        for _ in range(how_many):
            future.add_done_callback(callback)
        future.add_done_callback(case.events.append)
        case(future.remove_done_callback(Stranger()), len(future._callbacks))
        case(future.remove_done_callback(callback), len(future._callbacks))
        future.remove_done_callback(case.events.append)

    recorded, _ = parity(body)
    assert recorded == [(0, how_many + 1), (how_many, 1)]


def test_what_ends_without_a_value_says_so(parity):
    """As a coroutine of the interpreter's own: with an exception that has no arguments."""

    def body(case):
        queue, event = case.classes.Queue(), case.classes.Event()
        event.set()
        for coroutine in (queue.put(1), queue.get(), event.wait(), case.classes.Lock().__aenter__()):
            with pytest.raises(StopIteration) as caught:
                coroutine.send(None)
            case(caught.value.args, caught.value.value)

    recorded, _ = parity(body)
    assert recorded == [((), None), ((1,), 1), ((True,), True), ((), None)]


@pytest.mark.asyncio_since("3.14", "factories with an eager_start")
def test_an_eager_factory_is_a_function(parity):
    def body(case):
        for factory in (case.classes.eager_task_factory, case.classes.create_eager_task_factory(case.classes.Task)):
            parameters = inspect.signature(factory).parameters.values()
            case([(p.name, p.kind.name) for p in parameters])
            case(copy.copy(factory) is factory, copy.deepcopy(factory) is factory)

    recorded, _ = parity(body)
    assert recorded[1::2] == [(True, True)] * 2


@pytest.mark.asyncio_since("3.14", "factories with an eager_start")
def test_what_an_eager_factory_hands_on(parity):
    def body(case):
        factory = case.classes.create_eager_task_factory(lambda coro, **keywords: (coro, keywords))
        for keywords in ({}, {"eager_start": None}, {"eager_start": 0}, {"name": "task", "eager_start": True}):
            case(factory("loop", "coro", **keywords))

    recorded, _ = parity(body)
    assert recorded[:2] == [
        ("coro", {"loop": "loop", "eager_start": True}),
        ("coro", {"loop": "loop", "eager_start": None}),
    ]


def test_what_tells_a_future_has_asyncios_name(loop):
    """Who reads a log looks for these."""

    async def main():
        async def forever():
            await loop.create_future()

        future, other = ferrio.Future(), ferrio.Future()
        outer = ferrio.gather(future)
        shield = ferrio.shield(future)
        waiting = ferrio.create_task(ferrio.wait([other]))
        await ferrio.sleep(0)
        async with ferrio.TaskGroup() as group:
            task = group.create_task(forever())
            await ferrio.sleep(0)
            shown = [repr(each) for each in (future, other, shield, task)]
            task.cancel()
        waiting.cancel()
        future.set_result(None)
        await outer
        return shown

    future, other, shield, task = loop.run_until_complete(main())
    assert "gather.<locals>._done_callback()" in future
    assert "shield.<locals>._inner_done_callback()" in future
    assert "_wait.<locals>._on_completion()" in other
    assert "shield.<locals>._outer_done_callback()" in shield
    assert "cb=[TaskGroup._on_task_done()]" in task


def test_private_attributes_of_a_loop(parity):
    """Libraries and tests look at them to learn in which thread a loop runs, and whether it will go on."""

    async def body(case):
        loop = asyncio.get_running_loop()
        case(loop._closed, loop._stopping, loop._thread_id == threading.get_ident())
        loop.call_soon(loop.stop)
        loop.call_soon(lambda: case(loop._stopping))
        case.loop = loop

    loops = []

    async def running(case):
        await body(case)
        loops.append(case.loop)

    parity(running)
    for loop in loops:
        assert (loop._closed, loop._stopping, loop._thread_id) == (True, False, None)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop._check_closed()


@pytest.mark.parametrize("value", [False, 0])
def test_a_stop_that_is_taken_back(parity, value):
    """Sanic does so before it shuts down: who has stopped a loop that did not run wants to run it all the same."""

    async def body(case):
        loop = asyncio.get_running_loop()
        loop.stop()
        case(loop._stopping)
        loop._stopping = value
        await asyncio.sleep(0)
        case(bool(loop._stopping))
        await asyncio.sleep(0)
        case("goes on")

    assert parity(body)[0] == [True, False, "goes on"]


# Private, and read all the same


def test_what_a_group_keeps(parity):
    """Derived classes read it, and programs stop its tasks by `_abort()`, which is older than `cancel()`."""

    async def body(case):
        async def forever():
            await asyncio.get_running_loop().create_future()

        async def broken():
            raise ZeroDivisionError

        group = case.classes.TaskGroup()
        case(group._entered, group._exiting, group._aborting, group._parent_cancel_requested, group._errors)
        async with group:
            tasks = [group.create_task(forever()) for _ in range(3)]
            await asyncio.sleep(0)
            case(group._entered, group._exiting, group._aborting)
            group._abort()
            case(group._aborting)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            case([task.cancelled() for task in tasks], "the body goes on")
        try:
            async with case.classes.TaskGroup() as group:
                group.create_task(broken())
                await asyncio.get_running_loop().create_future()
        except ExceptionGroup as raised:
            case(repr(raised.exceptions), group._exiting, group._parent_cancel_requested)

    parity(body)


def test_a_derived_group_keeps_something_of_its_own_there(parity):
    async def body(case):
        class Group(case.classes.TaskGroup):
            def __init__(self):
                super().__init__()
                self._errors = ["its own"]

        group = Group()
        case(group._errors)

    recorded, _ = parity(body)
    assert recorded == [["its own"]]


def test_what_a_transport_keeps(parity):
    """The socket, for an option that asyncio does not offer; the protocol; what `get_extra_info` answers from."""

    async def body(case):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
        case(server.is_serving(), server._loop is loop)
        server._start_serving()
        case(server.is_serving())
        async with server:
            address = server.sockets[0].getsockname()
            transport, protocol = await loop.create_connection(asyncio.Protocol, *address)
            datagrams, other = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
            for one, of in ((transport, protocol), (datagrams, other)):
                case(one._protocol is of, one._closing, type(one._sock).__name__)
                case(one._sock_fd == one._sock.fileno() == one.get_extra_info("socket").fileno())
                case({name: one._extra.get(name) == one.get_extra_info(name) for name in ("sockname", "peername")})
                one._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()
                case(one._closing)
        case(server.is_serving())

    parity(body)


def test_what_a_process_and_its_pipes_keep(parity):
    async def body(case):
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        transport = process._transport
        case(transport._pid == process.pid, transport._returncode, transport._closed)
        case(transport._protocol is transport.get_protocol(), transport._extra["subprocess"].pid == process.pid)
        for number in (0, 1):
            pipe = transport.get_pipe_transport(number)
            case(pipe._pipe is pipe.get_extra_info("pipe"), pipe._fileno == pipe._pipe.fileno(), pipe._closing)
            case(pipe._protocol is pipe.get_protocol(), list(pipe._extra))
        process.stdin.close()
        case(process.stdin.transport._closing, await process.stdout.read(), await process.wait())
        case(transport._returncode)

    parity(body)


def test_the_exception_handler_of_a_loop(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        before, handler = loop._exception_handler, lambda loop, context: None
        loop.set_exception_handler(handler)
        case(loop._exception_handler is handler)
        loop.set_exception_handler(None)
        case(loop._exception_handler)
        loop.set_exception_handler(before)

    parity(body)
