"""The loop's own work: tasks, futures, callbacks, timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import suppress
from types import ModuleType
from typing import Any

from row import Group, Sample, Target

GROUP = Group("tasks", "Tasks, futures, callbacks, timers", floor="bare coroutine")

YIELDS = 50_000


def bare_coroutine() -> Sample:
    """The same coroutine, driven by hand: what the interpreter takes for itself, whoever the loop is."""
    steps: Generator[Any, None, None] = sleep_zero(asyncio, YIELDS).__await__()
    start = time.perf_counter_ns()
    for _ in steps:
        pass
    return Sample((time.perf_counter_ns() - start) / YIELDS)


@GROUP.timed("sleep(0)", YIELDS, Target(4.0, floor=1 / 1.5), floor=bare_coroutine)
async def sleep_zero(aio: ModuleType, ops: int) -> None:
    """a task gives way to the loop with `sleep(0)` and goes on in the next turn"""
    for _ in range(ops):
        await aio.sleep(0)


@GROUP.timed("future ping-pong", 30_000, Target(4.0))
async def future_ping_pong(aio: ModuleType, ops: int) -> None:
    """two tasks wake each other in turn, each time by the result of a new future; one wake-up"""
    loop = aio.get_running_loop()
    court = [loop.create_future(), loop.create_future()]

    async def player(me: int) -> None:
        for _ in range(ops // 2):
            await court[me]
            court[me] = loop.create_future()
            court[1 - me].set_result(None)

    players = [loop.create_task(player(me)) for me in (0, 1)]
    court[0].set_result(None)
    for task in players:
        await task


@GROUP.timed("call_soon chain", 100_000, Target(2.7))
async def call_soon_chain(aio: ModuleType, ops: int) -> None:
    """a callback schedules itself again: one callback in every turn of the loop"""
    loop = aio.get_running_loop()
    done = loop.create_future()

    def link(left: int) -> None:
        if left:
            loop.call_soon(link, left - 1)
        else:
            done.set_result(None)

    link(ops)
    await done


@GROUP.timed("call_soon burst", 200_000, Target(3.6))
async def call_soon_burst(aio: ModuleType, ops: int) -> None:
    """a thousand callbacks are scheduled and run in one turn; one callback"""
    loop = aio.get_running_loop()
    for _ in range(ops // 1000):
        for _ in range(1000):
            loop.call_soon(nothing)
        await aio.sleep(0)


@GROUP.timed("timers set and cancelled", 50_000, Target(4.0))
async def timers(aio: ModuleType, ops: int) -> None:
    """a thousand timers are set, all are cancelled, the loop turns; one timer"""
    loop = aio.get_running_loop()
    for _ in range(ops // 1000):
        handles = [loop.call_later(60 + i, nothing) for i in range(1000)]
        for handle in handles:
            handle.cancel()
        await aio.sleep(0)


@GROUP.timed("spawn and await", 20_000, Target(3.0))
async def spawn(aio: ModuleType, ops: int) -> None:
    """a task is made from a coroutine that returns at once, and awaited"""
    for _ in range(ops):
        await aio.create_task(empty())


@GROUP.timed("cancel of 100 sleeping tasks", 10_000, Target(3.0))
async def cancel(aio: ModuleType, ops: int) -> None:
    """100 tasks are made, fall asleep, are cancelled and awaited; one task"""
    for _ in range(ops // 100):
        tasks = [aio.create_task(aio.sleep(3600)) for _ in range(100)]
        await aio.sleep(0)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(aio.CancelledError):
                await task


def nothing() -> None:
    """The callback of the rows that are about scheduling it."""


async def empty() -> None:
    """The coroutine of the rows that are about what is around it."""
