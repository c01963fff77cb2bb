"""Who is recorded to await a future."""

import asyncio
import contextvars

import ferrio

variable = contextvars.ContextVar("variable", default="unset")


class TestAwaitedBy:
    def test_a_task_that_awaits(self, loop):
        async def waits(future):
            await future

        async def main():
            future = loop.create_future()
            assert getattr(future, "_asyncio_awaited_by", None) is None
            tasks = [loop.create_task(waits(future)) for _ in range(2)]
            await asyncio.sleep(0)
            seen.append(future._asyncio_awaited_by)
            future.set_result(None)
            await asyncio.gather(*tasks)
            assert seen == [frozenset(tasks)]
            assert not future._asyncio_awaited_by

        if isinstance(loop, ferrio.EventLoop) or hasattr(asyncio.Future, "_asyncio_awaited_by"):
            seen = []
            loop.run_until_complete(main())
