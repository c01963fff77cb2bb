"""What stands around each test: a watchdog, and a look at what the test left behind.

A test that hangs must end, and say where. Two timers see to that. The first is a thread that has the main thread
interrupted by a signal whose handler raises `Hung`; that is a `SystemExit`, which no loop keeps to itself. The second
is faulthandler's, which needs neither the interpreter's lock nor its cooperation, and ends the process.
"""

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading

import pytest

# The last one is valgrind's.
SIGNAL = signal.SIGRTMAX - 1
GRACE = 10


class Hung(SystemExit):
    """The test took too long."""


class Watchdog(threading.Thread):
    """Interrupts the main thread when the time that it was given is over."""

    def __init__(self, stderr):
        super().__init__(name="watchdog", daemon=True)
        self.stderr = stderr
        self.condition = threading.Condition()
        self.round = 0
        self.seconds = None

    def run(self):
        with self.condition:
            while True:
                seen = self.round
                armed = self.seconds is not None
                if not self.condition.wait_for(lambda seen=seen: self.round != seen, self.seconds) and armed:
                    self.seconds = None
                    faulthandler.dump_traceback(self.stderr, all_threads=True)
                    signal.pthread_kill(threading.main_thread().ident, SIGNAL)

    def set(self, seconds):
        """Counts from now; None stops the count."""
        with self.condition:
            self.round += 1
            self.seconds = seconds
            self.condition.notify()
        if seconds is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=self.stderr)

    @contextlib.contextmanager
    def watching(self, seconds):
        """Watches the block. The signal's handler is set anew, in case a test changed it."""

        def hung(number, frame):
            raise Hung(f"the test hangs, or takes more than {seconds} seconds")

        signal.signal(SIGNAL, hung)
        self.set(seconds)
        try:
            yield
        finally:
            self.set(None)


@contextlib.contextmanager
def without_collector():
    """What goes in here goes by itself, and not because the garbage collector found it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: target for fd, target in found.items() if not target.startswith("/proc/")}


class State:
    """What a test could leave behind: descriptors, threads, and the thread's own asyncio settings."""

    def __init__(self):
        self.descriptors = _descriptors()
        self.threads = set(threading.enumerate())

    def check(self):
        """Fails the test if something is left. Objects that only the collector can free count as left by nobody."""
        left = []
        for thread in set(threading.enumerate()) - self.threads:
            thread.join(5)
            if thread.is_alive():
                left.append(f"thread {thread.name}")
        if _descriptors().keys() - self.descriptors.keys():
            gc.collect()
            for fd, target in _descriptors().items():
                if fd not in self.descriptors:
                    left.append(f"descriptor {fd}, {target}")
        left.extend(_unclean_settings())
        if left:
            pytest.fail("left behind: " + "; ".join(left), pytrace=False)


def _unclean_settings():
    running = asyncio._get_running_loop()
    if running is not None:
        asyncio._set_running_loop(None)
        yield f"running loop {running!r}"
    wakeup_fd = signal.set_wakeup_fd(-1)
    if wakeup_fd != -1:
        yield f"wake-up descriptor {wakeup_fd}"
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield f"SIGINT handler {signal.getsignal(signal.SIGINT)!r}"
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if any(sys.get_asyncgen_hooks()):
        yield f"hooks {sys.get_asyncgen_hooks()!r}"
        sys.set_asyncgen_hooks(None, None)
    if sys.get_coroutine_origin_tracking_depth():
        yield "coroutine origin tracking"
        sys.set_coroutine_origin_tracking_depth(0)
