"""What type checkers see of ferrio: it is checked, and never run."""

from typing import assert_type

import ferrio
import ferrio as asyncio


async def number() -> int:
    return 1


async def text() -> str:
    return "text"


async def tasks() -> None:
    task = asyncio.create_task(number(), name="a number")
    assert_type(task, asyncio.Task[int])
    assert_type(await task, int)
    assert_type(task.result(), int)
    assert_type(await asyncio.gather(number(), text()), tuple[int, str])
    assert_type(await asyncio.wait_for(text(), 1), str)
    assert_type(await asyncio.shield(number()), int)
    assert_type(await asyncio.to_thread(len, "text"), int)
    assert_type(await asyncio.sleep(0, "result"), str)
    assert_type(await asyncio.sleep(0), None)
    done, _ = await asyncio.wait([task], return_when=asyncio.FIRST_COMPLETED)
    assert_type(done, set[asyncio.Task[int]])
    async with asyncio.timeout(1) as scope, asyncio.TaskGroup() as group:
        scope.reschedule(None)
        assert_type(group.create_task(text()), asyncio.Task[str])


async def locks_and_queues() -> None:
    async with asyncio.Lock(), asyncio.Semaphore(2), asyncio.Condition() as condition:
        assert_type(condition, None)
    queue: asyncio.Queue[int] = asyncio.PriorityQueue(maxsize=2)
    await queue.put(1)
    assert_type(await queue.get(), int)
    assert_type(await asyncio.Barrier(1).wait(), int)
    assert await asyncio.Event().wait()


async def streams() -> None:
    reader, writer = await asyncio.open_connection("localhost", 80)
    assert_type(reader, asyncio.StreamReader)
    assert_type(await reader.readuntil((b"\n", b"\r")), bytes)
    writer.write(b"data")
    await writer.drain()
    process = await asyncio.create_subprocess_exec("true", stdout=asyncio.subprocess.PIPE)
    assert_type(await process.wait(), int)


def loops() -> None:
    loop = ferrio.new_event_loop()
    future: asyncio.Future[int] = loop.create_future()
    loop.call_soon(future.set_result, 1)
    assert_type(loop.run_until_complete(future), int)
    assert_type(ferrio.run(number()), int)
    with asyncio.Runner(loop_factory=ferrio.new_event_loop) as runner:
        assert_type(runner.run(text()), str)
