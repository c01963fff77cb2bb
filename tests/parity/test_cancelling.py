"""Cancelling tasks that wait for tasks."""

import asyncio

import pytest
from support.case import describe


def test_a_chain(parity):
    """The end of the chain is cancelled; each task of it has been asked once, and hears the message."""

    async def body(case):
        async def wait(number, awaited):
            try:
                await awaited
            except asyncio.CancelledError as error:
                case(number, describe(error))
                raise

        awaited, tasks = asyncio.get_running_loop().create_future(), []
        for number in range(5):
            awaited = asyncio.create_task(wait(number, awaited))
            tasks.append(awaited)
        await asyncio.sleep(0)
        case(awaited.cancel("enough"), [task.cancelling() for task in tasks])
        await asyncio.wait(tasks)
        case([task.cancelled() for task in tasks])

    events, _ = parity(body)
    assert events[0] == (True, [1] * 5)
    assert events[1] == (0, ("CancelledError", "enough"))


@pytest.mark.ferrio_only("asyncio's stack ends before the chain")
def test_a_chain_that_is_longer_than_the_stack(parity):
    async def body(case):
        async def wait(awaited):
            await awaited

        awaited = asyncio.get_running_loop().create_future()
        for _ in range(50_000):
            awaited = asyncio.create_task(wait(awaited))
        await asyncio.sleep(0)
        awaited.cancel()
        await asyncio.wait([awaited])
        case(awaited.cancelled())

    assert parity(body) == ([True], [])


def test_a_circle(parity):
    """Tasks that wait for each other cannot be cancelled at once: that is an error, not the end of the process."""

    async def body(case):
        tasks = []

        async def wait(number):
            await tasks[number]

        tasks += [asyncio.create_task(wait((number + 1) % 3)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RecursionError):
            tasks[0].cancel()
        case([task.done() for task in tasks])
        for task in tasks:
            task._log_destroy_pending = False

    assert parity(body) == ([[False] * 3], [])


def test_a_chain_that_ends_in_a_finished_task(parity):
    """It cannot be cancelled any more: the one that waits for it is."""

    async def body(case):
        loop = asyncio.get_running_loop()

        async def wait(awaited):
            try:
                await awaited
            except asyncio.CancelledError as error:
                case(describe(error))
            return "went on"

        inner = asyncio.create_task(asyncio.sleep(0, "inner"))
        outer = asyncio.create_task(wait(inner))
        inner.add_done_callback(lambda _: case(outer.cancel("late"), outer.cancelling()))
        case(await outer)
        # The wake-up is on its way when it is cancelled.
        future = loop.create_future()
        outer = asyncio.create_task(wait(future))
        await asyncio.sleep(0)
        future.set_result(None)
        case(outer.cancel("later"))
        case(await outer)

    parity(body)
