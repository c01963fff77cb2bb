"""Locks and queues in random programs: operations beside those of `programs`, in whose tables they stand."""

import asyncio
from functools import cached_property

from support import programs
from support.loops import since
from support.programs import FLAG, MESSAGE, NUMBER, TASK_BODY, asynchronous, synchronous

ERRORS = (asyncio.QueueEmpty, asyncio.QueueFull, asyncio.BrokenBarrierError, ValueError)
if since(3, 13):
    ERRORS = (*ERRORS, asyncio.QueueShutDown)


class World(programs.World):
    """A world with two of everything."""

    @cached_property
    def locks(self):
        return [self.package.Lock() for _ in range(2)]

    @cached_property
    def semaphores(self):
        return [self.package.Semaphore(2), self.package.BoundedSemaphore(1)]

    @cached_property
    def events(self):
        return [self.package.Event() for _ in range(2)]

    @cached_property
    def conditions(self):
        # The second one shares its lock with whoever holds the first lock.
        return [self.package.Condition(), self.package.Condition(self.locks[0])]

    @cached_property
    def barriers(self):
        return [self.package.Barrier(2), self.package.Barrier(3)]

    @cached_property
    def queues(self):
        return [self.package.Queue(1), self.package.Queue(), self.package.LifoQueue(2), self.package.PriorityQueue(2)]


def one_of(things, number):
    return things[number % len(things)]


def noted(world, label, what):
    return programs.noted(world, label, what, ERRORS)


@asynchronous(NUMBER, TASK_BODY)
async def hold(world, label, number, body):
    world.record(label, "wants a lock")
    with noted(world, label, "is without a lock"):
        async with one_of(world.locks, number):
            world.record(label, "has a lock")
            await world.block(label, body)


@synchronous(NUMBER)
def release(world, label, number):
    """Releases a lock, whoever has it."""
    lock = one_of(world.locks, number)
    world.record(label, "releases", lock.locked())
    with noted(world, label, "releases in vain"):
        lock.release()


@asynchronous(NUMBER, TASK_BODY)
async def use_permit(world, label, number, body):
    world.record(label, "wants a permit")
    with noted(world, label, "is without a permit"):
        async with one_of(world.semaphores, number):
            world.record(label, "has a permit")
            await world.block(label, body)


@synchronous(NUMBER)
def add_permit(world, label, number):
    semaphore = one_of(world.semaphores, number)
    with noted(world, label, "adds a permit too many"):
        semaphore.release()
    world.record(label, "adds a permit", semaphore.locked())


@asynchronous(NUMBER)
async def wait_for_event(world, label, number):
    world.record(label, "waits for an event", await one_of(world.events, number).wait())


@synchronous(NUMBER, FLAG)
def change_event(world, label, number, happens):
    event = one_of(world.events, number)
    if happens:
        event.set()
    else:
        event.clear()


@asynchronous(NUMBER, FLAG)
async def wait_for_notice(world, label, number, with_predicate):
    condition = one_of(world.conditions, number)
    world.record(label, "wants a notice")
    looks = 0

    def predicate():
        nonlocal looks
        looks += 1
        world.record(label, "looks", looks)
        return looks > 2

    with noted(world, label, "is without a notice"):
        async with condition:
            result = await (condition.wait_for(predicate) if with_predicate else condition.wait())
            world.record(label, "has a notice", result, condition.locked())


@asynchronous(NUMBER, NUMBER)
async def notify(world, label, number, count):
    condition = one_of(world.conditions, number)
    with noted(world, label, "does not notify"):
        async with condition:
            if count:
                condition.notify(count)
            else:
                condition.notify_all()
            world.record(label, "notifies", count)


@asynchronous(NUMBER)
async def meet(world, label, number):
    barrier = one_of(world.barriers, number)
    world.record(label, "comes", barrier.n_waiting, barrier.broken)
    with noted(world, label, "does not meet"):
        world.record(label, "meets", await barrier.wait())


@asynchronous(NUMBER, FLAG)
async def break_up(world, label, number, for_good):
    barrier = one_of(world.barriers, number)
    await (barrier.abort() if for_good else barrier.reset())
    world.record(label, "breaks up", barrier.n_waiting, barrier.broken)


@asynchronous(NUMBER, NUMBER)
async def put(world, label, number, item):
    queue = one_of(world.queues, number)
    world.record(label, "puts", item)
    with noted(world, label, "puts in vain"):
        await queue.put(item)
        world.record(label, "has put", queue.qsize(), queue.full())


@asynchronous(NUMBER)
async def get(world, label, number):
    queue = one_of(world.queues, number)
    world.record(label, "wants an item")
    with noted(world, label, "gets none"):
        world.record(label, "gets", await queue.get(), queue.qsize(), queue.empty())


@synchronous(NUMBER, NUMBER)
def put_now(world, label, number, item):
    with noted(world, label, "puts none now"):
        one_of(world.queues, number).put_nowait(item)


@synchronous(NUMBER)
def get_now(world, label, number):
    with noted(world, label, "gets none now"):
        world.record(label, "gets now", one_of(world.queues, number).get_nowait())


@synchronous(NUMBER)
def finish(world, label, number):
    with noted(world, label, "has finished too much"):
        one_of(world.queues, number).task_done()


@asynchronous(NUMBER)
async def join_queue(world, label, number):
    world.record(label, "joins a queue")
    await one_of(world.queues, number).join()
    world.record(label, "has joined a queue")


if since(3, 13):

    @synchronous(NUMBER, FLAG)
    def shut_down(world, label, number, at_once):
        queue = one_of(world.queues, number)
        queue.shutdown(at_once)
        world.record(label, "shuts down", queue.qsize())


@asynchronous(NUMBER, NUMBER, MESSAGE)
async def disturbed_by(world, label, number, ticks, message):
    """Cancels a task in the very turn in which it may be woken."""
    task = world.task(number)
    await world.package.sleep(world.delay(ticks))
    for lock in world.locks:
        if lock.locked():
            lock.release()
    one_of(world.events, number).set()
    world.record(label, "disturbs", task.get_name(), task.cancel(message))


def run(factory, program, package=asyncio):
    """As `programs.run`, with locks and queues."""
    return programs.run(factory, program, package, World)
