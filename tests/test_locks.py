"""Lock, Event, Condition, Semaphore, BoundedSemaphore, Barrier."""

import asyncio
import gc
import inspect
import re
import weakref

import pytest
from hypothesis import given, strategies as st
from support.case import describe, neutral
from support.guard import without_collector
from support.traces import Tasks, package, programs, property_test

import ferrio

CLASSES = ["Lock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"]
# How permits and notifications are handed on, and some texts, have changed over the years.
SINCE = pytest.mark.asyncio_since("3.14", "today's order of wake-ups and texts")


def make(module, name):
    return getattr(module, name)(*[2] if name == "Barrier" else [])


def short(text):
    """The text without addresses and names of modules."""
    return re.sub(r"<[\w.]*\.(?=\w+ object)", "<", neutral(text))


def text(object):
    return short(repr(object))


# What a class is


@pytest.mark.parametrize("name", CLASSES)
def test_class(name):
    ours = make(ferrio, name)
    assert isinstance(ours, getattr(asyncio, name))
    assert type(ours) is getattr(ferrio, name)
    assert type(ours).__module__ == "ferrio"
    assert weakref.ref(ours)() is ours
    ours.attribute = 1
    assert vars(ours)["attribute"] == 1
    assert text(ours) == text(make(asyncio, name))


@pytest.mark.parametrize("name", CLASSES)
def test_coroutine_methods(name):
    theirs, ours = make(asyncio, name), make(ferrio, name)
    for attribute in dir(theirs):
        if attribute.startswith("_") and attribute not in ("__aenter__", "__aexit__"):
            continue
        is_coroutine = inspect.iscoroutinefunction(getattr(theirs, attribute))
        assert inspect.iscoroutinefunction(getattr(ours, attribute)) == is_coroutine, attribute


@pytest.mark.parametrize("name", CLASSES)
def test_wrong_arguments(name):
    for wrong in [{"loop": None}, {"nonsense": 1}]:
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            getattr(ferrio, name)(*[2] if name == "Barrier" else [], **wrong)
    for method in ("acquire", "wait", "__aenter__"):
        if function := getattr(getattr(ferrio, name), method, None):
            with pytest.raises(TypeError):
                function(1).send(None)  # Python 3.11 runs a coroutine function's own code, which calls ours
            with pytest.raises(TypeError, match="missing 1 required positional argument: 'self'"):
                function()
            with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
                function(make(ferrio, name), 1)


@SINCE
def test_values_that_are_refused(parity):
    def body(case):
        aio = package(case)
        for value in (-1, -(10**30)):
            case.raised(aio.Semaphore, value)
            case.raised(aio.BoundedSemaphore, value)
        case.raised(aio.Barrier, 0)
        case.raised(aio.Barrier, -1)
        case.raised(aio.Lock().release)
        case.raised(aio.BoundedSemaphore(3).release)
        case.raised(aio.Condition().notify)
        case.raised(aio.Condition().notify_all)

    parity(body)


def test_endless_semaphore(parity):
    async def body(case):
        for value in (float("inf"), True, 0):
            semaphore = package(case).Semaphore(value)
            semaphore.release()
            await semaphore.acquire()
            case(text(semaphore), semaphore.locked(), semaphore._value)

    parity(body)


def test_nothing_is_taken_before_the_coroutine_is_driven(parity):
    async def body(case):
        lock, semaphore = package(case).Lock(), package(case).Semaphore()
        for made in (lock.acquire(), lock.__aenter__(), semaphore.acquire(), semaphore.__aenter__()):
            case(lock.locked(), semaphore.locked())
            made.close()
        entered = lock.__aenter__()
        case(await entered)
        left = lock.__aexit__(None, None, None)
        case(lock.locked())
        case(await left, lock.locked())

    parity(body)


# Two loops


@pytest.mark.parametrize("name", ["Lock", "Event", pytest.param("Condition", marks=SINCE), "Semaphore"])
def test_bound_to_the_loop_of_the_first_wait(parity, name):
    def body(case):
        shared = make(package(case), name)

        async def wait():
            # A loop is looked at by who has to wait, and by nobody before.
            if name == "Condition":
                await shared.acquire()
                waiting = asyncio.ensure_future(shared.wait())
            elif name == "Event":
                waiting = asyncio.ensure_future(shared.wait())
            else:
                await shared.acquire()
                waiting = asyncio.ensure_future(shared.acquire())
            await asyncio.sleep(0)
            case(shared._loop is asyncio.get_running_loop())
            waiting.cancel()
            done = await asyncio.gather(waiting, return_exceptions=True)
            case(
                [(type(error).__name__, re.sub(r"<[\w.]*\.(?=\w+ object)", "<", neutral(str(error)))) for error in done]
            )
            if name != "Event":
                shared.release()

        for _ in range(2):
            loop = asyncio.new_event_loop() if case.name == "asyncio" else ferrio.new_event_loop()
            case(shared._loop is None)
            loop.run_until_complete(wait())
            loop.close()

    parity(body)


@pytest.mark.parametrize("name", ["Lock", "Event", "Condition", "Semaphore", "Barrier"])
def test_on_a_loop_that_is_not_ferrios(name):
    async def use(shared):
        if name == "Event":
            shared.set()
        elif name == "Condition":
            async with shared:
                shared.notify_all()
        elif name == "Barrier":
            return await shared.wait()
        else:
            shared.release()
        return None

    async def wait(shared):
        if name in ("Event", "Barrier"):
            return await shared.wait()
        if name == "Condition":
            async with shared:
                return await shared.wait()
        return await shared.acquire()

    async def main(module):
        shared = make(module, name)
        if name in ("Lock", "Semaphore"):
            await shared.acquire()
        waiting = asyncio.create_task(wait(shared))
        await asyncio.sleep(0)
        return [await use(shared), await waiting, text(shared)]

    runs = []
    for module in (asyncio, ferrio):
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runs.append(runner.run(main(module)))
    assert runs[0] == runs[1]


# Subclasses


def test_overridden_methods_are_called(parity):
    async def body(case):
        aio = package(case)

        def tell(base, *names):
            def method(name):
                def call(self, *args):
                    case(base.__name__, name, *args)
                    return getattr(base, name)(self, *args)

                return call

            return type("My" + base.__name__, (base,), {name: method(name) for name in names})

        lock = tell(aio.Lock, "acquire", "release")()
        async with lock:
            case(text(lock))
        semaphore = tell(aio.Semaphore, "acquire", "release", "locked")()
        async with semaphore:
            case(text(semaphore))
        bounded = tell(aio.BoundedSemaphore, "acquire", "release")(2)
        async with bounded:
            case(text(bounded), bounded._bound_value)
        barrier = tell(aio.Barrier, "wait")(1)
        async with barrier as index:
            case(index)
        condition = tell(aio.Condition, "wait", "notify", "_notify")(tell(aio.Lock, "acquire", "release", "locked")())
        answers = iter([0, 0, "yes"])

        async def waiter():
            async with condition:
                case(await condition.wait_for(lambda: next(answers)))

        task = asyncio.ensure_future(waiter())
        for _ in range(3):
            await asyncio.sleep(0)
            async with condition:
                condition.notify_all()
        await task

    recorded, _ = parity(without_private(body))
    assert ("Lock", "acquire") in recorded


def without_private(body):
    """Leaves out the calls of methods that CPython has for itself."""

    async def run(case):
        await body(case)
        case.events = [event for event in case.events if not (isinstance(event, tuple) and "_notify" in event)]

    return run


def test_init_of_a_subclass(parity):
    async def body(case):
        class Named(package(case).Lock):
            def __init__(self, name, **options):
                super().__init__()
                self.name = name

        lock = Named("a name", option=1)
        async with lock:
            case(lock.name, lock.locked(), neutral(repr(lock)))

    parity(body)


class DuckLock:
    """A lock that is no subclass of anything."""

    def __init__(self, case):
        self.case = case
        self.held = False

    def locked(self):
        return self.held

    async def acquire(self):
        while self.held:
            await asyncio.sleep(0)
        self.case("acquired")
        self.held = True
        return True

    def release(self):
        self.case("released")
        self.held = False


def test_condition_on_a_foreign_lock(parity):
    async def body(case):
        condition = package(case).Condition(DuckLock(case))
        case(text(condition), condition._lock.held)
        case.raised(condition.notify)

        async def waiter():
            async with condition:
                case(await condition.wait())

        task = asyncio.ensure_future(waiter())
        cancelled = asyncio.ensure_future(waiter())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        case(text(condition))
        cancelled.cancel()
        async with condition:
            condition.notify()
            case(text(condition))
        case(await asyncio.gather(task, cancelled, return_exceptions=True) == [None, None])

    async def tolerant(case):
        await body(case)

    parity(tolerant)


@SINCE
def test_condition_on_a_lock_that_is_cancelled_again_and_again(parity):
    """However often that is, the lock is held when the cancellation is raised."""

    class Stubborn(DuckLock):
        refusals = 0

        def acquire(self):
            if self.refusals:
                self.refusals -= 1
                raise asyncio.CancelledError(self.refusals)
            return super().acquire()

    async def body(case):
        lock = Stubborn(case)
        condition = package(case).Condition(lock)

        async def waiter():
            async with condition:
                await condition.wait()

        task = asyncio.ensure_future(waiter())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("first")
        lock.refusals = 100_000
        try:
            await task
        except asyncio.CancelledError as error:
            case(error.args, lock.refusals, lock.held)

    parity(body)


def test_two_conditions_of_one_lock(parity):
    async def body(case):
        aio = package(case)
        lock = aio.Lock()
        first, second = aio.Condition(lock), aio.Condition(lock)
        case(first._lock is second._lock is lock, first.acquire == lock.acquire)

        async def waiter(name, condition):
            async with condition:
                await condition.wait()
                case(name, lock.locked())

        tasks = [asyncio.ensure_future(waiter(n, c)) for n, c in enumerate([first, second, first])]
        await asyncio.sleep(0)
        async with lock:
            second.notify_all()
            first.notify_all()
        await asyncio.gather(*tasks)

    parity(body)


@pytest.mark.parametrize("count", [0, 1, 2, 1.5, -1, True, 10**30])
def test_count_of_notify(parity, count):
    async def body(case):
        condition = package(case).Condition()

        async def waiter(number):
            async with condition:
                case(number, await condition.wait())

        tasks = [asyncio.ensure_future(waiter(number)) for number in range(4)]
        await asyncio.sleep(0)
        async with condition:
            condition.notify(count)
        for _ in range(4):
            await asyncio.sleep(0)
        async with condition:
            condition.notify_all()
        await asyncio.gather(*tasks)

    parity(body)


# Who is hostile


def test_future_of_a_waiter_is_settled_by_somebody_else(parity):
    """Who reaches the future that a task waits for can end its wait; the lock takes that as asyncio's does."""

    async def body(case):
        for failure in (None, ValueError("no"), asyncio.CancelledError("gone")):
            for name in ("Lock", "Event", "Semaphore"):
                shared = make(package(case), name)
                if name != "Event":
                    await shared.acquire()
                task = asyncio.ensure_future(shared.wait() if name == "Event" else shared.acquire())
                await asyncio.sleep(0)
                if failure is None:
                    task._fut_waiter.set_result("mine")
                elif isinstance(failure, ValueError):
                    task._fut_waiter.set_exception(failure)
                else:
                    task._fut_waiter.cancel("gone")
                done = await asyncio.gather(task, return_exceptions=True)
                case(name, [describe(value) if isinstance(value, BaseException) else value for value in done])
                case(text(shared))

    parity(body)


@pytest.mark.parametrize("name", ["Lock", "Event", "Semaphore"])
def test_coroutine_thrown_away_while_it_waits(parity, name):
    """The waiter leaves the queue with its coroutine."""

    async def body(case):
        shared = make(package(case), name)
        if name != "Event":
            await shared.acquire()
        coroutine = shared.wait() if name == "Event" else shared.acquire()
        coroutine.send(None)
        case(text(shared))
        del coroutine
        case(text(shared))

    parity(body)


@pytest.mark.parametrize("name", ["Lock", "Event", "Condition", "Semaphore", "Barrier"])
def test_no_cycles(loop, name):
    """What waited and was cancelled, and the lock itself, go without the collector."""
    shared = make(ferrio, name)

    async def wait(shared):
        if name in ("Event", "Barrier"):
            await shared.wait()
        elif name == "Condition":
            async with shared:
                await shared.wait()
        else:
            await shared.acquire()

    async def main(shared):
        if name in ("Lock", "Semaphore"):
            await shared.acquire()
        tasks = [asyncio.ensure_future(wait(shared)) for _ in range(1 if name == "Barrier" else 3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiters = [weakref.ref(task._fut_waiter) for task in tasks]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        return [weakref.ref(task) for task in tasks] + waiters

    with without_collector():
        references = loop.run_until_complete(main(shared))
        references.append(weakref.ref(shared))
        del shared
        assert [reference() for reference in references] == [None] * len(references)


@pytest.mark.parametrize("name", CLASSES)
def test_collected_in_a_cycle(name):
    shared = make(ferrio, name)
    shared.itself = shared
    gone = weakref.ref(shared)
    del shared
    gc.collect()
    assert gone() is None


# Who is cancelled after its turn has come


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "BoundedSemaphore"])
def test_permit_of_a_cancelled_waiter_goes_to_the_next(parity, name):
    async def body(case):
        lock = make(package(case), name)
        await lock.acquire()
        first, second, third = (asyncio.ensure_future(lock.acquire()) for _ in range(3))
        await asyncio.sleep(0)
        lock.release()
        first.cancel()
        case(text(lock), lock.locked())
        await asyncio.wait([first])
        await asyncio.sleep(0)
        case(first.cancelled(), second.done(), third.done(), text(lock), lock.locked())
        third.cancel()

    recorded, _ = parity(body)
    assert recorded[1][:3] == (True, True, False)


@SINCE
def test_notification_of_a_cancelled_waiter_goes_to_the_next(parity):
    async def body(case):
        condition = package(case).Condition()

        async def wait():
            async with condition:
                return await condition.wait()

        first, second, third = (asyncio.ensure_future(wait()) for _ in range(3))
        await asyncio.sleep(0)
        async with condition:
            condition.notify()
            first.cancel()
        await asyncio.wait([first])
        for _ in range(3):
            await asyncio.sleep(0)
        case(first.cancelled(), second.done(), third.done(), text(condition))
        third.cancel()

    recorded, _ = parity(body)
    assert recorded[0][:3] == (True, True, False)


# Properties: the same random program on both


@SINCE
@property_test
@given(program=programs(st.just(("acquire",)), st.tuples(st.just("release"), st.integers(0, 9))))
def test_lock_program(parity, program):
    async def body(case):
        await take_turns(case, package(case).Lock(), program)

    parity(body)


@SINCE
@property_test
@given(
    program=programs(
        st.just(("acquire",)), st.tuples(st.just("release"), st.integers(0, 9)), st.tuples(st.just("more"), st.just(0))
    ),
    name=st.sampled_from(["Semaphore", "BoundedSemaphore"]),
    value=st.integers(0, 3),
)
def test_semaphore_program(parity, name, value, program):
    async def body(case):
        await take_turns(case, getattr(package(case), name)(value), program)

    parity(body)


async def take_turns(case, lock, program):
    """Tasks take the lock, and hold it until the program says that it is to be released."""
    tasks, held = Tasks(case), {}

    async def hold(number):
        async with lock:
            case(number, "has it")
            held[number] = asyncio.get_running_loop().create_future()
            await held[number]

    def step(name, *args):
        if name == "acquire":
            tasks.start("hold", hold)
        elif name == "more":
            case.raised(lock.release)
        elif waiting := [future for future in held.values() if not future.done()]:
            waiting[args[0] % len(waiting)].set_result(None)

    def look():
        return text(lock), lock.locked()

    await tasks.run(program, step, look)
    for future in held.values():
        if not future.done():
            future.set_result(None)
    await tasks.end(look)


@SINCE
@property_test
@given(program=programs(st.just(("wait",)), st.just(("wait",)), st.just(("set",)), st.just(("clear",))))
def test_event_program(parity, program):
    async def body(case):
        event, tasks = package(case).Event(), Tasks(case)

        def step(name):
            if name == "wait":
                tasks.start("wait", lambda number: event.wait())
            else:
                getattr(event, name)()

        await tasks.run(program, step, lambda: text(event))
        await tasks.end(lambda: text(event))

    parity(body)


@SINCE
@property_test
@given(
    program=programs(
        st.just(("wait",)),
        st.just(("wait_for",)),
        st.just(("lock",)),
        st.just(("unlock",)),
        st.tuples(st.just("notify"), st.integers(1, 3)),
        st.just(("count",)),
    )
)
def test_condition_program(parity, program):
    async def body(case):
        condition, tasks = package(case).Condition(), Tasks(case)
        counter = 0

        async def wait(number):
            async with condition:
                return await condition.wait()

        async def wait_for(number, least):
            async with condition:
                return await condition.wait_for(lambda: counter >= least and counter)

        async def notify(number, count):
            async with condition:
                condition.notify(count)

        async def lock(number):
            await condition.acquire()

        def step(name, *args):
            nonlocal counter
            if name == "wait":
                tasks.start(name, wait)
            elif name == "wait_for":
                tasks.start(name, wait_for, counter + 2)
            elif name == "notify":
                tasks.start(name, notify, *args)
            elif name == "lock":
                tasks.start(name, lock)
            elif name == "unlock":
                case.raised(condition.release)
            else:
                counter += 1
                case.raised(condition.notify_all)

        def look():
            return text(condition), condition.locked()

        await tasks.run(program, step, look)
        await tasks.end(look)

    parity(body)


@SINCE
@property_test
@given(
    program=programs(
        st.just(("wait",)), st.just(("wait",)), st.just(("wait",)), st.just(("reset",)), st.just(("abort",))
    ),
    parties=st.integers(1, 4),
)
def test_barrier_program(parity, program, parties):
    async def body(case):
        barrier, tasks = package(case).Barrier(parties), Tasks(case)

        def step(name):
            tasks.start(name, lambda number: getattr(barrier, name)())

        def look():
            return text(barrier), barrier.n_waiting, barrier.broken

        await tasks.run(program, step, look)
        await tasks.end(look)

    parity(body)
