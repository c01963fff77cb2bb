"""The same small workloads on asyncio's loop and on ferrio's, measured in turns in one run.

    python examples/side_by_side.py

A first impression, not a benchmark: `make bench` is that.
"""

import asyncio
import sys
import time

import ferrio

ROUNDS = 5


async def sleep_zero(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def ping_pong(count):
    loop = asyncio.get_running_loop()
    ball = None

    async def play():
        nonlocal ball
        for _ in range(count // 2):
            served, ball = ball, loop.create_future()
            if served:
                served.set_result(None)
            await ball
        if ball is not None:
            ball.cancel()

    first, second = asyncio.create_task(play()), asyncio.create_task(play())
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    for task in {first, second} - done:
        task.cancel()


async def spawn_and_await(count):
    async def nothing():
        pass

    for _ in range(count):
        await asyncio.create_task(nothing())


async def gather_thousands(count):
    for _ in range(count // 1000):
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(1000)))


async def call_soon_chain(count):
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step(left):
        if left:
            loop.call_soon(step, left - 1)
        else:
            done.set_result(None)

    step(count)
    await done


async def timers_cancelled(count):
    loop = asyncio.get_running_loop()
    for _ in range(count):
        loop.call_later(60, print).cancel()


WORKLOADS = {
    "await asyncio.sleep(0)": (sleep_zero, 50_000),
    "future ping-pong": (ping_pong, 50_000),
    "create_task and await": (spawn_and_await, 20_000),
    "gather of 1000": (gather_thousands, 20_000),
    "call_soon chain": (call_soon_chain, 50_000),
    "timer set and cancelled": (timers_cancelled, 50_000),
}
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "ferrio": ferrio.new_event_loop}


def measure(workload, count, loop_factory):
    """Nanoseconds per operation."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(workload(count // 10))
        start = time.perf_counter_ns()
        runner.run(workload(count))
        return (time.perf_counter_ns() - start) / count


def main():
    print(f"\nCPython {sys.version.split()[0]}: ns per operation, the best of {ROUNDS} rounds\n")
    print(f"{'':26}{'asyncio':>10}{'ferrio':>10}{'ratio':>9}")
    for name, (workload, count) in WORKLOADS.items():
        best = dict.fromkeys(LOOPS, float("inf"))
        for _ in range(ROUNDS):
            for loop, loop_factory in LOOPS.items():
                best[loop] = min(best[loop], measure(workload, count, loop_factory))
        ratio = best["asyncio"] / best["ferrio"]
        print(f"{name:26}{best['asyncio']:10.0f}{best['ferrio']:10.0f}{ratio:8.1f}x", flush=True)


if __name__ == "__main__":
    main()
