"""A session: one loop, imported into this process, ready to run rows."""

from __future__ import annotations

from collections.abc import Coroutine
from types import ModuleType
from typing import Any, TypeVar

from loops import Loop

T = TypeVar("T")


class Session:
    """What a row gets: the namespace to use as ``asyncio``, and a way to run a coroutine on the loop."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        opened = loop.open()
        self.aio: ModuleType = opened.aio
        self._runner = opened.runner

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run ``main`` on a new loop, and close the loop."""
        with self._runner() as runner:
            return runner.run(main)
