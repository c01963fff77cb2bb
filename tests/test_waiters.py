"""`_waiters`, `_getters`, `_putters`: where subclasses find who waits, and put who waits in their own way."""

import asyncio
import collections

import pytest

NAMES = ["Lock", "Event", "Condition", "Semaphore"]


async def begin(thing, name):
    """Two tasks that wait for it."""
    if name in ("Lock", "Semaphore"):
        await thing.acquire()

    async def notified():
        async with thing:
            await thing.wait()

    wait = {"Event": getattr(thing, "wait", None), "Condition": notified}.get(name) or thing.acquire
    tasks = [asyncio.ensure_future(wait()) for _ in range(2)]
    await asyncio.sleep(0)
    return tasks


async def wake(thing, name):
    if name == "Event":
        thing.set()
    elif name == "Condition":
        async with thing:
            thing.notify_all()
    else:
        thing.release()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("looks", [False, True])
def test_who_looks_changes_nothing(parity, name, looks):
    async def body(case):
        thing = getattr(case.classes, name)()
        tasks = await begin(thing, name)
        if looks:
            case(type(thing._waiters).__name__, len(thing._waiters), thing._waiters is thing._waiters)
            case([waiter.done() for waiter in thing._waiters])
        tasks.append(asyncio.ensure_future(asyncio.sleep(0)))
        tasks[0].cancel()
        await wake(thing, name)
        for _ in range(3):
            await asyncio.sleep(0)
        case([task.done() for task in tasks], repr(thing).rpartition("[")[2])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    parity(body)


@pytest.mark.parametrize("name", NAMES)
def test_a_future_of_somebody_else(parity, name):
    """Of whatever make: it is woken, in its turn."""

    async def body(case):
        for make in (asyncio.get_running_loop().create_future, lambda: asyncio.futures._PyFuture(loop=case.loop)):
            thing = getattr(case.classes, name)()
            tasks = await begin(thing, name)
            waiter = make()
            waiter.add_done_callback(lambda _: case("woken"))
            thing._waiters.appendleft(waiter)
            case(repr(thing).rpartition("[")[2])
            await wake(thing, name)
            await asyncio.sleep(0)
            case(waiter.done() and waiter.result(), [task.done() for task in tasks])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    parity(body)


def test_a_queue_with_a_put_of_its_own(parity):
    """Written after asyncio's."""

    async def body(case):
        class Queue(case.classes.Queue):
            async def put_both(self, one, other):
                while self.maxsize - self.qsize() < 2:
                    putter = self._get_loop().create_future()
                    self._putters.append(putter)
                    case("waits")
                    await putter
                self.put_nowait(one)
                self.put_nowait(other)

        queue = Queue(2)
        queue.put_nowait(0)
        putting = asyncio.ensure_future(queue.put_both(1, 2))
        await asyncio.sleep(0)
        case(len(queue._putters), repr(queue).partition("maxsize")[2])
        case(queue.get_nowait())
        await putting
        case(queue.get_nowait(), queue.get_nowait(), len(queue._putters))

    parity(body)


def test_a_list_becomes_a_deque(parity):
    """As only a deque can do what is asked of it."""

    async def body(case):
        event, waiters = case.classes.Event(), collections.deque([case.loop.create_future()])
        event._waiters = waiters
        event.set()
        case(waiters[0].done())
        lock = case.classes.Lock()
        lock._waiters = None
        case(await lock.acquire())

    parity(body)


@pytest.mark.parametrize("broken", [object(), None, "future"], ids=["object", "None", "text"])
def test_what_is_no_future(loop, broken):
    """Who puts it there is told when it is asked something."""
    from ferrio import Event, Lock, Semaphore

    async def main():
        for thing in (Lock(), Semaphore(1)):
            thing._waiters = [broken]
            with pytest.raises(AttributeError):
                await thing.acquire()
        event = Event()
        event._waiters.append(broken)
        with pytest.raises(AttributeError):
            event.set()

    loop.run_until_complete(main())
