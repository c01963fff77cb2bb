"""The high-level API: what the standard library does in Python, and ferrio's module in Rust."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

from row import Group, NotApplicable, Row, Sample, Target, first_line
from session import Session

from .tasks import empty, nothing

GROUP = Group("api", "The high-level API")

NATIVE = Target(3.0, alone=False)
"""ferrio's own gather, locks, queues; with the loop alone it is the standard library's that run."""
THREADS = Target(1.2, alone=False)


@GROUP.timed("gather of 1000", 10_000, NATIVE)
async def gather(aio: ModuleType, ops: int) -> None:
    """`gather` of a thousand coroutines that return at once; one coroutine"""
    for _ in range(ops // 1000):
        await aio.gather(*[empty() for _ in range(1000)])


@GROUP.timed("TaskGroup of 1000", 10_000, NATIVE)
async def task_group(aio: ModuleType, ops: int) -> None:
    """a TaskGroup with a thousand children that return at once; one child"""
    for _ in range(ops // 1000):
        async with aio.TaskGroup() as group:
            for _ in range(1000):
                group.create_task(empty())


@GROUP.timed("tree of TaskGroups 6 wide 6 deep", sum(6**level for level in range(1, 7)), NATIVE)
async def task_group_tree(aio: ModuleType, ops: int) -> None:
    """every task opens a TaskGroup of six, six levels down; one of 55,986 tasks"""

    async def node(levels: int) -> None:
        if not levels:
            return
        async with aio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(node(levels - 1))

    await node(6)


@GROUP.timed("timeout()", 10_000, NATIVE)
async def timeout(aio: ModuleType, ops: int) -> None:
    """`async with timeout(60)` around a `sleep(0)`"""
    for _ in range(ops):
        async with aio.timeout(60):
            await aio.sleep(0)


@GROUP.timed("wait_for", 10_000, NATIVE)
async def wait_for(aio: ModuleType, ops: int) -> None:
    """`wait_for(sleep(0), 60)`"""
    for _ in range(ops):
        await aio.wait_for(aio.sleep(0), 60)


@GROUP.timed("shield", 10_000, NATIVE)
async def shield(aio: ModuleType, ops: int) -> None:
    """`shield` of a coroutine that returns at once"""
    for _ in range(ops):
        await aio.shield(empty())


@GROUP.timed("as_completed", 10_000, NATIVE)
async def as_completed(aio: ModuleType, ops: int) -> None:
    """`as_completed` over 100 coroutines that return at once; one coroutine"""
    for _ in range(ops // 100):
        for earliest in aio.as_completed([empty() for _ in range(100)]):
            await earliest


@GROUP.timed("wait", 10_000, NATIVE)
async def wait(aio: ModuleType, ops: int) -> None:
    """`wait` for 100 new tasks that return at once; one task"""
    for _ in range(ops // 100):
        await aio.wait([aio.create_task(empty()) for _ in range(100)])


@GROUP.timed("Queue bounded producer/consumer", 20_000, NATIVE)
async def queue(aio: ModuleType, ops: int) -> None:
    """a producer and a consumer over a Queue of 16; one item"""
    items = aio.Queue(16)

    async def produce() -> None:
        for item in range(ops):
            await items.put(item)

    producer = aio.create_task(produce())
    for _ in range(ops):
        await items.get()
    await producer


@GROUP.timed("Lock free", 50_000, NATIVE)
async def lock_free(aio: ModuleType, ops: int) -> None:
    """`async with lock` that nobody else wants"""
    lock = aio.Lock()
    for _ in range(ops):
        async with lock:
            pass


@GROUP.timed("Lock contended", 10_000, NATIVE)
async def lock_contended(aio: ModuleType, ops: int) -> None:
    """ten tasks take a Lock in turn and hold it over a `sleep(0)`; one turn"""
    await _take_turns(aio, aio.Lock(), ops)


@GROUP.timed("Semaphore", 20_000, NATIVE)
async def semaphore(aio: ModuleType, ops: int) -> None:
    """ten tasks take one of three permits and hold it over a `sleep(0)`; one permit"""
    await _take_turns(aio, aio.Semaphore(3), ops)


async def _take_turns(aio: ModuleType, lock: object, ops: int) -> None:
    async def worker() -> None:
        for _ in range(ops // 10):
            async with lock:  # type: ignore[attr-defined]
                await aio.sleep(0)

    for task in [aio.create_task(worker()) for _ in range(10)]:
        await task


@GROUP.timed("Event with 1000 waiters", 20_000, NATIVE)
async def event(aio: ModuleType, ops: int) -> None:
    """an Event wakes a thousand tasks, which then wait for the next Event; one wake-up"""
    events = [aio.Event() for _ in range(ops // 1000)]

    async def waiter() -> None:
        for event in events:
            await event.wait()

    waiters = [aio.create_task(waiter()) for _ in range(1000)]
    for event in events:
        await aio.sleep(0)
        event.set()
    for task in waiters:
        await task


@GROUP.timed("Condition", 10_000, NATIVE)
async def condition(aio: ModuleType, ops: int) -> None:
    """two tasks hand a turn to each other with notify and wait; one turn"""
    changed = aio.Condition()
    turn = 0

    async def player(me: int) -> None:
        nonlocal turn
        async with changed:
            for _ in range(ops // 2):
                while turn != me:
                    await changed.wait()
                turn = 1 - me
                changed.notify()

    for task in [aio.create_task(player(me)) for me in (0, 1)]:
        await task


@GROUP.timed("to_thread", 1_500, THREADS)
async def to_thread(aio: ModuleType, ops: int) -> None:
    """a function that returns at once, in a thread, awaited"""
    for _ in range(ops):
        await aio.to_thread(nothing)


@GROUP.timed("run_coroutine_threadsafe", 1_500, THREADS)
async def run_coroutine_threadsafe(aio: ModuleType, ops: int) -> None:
    """a thread has the loop run a coroutine that returns at once, and waits for it"""
    loop = aio.get_running_loop()

    def thread() -> None:
        for _ in range(ops):
            aio.run_coroutine_threadsafe(empty(), loop).result()

    await loop.run_in_executor(None, thread)


def import_time(session: Session) -> Sample:
    """the import of the package in a new process, after that of asyncio"""
    if not session.loop.packages:
        raise NotApplicable
    imports = "; ".join(f"import {package}" for package in session.loop.packages)
    code = f"import asyncio, time; start = time.perf_counter_ns(); {imports}; print(time.perf_counter_ns() - start)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Sample(float(done.stdout))


GROUP.rows.append(
    Row("import", first_line(import_time), import_time, Target(0, at_most=15e6, rivals=())),
)
