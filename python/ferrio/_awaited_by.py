"""How asyncio's call graph comes to see who awaits ferrio's tasks by asyncio's own means.

`asyncio.TaskGroup`, `gather` and the like record who waits for a task through two functions of `asyncio.futures`, since
Python 3.14. These take asyncio's own futures only, and do nothing for others. ferrio's take those as well.
"""

import asyncio.futures

from ferrio import _ferrio


def watch() -> None:
    """Has asyncio record who waits for ferrio's futures from now on."""
    for name in ("future_add_to_awaited_by", "future_discard_from_awaited_by"):
        original = getattr(asyncio.futures, name, None)
        if original is None:
            continue
        for module in (asyncio, asyncio.futures):
            if getattr(module, name, None) is original:
                setattr(module, name, getattr(_ferrio, name))
