"""Queue, LifoQueue, PriorityQueue."""

import asyncio
import gc
import inspect
import re
import weakref

import pytest
from hypothesis import given, strategies as st
from support.case import neutral
from support.guard import without_collector
from support.loops import since
from support.traces import Tasks, package, programs, property_test

import ferrio

CLASSES = ["Queue", "LifoQueue", "PriorityQueue"]
SHUTDOWN = pytest.mark.asyncio_since("3.13", "Queue.shutdown")


def text(queue):
    return neutral(repr(queue))


# What a class is


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    ours = getattr(ferrio, name)()
    assert isinstance(ours, getattr(asyncio, name))
    assert isinstance(ours, ferrio.Queue)
    assert type(ours) is getattr(ferrio, name)
    assert weakref.ref(ours)() is ours
    ours.attribute = 1
    assert vars(ours)["attribute"] == 1
    assert repr(type(ours)[int]) == f"ferrio.{name}[int]"
    for method in ("put", "get", "join"):
        assert inspect.iscoroutinefunction(getattr(ours, method))
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        type(ours)(loop=None)


def test_exceptions():
    assert (ferrio.QueueEmpty, ferrio.QueueFull) == (asyncio.QueueEmpty, asyncio.QueueFull)
    if since(3, 13):
        assert ferrio.QueueShutDown is asyncio.QueueShutDown
    assert issubclass(ferrio.QueueShutDown, Exception)
    assert ferrio.QueueShutDown.__name__ == "QueueShutDown"


@pytest.mark.parametrize("name", CLASSES)
def test_repr(parity, name):
    async def body(case):
        queue = getattr(package(case), name)(2)
        case(text(queue), neutral(str(queue)), queue._format())
        for item in "ba":
            queue.put_nowait(item)
            case(text(queue), neutral(str(queue)))
        putter = asyncio.ensure_future(queue.put("c"))
        await asyncio.sleep(0)
        case(text(queue))
        case([queue.get_nowait() for _ in range(2)])
        await putter
        case(await queue.get())
        getters = [asyncio.ensure_future(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        case(text(queue))
        for getter in getters:
            getter.cancel()
        await asyncio.gather(*getters, return_exceptions=True)
        for _ in range(3):
            queue.task_done()
        case(text(queue))
        case.raised(queue.task_done)

    parity(body)


@pytest.mark.parametrize("maxsize", [0, -1, 1, 2, True, 1.5, float("inf"), float("-inf"), 10**30])
def test_maxsize(parity, maxsize):
    def body(case):
        queue = package(case).Queue(maxsize)
        case(repr(queue.maxsize), queue.full(), queue.empty())
        for item in range(3):
            case.raised(queue.put_nowait, item)
            case(queue.full(), queue.empty(), queue.qsize())
        queue._maxsize = 5
        case(queue.full(), queue.maxsize)

    parity(body)


@pytest.mark.ferrio_only("asyncio makes the queue, and fails when something is put")
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("maxsize", [None, "1", [], object()], ids=repr)
def test_maxsize_that_is_no_number(parity, name, maxsize):
    def body(case):
        case.raised(getattr(package(case), name), maxsize)

    ((kind, _),) = parity(body)[0]
    assert kind == "TypeError"


def test_nothing_is_done_before_the_coroutine_is_driven(parity):
    async def body(case):
        queue = package(case).Queue()
        put = queue.put(1)
        case(queue.qsize())
        await put
        get = queue.get()
        case(queue.qsize())
        case(await get, queue.qsize())

    parity(body)


@pytest.mark.parametrize("item", [(1, 2), (), ValueError("a value"), StopIteration(3), ValueError, None, [1]])
def test_any_item(parity, item):
    """Items that are hard to return from an await: tuples and exceptions."""

    async def body(case):
        queue = package(case).Queue()
        await queue.put(item)
        case(await queue.get() is item)
        getter = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        await queue.put(item)
        case(await getter is item)

    parity(body)


@pytest.mark.parametrize("name", CLASSES)
def test_queue_attribute_is_live(parity, name):
    """Who reaches for `_queue` sees and changes what is in the queue."""

    async def body(case):
        queue = getattr(package(case), name)()
        for item in (3, 1, 2):
            queue.put_nowait(item)
        inside = queue._queue
        case(type(inside).__name__, list(inside), queue._queue is inside)
        inside.append(0)
        case(queue.qsize(), text(queue))
        queue.put_nowait(5)
        case(list(inside))
        case([await queue.get() for _ in range(3)])
        inside.clear()
        case(queue.empty())
        queue._queue = [7]
        case(queue.qsize())

    parity(body)


def test_comparison_that_comes_back_to_its_queue(parity):
    async def body(case):
        queue = package(case).PriorityQueue()

        class Item:
            def __init__(self, rank):
                self.rank = rank

            def __lt__(self, other):
                if queue.qsize() < 20:
                    queue.put_nowait(Item(100))
                return self.rank < other.rank

        for rank in (3, 1, 2):
            case.raised(queue.put_nowait, Item(rank))
        case(queue.qsize() >= 3)

    parity(body)


def test_item_that_cannot_be_compared(parity):
    async def body(case):
        queue = package(case).PriorityQueue()
        queue.put_nowait(1)
        case.raised(queue.put_nowait, "a")
        case(queue.qsize(), queue._unfinished_tasks)

    parity(body)


@pytest.mark.ferrio_only("it counts without an end")
def test_a_count_at_its_end(loop):
    queue = ferrio.Queue()
    queue._unfinished_tasks = 2**63 - 1
    queue.put_nowait(1)
    assert (queue.get_nowait(), queue._unfinished_tasks) == (1, 2**63 - 1)


# Subclasses


def test_overridden_hooks(parity):
    async def body(case):
        class Unique(package(case).Queue):
            def _init(self, maxsize):
                case("_init", maxsize)
                self._queue = {}

            def _put(self, item):
                self._queue[item] = None

            def _get(self):
                return self._queue.popitem()[0]

        queue = Unique(2)
        for item in "aab":
            await queue.put(item)
        case(queue.qsize(), queue.full(), text(queue), list(queue._queue))
        putter = asyncio.ensure_future(queue.put("c"))
        await asyncio.sleep(0)
        case(text(queue))
        case(await queue.get(), await putter, [await queue.get() for _ in range(2)], queue.empty())

    parity(body)


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_of_a_subclass_is_called(parity, name):
    async def body(case):
        base = getattr(package(case), name)

        def method(name):
            def call(self, *args):
                case(name, *args)
                return getattr(base, name)(self, *args)

            return call

        names = ["_init", "_get", "_put", "qsize", "empty", "full", "put_nowait", "get_nowait", "_format"]
        queue = type("Mine", (base,), {name: method(name) for name in names})(1)
        await queue.put(1)
        putter = asyncio.ensure_future(queue.put(2))
        await asyncio.sleep(0)
        case(await queue.get(), await putter, text(queue), str(queue))
        case(await queue.get())
        getters = [asyncio.ensure_future(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        getters[0].cancel()
        queue.put_nowait(3)
        case(await getters[1])

    parity(body)


def test_init_of_a_subclass_that_uses_the_deque(parity):
    async def body(case):
        class Peeking(package(case).Queue):
            def __init__(self, *, peeks):
                super().__init__(maxsize=3)
                self.peeks = peeks

            def peek(self):
                return self._queue[0]

        queue = Peeking(peeks=1)
        await queue.put("a")
        await queue.put("b")
        case(queue.peek(), await queue.get(), queue.peek(), queue.maxsize)

    parity(body)


# Two loops


def test_bound_to_the_loop_of_the_first_wait(parity):
    def body(case):
        queue = package(case).Queue()

        async def wait(get):
            waiting = asyncio.ensure_future(get())
            await asyncio.sleep(0)
            waiting.cancel()
            done = await asyncio.gather(waiting, return_exceptions=True)
            case(
                [(type(error).__name__, re.sub(r"<[\w.]*\.(?=\w+ object)", "<", neutral(str(error)))) for error in done]
            )

        queue.put_nowait(1)
        for get in (queue.join, queue.join, queue.get, queue.get, queue.get):
            loop = asyncio.new_event_loop() if case.name == "asyncio" else ferrio.new_event_loop()
            loop.run_until_complete(wait(get))
            loop.close()

    parity(body)


def test_on_a_loop_that_is_not_ferrios():
    async def main():
        queue = ferrio.Queue(2)

        async def produce():
            for item in range(10):
                await queue.put(item)

        producer = asyncio.create_task(produce())
        items = []
        for _ in range(10):
            items.append(await queue.get())
            queue.task_done()
        await producer
        await queue.join()
        return items

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert runner.run(main()) == list(range(10))


# Who is cancelled after its turn has come


@pytest.mark.parametrize("method", ["get", "put"])
def test_turn_of_a_cancelled_waiter_goes_to_the_next(parity, method):
    async def body(case):
        queue = package(case).Queue(1)
        if method == "put":
            queue.put_nowait("full")
        arguments = ["item"] if method == "put" else []
        first, second, third = (asyncio.ensure_future(getattr(queue, method)(*arguments)) for _ in range(3))
        await asyncio.sleep(0)
        queue.get_nowait() if method == "put" else queue.put_nowait("item")
        first.cancel()
        await asyncio.wait([first])
        await asyncio.sleep(0)
        case(first.cancelled(), second.done(), third.done(), text(queue))
        third.cancel()

    recorded, _ = parity(body)
    assert recorded[0][:3] == (True, True, False)


# Cycles


@pytest.mark.parametrize("method", ["get", "put", "join"])
def test_no_cycles(loop, method):
    """Who waited and was cancelled, and the queue itself, go without the collector."""
    queue = ferrio.Queue(1)
    if method != "get":
        queue.put_nowait("full")

    async def main(queue):
        make = getattr(queue, method)
        tasks = [asyncio.ensure_future(make(*["item"] if method == "put" else [])) for _ in range(3)]
        await asyncio.sleep(0)
        waiters = [weakref.ref(task._fut_waiter) for task in tasks]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        return [weakref.ref(task) for task in tasks] + waiters

    with without_collector():
        references = loop.run_until_complete(main(queue))
        references.append(weakref.ref(queue))
        del queue
        assert [reference() for reference in references] == [None] * len(references)


@pytest.mark.parametrize("name", CLASSES)
def test_collected_in_a_cycle(name):
    queue = getattr(ferrio, name)()
    queue.put_nowait(queue)
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None


def test_item_goes_when_it_is_got():
    """A queue keeps nothing of what went through it."""

    class Item:
        pass

    async def main():
        queue = ferrio.Queue()
        await queue.put(Item())
        gone = weakref.ref(await queue.get())
        return gone()

    assert ferrio.run(main()) is None


# Shutting down


@SHUTDOWN
@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_shutdown(parity, name, immediate):
    async def body(case):
        queue = getattr(package(case), name)(2)
        tasks = Tasks(case)
        for item in range(4):
            tasks.start("put", lambda number, item=item: queue.put(item))
        tasks.start("join", lambda number: queue.join())
        await asyncio.sleep(0)
        queue.shutdown(immediate)
        case(text(queue))
        for _ in range(4):
            tasks.start("get", lambda number: queue.get())
        await asyncio.sleep(0)
        case.raised(queue.get_nowait)
        case.raised(queue.put_nowait, 1)
        await tasks.end(lambda: text(queue))

    parity(body)


# Properties


STEPS = [
    st.tuples(st.just("put"), st.integers(0, 5)),
    st.just(("get",)),
    st.just(("get",)),
    st.tuples(st.just("put_nowait"), st.integers(0, 5)),
    st.just(("get_nowait",)),
    st.just(("task_done",)),
    st.just(("join",)),
]
SHUTDOWNS = [st.tuples(st.just("shutdown"), st.booleans())] if since(3, 13) else []


@pytest.mark.asyncio_since("3.14", "today's order of wake-ups")
@property_test
@given(
    program=programs(*STEPS, *STEPS, *SHUTDOWNS),
    name=st.sampled_from(CLASSES),
    maxsize=st.integers(0, 3),
    derived=st.booleans(),
)
def test_program(parity, name, maxsize, program, derived):
    """Random operations and cancellations, on a plain queue and on one of a subclass."""

    async def body(case):
        queue_class = getattr(package(case), name)
        queue = (type(name, (queue_class,), {}) if derived else queue_class)(maxsize)
        tasks = Tasks(case)

        def step(name, *args):
            if name in ("put", "get", "join"):
                tasks.start(name, lambda number: getattr(queue, name)(*args))
            else:
                case.raised(getattr(queue, name), *args)

        def look():
            return text(queue), queue.qsize(), queue.full()

        await tasks.run(program, step, look)
        await tasks.end(look)

    parity(body)
