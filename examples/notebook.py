"""The notebook of the asyncio review that ferrio began with, cell by cell, on ferrio's loop.

    python examples/notebook.py

The cells are as the notebook has them. What they leave out is here: `import datetime`, `long_running_task`, `eternity`,
something that answers on port 80, and running the `main` of a cell that does not run it. A cell that awaits at its top
level, as notebooks may, is the body of a coroutine.
"""

# fmt: off
# ruff: noqa: E402, F841, I001
# The cells keep the notebook's quotes, and its way of defining `main` again and again.

import asyncio
import contextlib
import datetime
import sys

import ferrio

# asyncio.run() and asyncio.Runner() make asyncio's own loop. ferrio has both, so these two names are all that changes.
asyncio.run, asyncio.Runner = ferrio.run, ferrio.Runner  # type: ignore[assignment, misc]


def heading(text):
    print(f"\n── {text} ".ljust(80, "─"), flush=True)


# ── What the cells leave out ─────────────────────────────────────────────────────────────────────────────────────────

async def long_running_task():
    await asyncio.sleep(3600)


async def eternity():
    await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def someone_on_port_80():
    """Has connections to port 80 of this machine arrive at servers that are there, and closes them in the end.

    On a machine without IPv6 both servers are IPv4 ones.
    """
    async def greet(reader, writer):
        writer.write(b"hello\n")
        writer.close()
        await writer.wait_closed()

    async def open_connection(host, port):
        reader, writer = await asyncios_own(*addresses[host, port])
        writers.append(writer)
        return reader, writer

    writers, addresses, asyncios_own = [], {}, asyncio.open_connection
    async with contextlib.AsyncExitStack() as servers:
        for host in "127.0.0.1", "::1":
            try:
                server = await asyncio.start_server(greet, host, 0)
            except OSError:
                server = await asyncio.start_server(greet, "127.0.0.1", 0)
            await servers.enter_async_context(server)
            addresses[host, 80] = server.sockets[0].getsockname()[:2]
        asyncio.open_connection = open_connection
        try:
            yield
        finally:
            asyncio.open_connection = asyncios_own
            for writer in writers:
                writer.close()
                await writer.wait_closed()


# ── The cells ────────────────────────────────────────────────────────────────────────────────────────────────────────

heading("In [8]: the imports")

import asyncio
import time

from asyncio import TaskGroup

print(f"CPython {sys.version.split()[0]}, ferrio {ferrio.__version__}")


heading("In [ ]: whichever connects first")


async def whichever_connects_first():
    ipv4_connect = asyncio.create_task(asyncio.open_connection("127.0.0.1", 80))
    ipv6_connect = asyncio.create_task(asyncio.open_connection("::1", 80))
    tasks = [ipv4_connect, ipv6_connect]

    async for earliest_connect in asyncio.as_completed(tasks):
        # earliest_connect is done. The result can be obtained by
        # awaiting it or calling earliest_connect.result()
        reader, writer = await earliest_connect

        if earliest_connect is ipv6_connect:
            print("IPv6 connection established.")
        else:
            print("IPv4 connection established.")


async def whichever_connects_first_with_someone_there():
    async with someone_on_port_80():
        await whichever_connects_first()

if sys.version_info >= (3, 13):
    asyncio.run(whichever_connects_first_with_someone_there())
else:
    print("asyncio.as_completed() is an asynchronous iterator from Python 3.13 on: not run.")


heading("In [ ]: a runner")

async def main():
    await asyncio.sleep(1)
    print('hello')

with asyncio.Runner() as runner:
    runner.run(main())


heading("In [ ]: timeouts, of 10 and of 1.6 seconds")

async def main():
    try:
        async with asyncio.timeout(10):
            await long_running_task()
    except TimeoutError:
        print("The long operation timed out, but we've handled it.")

    try:
        await asyncio.wait_for(eternity(), timeout=1.6)
    except TimeoutError:
        print('timeout!')

    print("This statement will run regardless.")

asyncio.run(main())


heading("In [ ]: the date, once a second for five seconds")

async def display_date():
    loop = asyncio.get_running_loop()
    end_time = loop.time() + 5.0
    while True:
        print(datetime.datetime.now())
        if (loop.time() + 1.0) >= end_time:
            break
        await asyncio.sleep(1)

asyncio.run(display_date())


heading("In [9], In [10]: a task group")

async def job(task_id, sleep_time):
    print(f'Task {task_id}: start')
    await asyncio.sleep(sleep_time)
    print(f'Task {task_id}: done')


async def main():
    async with asyncio.TaskGroup() as tg:
        task1 = tg.create_task(
            job(1, 1))

        task2 = tg.create_task(
            job(2, 2))

        print(f"started at {time.strftime('%X')}")

    # The await is implicit when the context manager exits.

    print(f"finished at {time.strftime('%X')}")

asyncio.run(main())


heading("In [11]: ending a task group from inside")

class TerminateTaskGroup(Exception):
    """Exception raised to terminate a task group."""

async def force_terminate_task_group():
    """Used to force termination of a task group."""
    raise TerminateTaskGroup()

async def main():
    try:
        async with TaskGroup() as group:
            # spawn some tasks
            group.create_task(job(1, 0.5))
            group.create_task(job(2, 1.5))
            # sleep for 1 second
            await asyncio.sleep(1)
            # add an exception-raising task to force the group to terminate
            group.create_task(force_terminate_task_group())
    except* TerminateTaskGroup:
        pass

# Usually asyncio.run(main()) required but not in a notebook
shown = main()  # a coroutine, which the notebook shows and does not run
print(shown)
asyncio.run(shown)
