"""The ways in which a program can have ferrio, opened around one and the same test.

Only the loop is ferrio's behind the first: the names of the `asyncio` package are the standard library's.
"""

import contextlib
import sys

import ferrio
from ferrio import _ferrio

#: What tests import from these is as much theirs as if it stood in their own module.
SUPPORT = tuple(f"support.{name}" for name in ("peers", "pipes", "processes", "streams", "tls"))

#: Behind `asyncio` stands the standard library alone, to compare with. `deferring` is as `ferrio`, but the loop sends
#: when the turn ends, as it does by itself where sends are dear; only debug builds can be told to.
DOORS = ("ferrio", "installed", "module", *(["deferring"] if hasattr(_ferrio, "_defer_sends") else []))


@contextlib.contextmanager
def opened(name, *modules):
    """Opens the door `name`, for what these modules do by their global name `asyncio`."""
    match name:
        case "installed":
            ferrio.install()
            try:
                yield
            finally:
                ferrio.uninstall()
        case "module":
            with contextlib.ExitStack() as stack:
                for module in modules:
                    if (before := getattr(module, "asyncio", None)) is not None:
                        stack.callback(setattr, module, "asyncio", before)
                        module.asyncio = ferrio
                yield
        case "deferring":
            with deferring("turn"):
                yield
        case _:
            yield


@contextlib.contextmanager
def deferring(end):
    """Has the loops that are made meanwhile send when the `"turn"` ends, or the `"callback"`."""
    _ferrio._defer_sends(end)
    try:
        yield
    finally:
        _ferrio._defer_sends(None)


def of_tests(module):
    """The modules whose `asyncio` a test of `module` means."""
    return (module, *(sys.modules[name] for name in SUPPORT if name in sys.modules))
