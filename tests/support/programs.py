"""Programs made at random, and their runs: what `test_random_programs` compares.

A program is data: a list of *bodies*, one for each task that is there in the beginning, and a body is a list of
*operations*. An operation is a name and arguments; arguments may be bodies again, of a task, a callback or a block.
What an operation does stands in one function, and how its arguments are drawn beside it, so another primitive takes
one more function:

* `@synchronous(...)`: can stand in a callback and in a task; the function gets the world and the label of who runs it
* `@asynchronous(...)`: can stand in a task only; a coroutine function

Operations refer to the world's tasks, futures and handles by number, modulo how many there are: so every program has a
meaning, and stays one when hypothesis makes it smaller. All that can be observed goes into the trace. Two things are
kept out of it, because asyncio does not promise them: the order of equal deadlines, so no two are equal
(`World.delay`), and the order of sets.
"""

import asyncio
import contextlib
import contextvars
import types

from hypothesis import strategies as st

from support.case import describe
from support.loops import since

# Seconds; a power of two, so that sums of it are exact on every clock.
UNIT = 1 / 512
# When a program that waits for something that never comes is ended.
HORIZON = 1_000_000 * UNIT
FUTURES = 3
VARIABLE = contextvars.ContextVar("VARIABLE", default=0)


class Failure(Exception):
    """What programs raise."""


def told(error):
    """An exception with the ones inside it, and the classes of those that led to it."""
    if not isinstance(error, BaseException):
        return None
    inner = [told(one) for one in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    causes, earlier = [], error
    while (earlier := earlier.__cause__) is not None:
        causes.append(type(earlier).__name__)
    return (*describe(error), *inner, *causes)


class InOrder(dict):
    """A set that remembers who came first. asyncio's groups cancel their tasks in the order of a set."""

    def add(self, item):
        self[item] = None

    def discard(self, item):
        self.pop(item, None)


class World:
    """One run of a program on one loop."""

    def __init__(self, loop, package):
        self.loop = loop
        # asyncio, or ferrio in its place.
        self.package = package
        self.trace = []
        self.tasks = []
        self.handles = []
        self.callbacks = []
        self.scopes = []
        self.groups = []
        self.deadlines = set()
        self.awaited = {}
        self.children = {}
        self.count = 0
        self.futures = [loop.create_future() for _ in range(FUTURES)]

    def record(self, label, *event):
        self.trace.append((self.loop.time() / UNIT, label, *event))

    def label(self, kind):
        self.count += 1
        return f"{kind} {self.count}"

    def delay(self, ticks):
        """Seconds from now until a time that no other timer has."""
        now = self.loop.time()
        while (deadline := now + ticks * UNIT) in self.deadlines:
            ticks += 1
        self.deadlines.add(deadline)
        return ticks * UNIT

    def task(self, number):
        return self.tasks[number % len(self.tasks)]

    def future(self, number):
        """One of the futures, or of the tasks."""
        everything = self.futures + self.tasks
        return everything[number % len(everything)]

    def awaitable(self, label, number):
        """One of the futures, or of the tasks, unless it waits for the one that asks, directly or not."""
        everything = self.futures + [task for task in self.tasks if not self.waits_for(task.get_name(), label)]
        return everything[number % len(everything)]

    def waits_for(self, name, label):
        return name == label or any(
            self.waits_for(other, label) for other in (*self.awaited.get(name, ()), *self.children.get(name, ()))
        )

    @contextlib.contextmanager
    def waiting(self, label, *futures):
        """Keeps in mind, for the length of a wait, who waits for whom: no program waits for itself."""
        self.awaited[label] = [self.name(future) for future in futures]
        try:
            yield
        finally:
            del self.awaited[label]

    def name(self, future):
        """What a future is called in the trace."""
        if isinstance(future, asyncio.Task):
            return future.get_name()
        return f"future {self.futures.index(future)}" if future in self.futures else "another future"

    def start(self, body, within=None, **keywords):
        """A task of the loop, or of a group and its owner."""
        label = self.label("task")
        group, owner = within or (self.loop, None)
        self.children.setdefault(owner, []).append(label)
        task = group.create_task(self.run(label, body), name=label, **keywords)
        self.tasks.append(task)
        return task

    async def run(self, label, body):
        self.record(label, "begins", asyncio.current_task().get_name())
        try:
            await self.block(label, body)
        except BaseException as error:
            self.record(label, "ends by", told(error))
            raise
        self.record(label, "ends")
        return label

    async def block(self, label, body):
        for name, *arguments in body:
            if name in SYNCHRONOUS:
                SYNCHRONOUS[name](self, label, *arguments)
            else:
                await ASYNCHRONOUS[name](self, label, *arguments)

    def callback(self, body):
        """A function that runs a body of synchronous operations, and says so."""
        label = self.label("callback")

        def callback(*arguments):
            self.record(label, "is called", asyncio.current_task(), [self.name(future) for future in arguments])
            for name, *rest in body:
                SYNCHRONOUS[name](self, label, *rest)

        return callback

    def state(self, future):
        if not future.done():
            return "pending"
        if future.cancelled():
            return "cancelled"
        return told(future.exception()) or ("result", future.result())


SYNCHRONOUS = {}
ASYNCHRONOUS = {}
_ARGUMENTS = {}


def synchronous(*arguments):
    """Declares an operation whose arguments are drawn from these: strategies, or the word that stands for a body."""
    return lambda function: _declare(SYNCHRONOUS, function, arguments)


def asynchronous(*arguments):
    return lambda function: _declare(ASYNCHRONOUS, function, arguments)


def _declare(table, function, arguments):
    table[function.__name__] = function
    _ARGUMENTS[function.__name__] = arguments
    return function


NUMBER = st.integers(0, 9)
TICKS = st.integers(0, 6)
FLAG = st.booleans()
UNTIL = st.sampled_from([asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED])
MESSAGE = st.sampled_from([None, "message", "other"])
TASK_BODY, TASK_BODIES, CALLBACK_BODY = "body of a task", "bodies of tasks", "body of a callback"


def programs(max_depth=3):
    """Programs, to be given to `run`."""
    bodies = dict.fromkeys([CALLBACK_BODY, TASK_BODY, TASK_BODIES], st.builds(list))
    for size in range(2, 2 + max_depth):
        callback = st.one_of(*(_operation(name, bodies) for name in SYNCHRONOUS))
        task = st.one_of(callback, *(_operation(name, bodies) for name in ASYNCHRONOUS))
        body = st.lists(task, max_size=2 * size)
        bodies = {
            CALLBACK_BODY: st.lists(callback, max_size=size),
            TASK_BODY: body,
            TASK_BODIES: st.lists(body, max_size=3),
        }
    return st.lists(bodies[TASK_BODY], min_size=1, max_size=4)


def _operation(name, bodies):
    drawn = (bodies[argument] if isinstance(argument, str) else argument for argument in _ARGUMENTS[name])
    return st.tuples(st.just(name), *drawn)


def run(factory, program, package=asyncio, world_class=World):
    """Runs the program on a new loop, with the functions and classes of `package`, and returns its trace."""
    loop = factory()
    world = world_class(loop, package)

    def handler(loop, context):
        world.record("handler", context["message"].split(" ")[0], describe(context.get("exception")))

    loop.set_exception_handler(handler)
    try:
        for body in program:
            world.start(body)
        loop.call_later(HORIZON, loop.stop)
        loop.run_forever()
        world.record("the end")
        # What waits for itself, or for nothing: each cancellation can begin something new, but not for ever.
        for _ in range(50):
            pending = [task for task in world.tasks if not task.done()]
            if not pending:
                break
            for task in pending:
                task.cancel("the end")
            loop.call_later(1000 * HORIZON, loop.stop)
            loop.call_soon(loop.stop)
            loop.run_forever()
        world.trace.append([world.state(future) for future in world.futures + world.tasks])
        for task in world.tasks:
            task._log_destroy_pending = False
    finally:
        loop.close()
    # What is thrown away later can still have something to say.
    return world.trace[:]


# What happens at once.


@synchronous(st.integers(0, 9))
def note(world, label, number):
    world.record(label, "note", number)


@synchronous()
def look(world, label):
    """What the rest of Python sees."""
    task = asyncio.current_task()
    names = sorted(task.get_name() for task in asyncio.all_tasks())
    world.record(label, "sees", task and task.get_name(), names, VARIABLE.get())


@synchronous(NUMBER)
def set_variable(world, label, number):
    VARIABLE.set(number)


@synchronous(TASK_BODY)
def spawn(world, label, body):
    task = world.start(body)
    world.record(label, "spawns", task.get_name())


@synchronous(NUMBER, MESSAGE)
def cancel(world, label, number, message):
    task = world.task(number)
    world.record(label, "cancels", task.get_name(), task.cancel(message), task.cancelling())


if since(3, 13):
    # Before, asyncio took the request back, but not what had been asked for.

    @synchronous(NUMBER)
    def uncancel(world, label, number):
        task = world.task(number)
        world.record(label, "uncancels", task.get_name(), task.uncancel())


@synchronous(NUMBER)
def set_result(world, label, number):
    future = world.futures[number % FUTURES]
    with noted(world, label, "sets a result"):
        future.set_result(label)


@synchronous(NUMBER)
def set_exception(world, label, number):
    future = world.futures[number % FUTURES]
    with noted(world, label, "sets an exception"):
        future.set_exception(Failure(label))
        # Fetched, so that whether it is reported does not depend on when it is collected.
        future.exception()


@synchronous(NUMBER, MESSAGE)
def cancel_future(world, label, number, message):
    future = world.futures[number % FUTURES]
    world.record(label, "cancels", world.name(future), future.cancel(message))


@synchronous(NUMBER)
def renew_future(world, label, number):
    """Puts a new future in the place of one that is done."""
    number %= FUTURES
    if world.futures[number].done():
        world.futures[number] = world.loop.create_future()


@synchronous(NUMBER, CALLBACK_BODY)
def add_done_callback(world, label, number, body):
    world.callbacks.append(world.callback(body))
    world.future(number).add_done_callback(world.callbacks[-1])


@synchronous(NUMBER, NUMBER)
def remove_done_callback(world, label, number, callback):
    if world.callbacks:
        callback = world.callbacks[callback % len(world.callbacks)]
        world.record(label, "removes", world.future(number).remove_done_callback(callback))


@synchronous(CALLBACK_BODY, FLAG)
def call_soon(world, label, body, threadsafe):
    method = world.loop.call_soon_threadsafe if threadsafe else world.loop.call_soon
    world.handles.append(method(world.callback(body)))


@synchronous(TICKS, CALLBACK_BODY)
def call_later(world, label, ticks, body):
    world.handles.append(world.loop.call_later(world.delay(ticks), world.callback(body)))


@synchronous(NUMBER)
def cancel_handle(world, label, number):
    if world.handles:
        handle = world.handles[number % len(world.handles)]
        handle.cancel()
        world.record(label, "cancels a handle", handle.cancelled())


@synchronous()
def fail(world, label):
    raise Failure(label)


# What waits.


@types.coroutine
def _bare_yield():
    yield


@asynchronous(FLAG)
async def pause(world, label, bare):
    await (_bare_yield() if bare else world.package.sleep(0))
    world.record(label, "goes on")


@asynchronous(st.integers(1, 8))
async def sleep(world, label, ticks):
    world.record(label, "sleeps")
    await world.package.sleep(world.delay(ticks))
    world.record(label, "wakes")


@asynchronous(NUMBER, FLAG)
async def wait_for_future(world, label, number, shielded):
    future = world.awaitable(label, number)
    world.record(label, "awaits", world.name(future))
    with noted(world, label, "has waited"), world.waiting(label, future):
        world.record(label, "gets", await (world.package.shield(future) if shielded else future))


@asynchronous(TASK_BODY, TASK_BODY, FLAG)
async def guard(world, label, body, last, swallow):
    """A block with a `finally`, which may keep a cancellation to itself."""
    try:
        await world.block(label, body)
    except asyncio.CancelledError as error:
        world.record(label, "catches", describe(error))
        if not swallow:
            raise
    finally:
        await world.block(label, last)


@asynchronous(st.lists(NUMBER, max_size=3), FLAG)
async def gather(world, label, numbers, return_exceptions):
    futures = [world.awaitable(label, number) for number in numbers]
    with noted(world, label, "has gathered"), world.waiting(label, *futures):
        results = await world.package.gather(*futures, return_exceptions=return_exceptions)
        world.record(label, "gathers", [describe(r) if isinstance(r, BaseException) else r for r in results])


@asynchronous(st.lists(NUMBER, min_size=1, max_size=3), UNTIL)
async def wait(world, label, numbers, until):
    futures = [world.awaitable(label, number) for number in numbers]
    with world.waiting(label, *futures):
        done, pending = await world.package.wait(futures, return_when=until)
    world.record(label, "waits", sorted(map(world.name, done)), sorted(map(world.name, pending)))


@asynchronous(TASK_BODY)
async def join(world, label, body):
    """A task that is awaited where it is made."""
    task = world.start(body)
    with noted(world, label, "has joined"), world.waiting(label, task):
        world.record(label, "joins", await task)


def _seconds(world, ticks):
    """A delay that is over when it begins, one that has its time to itself, or none."""
    return world.delay(ticks) if ticks is not None and ticks > 0 else ticks


DELAY = st.sampled_from([None, -1, 0, 0, 1, 2, 4])


@asynchronous(DELAY, TASK_BODY)
async def timeout(world, label, ticks, body):
    scope = world.package.timeout(_seconds(world, ticks))
    world.scopes.append(scope)
    with noted(world, label, "leaves a scope"):
        try:
            async with scope:
                await world.block(label, body)
        finally:
            world.record(label, "was in a scope", scope.expired(), world.package.current_task().cancelling())


@synchronous(NUMBER, DELAY)
def reschedule(world, label, number, ticks):
    if world.scopes:
        scope = world.scopes[number % len(world.scopes)]
        seconds = _seconds(world, ticks)
        with noted(world, label, "reschedules"):
            scope.reschedule(None if seconds is None else world.loop.time() + seconds)


@asynchronous(TASK_BODIES, TASK_BODY)
async def group(world, label, children, body):
    group = world.package.TaskGroup()
    if world.package is asyncio:
        group._tasks = InOrder()
    world.groups.append((group, label))
    with noted(world, label, "leaves a group"):
        try:
            async with group:
                for child in children:
                    world.start(child, (group, label))
                await world.block(label, body)
        finally:
            world.record(label, "was in a group", world.package.current_task().cancelling())


@synchronous(NUMBER, TASK_BODY, FLAG)
def join_group(world, label, number, body, eager):
    """A task for some group, which may be over, or not have begun."""
    if world.groups:
        keywords = {"eager_start": True} if eager and since(3, 14) else {}
        with noted(world, label, "joins a group"):
            world.start(body, world.groups[number % len(world.groups)], **keywords)


if hasattr(asyncio.TaskGroup, "cancel"):

    @synchronous(NUMBER)
    def cancel_group(world, label, number):
        if world.groups:
            world.groups[number % len(world.groups)][0].cancel()


if since(3, 12):
    # Before, asyncio made a task of a coroutine, under a name that no program knows.

    @asynchronous(NUMBER, DELAY)
    async def wait_for_limited(world, label, number, ticks):
        future = world.awaitable(label, number)
        world.record(label, "limits", world.name(future))
        with noted(world, label, "has waited"), world.waiting(label, future):
            world.record(label, "gets", await world.package.wait_for(future, _seconds(world, ticks)))

    @asynchronous(TASK_BODY, st.sampled_from([None, 1, 2, 4]))
    async def limit(world, label, body, ticks):
        """A coroutine that has a limited time, in the task that waits for it."""
        with noted(world, label, "was limited"):
            await world.package.wait_for(world.block(label, body), _seconds(world, ticks))


@contextlib.contextmanager
def noted(world, label, what, others=()):
    """An error that is recorded and goes no further, unless it is this task's own cancellation."""
    try:
        yield
    except (Failure, asyncio.InvalidStateError, TimeoutError, ExceptionGroup, RuntimeError, *others) as error:
        world.record(label, what, told(error))
    except asyncio.CancelledError as error:
        world.record(label, what, describe(error))
        raise
