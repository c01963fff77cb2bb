"""Copying and pickling, as dataclasses, caches and processes do with what they find in an object."""

import asyncio
import contextlib
import copy
import pickle

import pytest

import ferrio

NAMES = [
    "Lock",
    "Event",
    "Condition",
    "Semaphore",
    "BoundedSemaphore",
    "Barrier",
    "Queue",
    "LifoQueue",
    "PriorityQueue",
]
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {protocol}": lambda o, p=protocol: pickle.loads(pickle.dumps(o, p)) for protocol in (2, 5)},
}


def make(module, name, *arguments):
    if name == "Barrier" and not arguments:
        arguments = (2,)
    return getattr(module, name)(*arguments)


def shown(thing):
    """Its `repr`, less the address and the module."""
    return repr(thing).partition(" at 0x")[2][12:]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_one_that_is_new(parity, name, way):
    def body(case):
        original = make(case.classes, name)
        again = WAYS[way](original)
        case(type(again) is type(original), again is original, shown(again), again._loop if name != "Barrier" else None)

    parity(body)


@pytest.mark.parametrize("way", WAYS)
def test_one_that_has_been_used(parity, way):
    async def body(case):
        classes, again = case.classes, WAYS[way]
        lock, event, semaphore = classes.Lock(), classes.Event(), classes.BoundedSemaphore(3)
        await lock.acquire()
        event.set()
        await semaphore.acquire()
        for original in (lock, event, semaphore):
            case(shown(again(original)))
        copied = again(semaphore)
        copied.release()
        case.raised(copied.release)
        copied = again(lock)
        copied.release()
        case(lock.locked(), copied.locked(), copied._waiters)
        barrier = classes.Barrier(2)
        await barrier.abort()
        case(shown(again(barrier)), again(classes.Barrier(1.5)).parties)

    parity(body)


@pytest.mark.parametrize("way", ["deepcopy", "pickle 2", "pickle 5"])
@pytest.mark.parametrize("name", ["Queue", "LifoQueue", "PriorityQueue"])
def test_a_queue_takes_its_items_along(parity, name, way):
    async def body(case):
        queue = make(case.classes, name, 3)
        for item in ([2], [1]):
            queue.put_nowait(item)
        again = WAYS[way](queue)
        again.put_nowait([3])
        case(queue.qsize(), again.qsize(), again.full(), again.maxsize)
        case([again.get_nowait() for _ in range(3)])
        for _ in range(3):
            again.task_done()
        await again.join()
        case.raised(again.task_done)
        case(queue._unfinished_tasks)
        # Who waits at the one is woken by the one.
        getting = asyncio.ensure_future(again.get())
        await asyncio.sleep(0)
        queue.put_nowait([4])
        await asyncio.sleep(0)
        case(getting.done())
        again.put_nowait([5])
        case(await getting)

    parity(body)


@pytest.mark.parametrize("way", WAYS)
def test_a_queue_that_was_shut_down(parity, way):
    if "QueueShutDown" not in vars(asyncio):
        pytest.skip("asyncio has it since Python 3.13")

    def body(case):
        queue = case.classes.Queue()
        queue.shutdown()
        case.raised(WAYS[way](queue).put_nowait, 1)

    parity(body)


def test_a_condition_has_the_methods_of_its_own_lock(parity):
    async def body(case):
        shared = case.classes.Lock()
        both = copy.deepcopy([case.classes.Condition(shared), shared])
        case(both[0]._lock is both[1], both[1] is shared)
        async with both[0]:
            case(both[1].locked(), shared.locked(), both[0].locked())

    recorded, _ = parity(body)
    assert recorded == [(True, False), (True, False, True)]


@pytest.mark.parametrize("way", ["copy", "deepcopy"])
def test_a_subclass(parity, way):
    """What it has of its own goes along, in its `__dict__` and in its slots; and it may say itself what does."""

    def body(case):
        class Named(case.classes.Lock):
            __slots__ = ("slot",)

            def __init__(self, name):
                super().__init__()
                self.name, self.slot, self.empty = name, [name], None

        class Choosy(case.classes.Queue):
            def __init__(self):
                super().__init__(5)
                self.secret, self.kept = "secret", "kept"

            def __getstate__(self):
                return {key: value for key, value in super().__getstate__().items() if key != "secret"}

        original = Named("name")
        again = WAYS[way](original)
        case(again.name, again.slot, again.slot is original.slot, again.empty, again.locked(), type(again) is Named)
        again = WAYS[way](Choosy())
        again.put_nowait(1)
        case(hasattr(again, "secret"), again.kept, again.maxsize, again.get_nowait())

    parity(body)


@pytest.mark.parametrize("name", ["Lock", "Event", "Semaphore", "Queue"])
def test_who_waits_is_not_copied(parity, name):
    """A future is one thing: asyncio's copies fail on it, and these do."""

    async def body(case):
        thing = make(case.classes, name)
        wait = {"Event": "wait", "Queue": "get"}.get(name, "acquire")
        if wait == "acquire":
            await thing.acquire()
        waiting = asyncio.ensure_future(getattr(thing, wait)())
        await asyncio.sleep(0)
        for way in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                way(thing)
        case(waiting.done())
        waiting.cancel()

    parity(body)


@pytest.mark.parametrize("name", ["_get_loop", "_wakeup_next"])
def test_what_subclasses_call_that_were_written_after_asyncios(name):
    assert callable(getattr(ferrio.Queue, name))


def test_a_subclass_that_wakes_by_itself(parity):
    async def body(case):
        class Queue(case.classes.Queue):
            def poke(self):
                self._wakeup_next(self._getters)

        queue = Queue()
        case(queue._get_loop() is asyncio.get_running_loop(), queue._loop is case.loop)
        waiting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue._queue.append("item")
        queue.poke()
        case(await waiting)

    parity(body)


@pytest.mark.parametrize(
    "state",
    [None, 5, (), ({}, {}, {}), {"_locked": []}, {"_waiters": 5}, {"_waiters": [1]}, {5: 6}, ({}, {5: 6})],
    ids=repr,
)
def test_a_state_that_is_none(state):
    """It may come from anywhere."""
    lock = ferrio.Lock()
    with contextlib.suppress(TypeError, IndexError):
        lock.__setstate__(state)
    assert lock.locked() in (True, False)
