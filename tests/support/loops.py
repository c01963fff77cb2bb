"""The loops under test, and ways to drive one step by step."""

import asyncio
import os
import selectors
import sys
import threading

import ferrio


class _Leaping:
    """A selector that waits for nothing: it adds the time that it should have waited to its loop's clock."""

    def __init__(self, selector):
        self.selector = selector
        self.now = 0.0

    def __getattr__(self, name):
        return getattr(self.selector, name)

    def select(self, timeout=None):
        ready = self.selector.select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.now += max(timeout, 0)
        return ready


class _SteppedAsyncioLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on a clock that begins at zero and passes only when the loop would wait for a timer."""

    def __init__(self):
        self._clock = _Leaping(selectors.DefaultSelector())
        super().__init__(self._clock)

    def time(self):
        return self._clock.now


STEPPED = {"asyncio": _SteppedAsyncioLoop, "ferrio": lambda: ferrio.EventLoop(_stepped_clock=True)}

FACTORIES = {"asyncio": asyncio.new_event_loop, "ferrio": ferrio.new_event_loop}

DONE = object()


def turn(loop, count=1):
    """Runs `count` turns: with `stop()` called before, `run_forever()` runs exactly one."""
    for _ in range(count):
        loop.stop()
        loop.run_forever()


# epoll_wait, epoll_pwait, epoll_pwait2 on x86-64; the last two are the same on every architecture that is newer.
_WAITS = {"x86_64": {"232", "281", "441"}, "aarch64": {"22", "441"}}.get(os.uname().machine, set())


def until_asleep(native_id):
    """Returns once that thread of this process sleeps in the kernel's wait for readiness.

    Where the kernel does not say what a thread is in, it returns at once: what is tested then holds anyhow, only the
    road to it is not the one that was meant.
    """
    path = f"/proc/self/task/{native_id}/syscall"
    while _WAITS:
        try:
            with open(path) as file:
                number = file.read().split()[0]
        except OSError:
            return
        if number in _WAITS:
            return


def while_asleep(function):
    """Starts a thread that calls `function()` once the calling thread sleeps in its loop."""
    sleeper = threading.get_native_id()

    def body():
        until_asleep(sleeper)
        function()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def since(major, minor):
    """Whether the running interpreter is at least this one."""
    return sys.version_info >= (major, minor)
