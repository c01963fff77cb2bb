"""Random programs that end in the middle: nobody waits for their tasks, and finalizers and last lines use the loop.

What they print is of no interest: they must end as programs do, and not by a panic or a signal.
"""

import random

import pytest
from support.scripts import run_script

WAITS = [
    "queue.get()",
    "lock.acquire()",
    "event.wait()",
    "future",
    "package.sleep(3600)",
    "package.shield(queue.get())",
    "package.wait_for(queue.get(), 3600)",
    "package.gather(queue.get(), event.wait())",
    "package.wait([package.ensure_future(queue.get())], timeout=3600)",
    "package.to_thread(int)",
    "in_a_group()",
    "in_a_scope()",
    "generated()",
    "connected()",
    "loop.sock_recv(pair[0], 1)",
    "loop.getaddrinfo('localhost', 1)",
]
LAST_LINES = [
    "pass",
    "await package.sleep(0)",
    "await queue.get()",
    "queue.put_nowait(1)",
    "event.set()",
    "future.cancel()",
    "loop.call_soon(print)",
    "loop.close()",
    "package.create_task(queue.get())",
    "await package.wait_for(queue.get(), 1)",
    "package.run(package.sleep(0))",
    "raise ValueError",
]
FINALIZERS = [
    "pass",
    "self.task.cancel()",
    "repr(self.task)",
    "future.cancel()",
    "loop.close()",
    "loop.run_until_complete(package.sleep(0))",
    "asyncio.all_tasks(loop)",
    "builtins.again = self",
]
ENDINGS = ["pass", "loop.close()", "del loop", "tasks.clear()", "del queue, lock, event", "sys.exit()", "gc.collect()"]


@pytest.mark.parametrize("seed", range(40))
def test_a_program_that_ends_in_the_middle(seed):
    choose = random.Random(seed).choice
    _, complaints, status = run_script(
        "ferrio",
        f"""
        import builtins
        import logging
        import socket

        logging.disable(logging.CRITICAL)
        package = {choose(["asyncio", "ferrio"])}

        class Cycle:
            def __init__(self, task):
                self.task = task
                self.itself = self

            def __del__(self):
                try:
                    {choose(FINALIZERS)}
                except Exception:
                    pass

        async def in_a_group():
            async with package.TaskGroup() as group:
                group.create_task(queue.get())
                group.create_task(event.wait())

        async def in_a_scope():
            async with package.timeout(3600), lock:
                await in_a_group()

        async def generate():
            try:
                while True:
                    yield await queue.get()
            finally:
                await package.sleep(0)

        async def generated():
            async for _ in generate():
                pass

        async def serve(reader, writer):
            await reader.readline()

        async def connected():
            server = await package.start_server(serve, "127.0.0.1", 0)
            reader, writer = await package.open_connection(*server.sockets[0].getsockname())
            writer.write(bytes(10_000_000))
            await writer.drain()

        async def work(awaitable):
            try:
                await awaitable
            finally:
                {choose(LAST_LINES)}

        async def begin():
            for awaitable in [{choose(WAITS)}, {choose(WAITS)}, {choose(WAITS)}]:
                tasks.append(package.ensure_future(work(awaitable)))

        tasks = []
        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        loop.set_debug({choose([False, False, True])})
        queue, lock, event, future = package.Queue(), package.Lock(), package.Event(), loop.create_future()
        pair = socket.socketpair()
        for end in pair:
            end.setblocking(False)
        loop.run_until_complete(begin())
        for _ in range({choose([0, 1, 5])}):
            loop.run_until_complete(package.sleep(0))
        gc.disable()
        kept = [Cycle(task) for task in tasks]
        {choose(["pass", "del kept", "sys.kept = kept; del kept"])}
        {choose(ENDINGS)}
        """,
        options=["-W", "ignore"],
    )
    assert status == 0, complaints
    assert "panicked" not in complaints
