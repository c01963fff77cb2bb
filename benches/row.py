"""What a benchmark is: a row (one measurement), its target, and the group (one table) that it stands in.

A row is written once, against a namespace called ``aio``, and runs unchanged on every loop: ``aio`` is the ``asyncio``
package, or ferrio where ferrio takes its place. The amount of work is fixed per row, never per loop, so that all loops
do the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session import Session

PEERS = ("asyncio", "uvloop", "rloop", "rsloop", "zuvloop", "veloxloop", "uvloop+aiofastnet")

Body = Callable[[ModuleType, int], Awaitable[None]]


class NotApplicable(Exception):
    """The row means nothing on this loop (the import time of asyncio over asyncio's); the cell stays empty."""


@dataclass(frozen=True)
class Sample:
    """One measurement. Smaller is better, in every unit."""

    value: float
    p99: float | None = None
    """99th percentile of the latency of one operation in ns, from the rows that have a load generator."""
    cpu: float | None = None
    """CPU time of the server for one operation in ns, from the same rows."""


@dataclass(frozen=True)
class Target:
    """What ferrio must reach on a row: the design's number, or an issue's where that one is higher."""

    uvloop: float = 1.0
    """At least so many times as good as uvloop."""
    floor: float | None = None
    """At least this share of the floor's speed (the floor: no loop at all, or a server in C)."""
    at_most: float | None = None
    """At most this value, whatever the others need."""
    rivals: tuple[str, ...] = PEERS
    """ferrio may not be behind any of these."""
    alone: bool = True
    """Whether ferrio as loop alone is held to all this. Where the standard library's Python code does the work (gather,
    locks, streams), the loop alone has only to be no slower than uvloop."""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    name: str
    """Without a comma: these separate the names in ROWS."""
    about: str
    """What it does, and where that is not plain, what one operation is."""
    measure: Callable[[Session], Sample]
    target: Target
    floor: Callable[[], Sample] | None = None
    once: bool = False
    """Measured a single time, in a new process and without warming up: memory used before would be used again."""


@dataclass
class Group:
    """Rows that share a table, a unit and a kind of floor."""

    name: str
    title: str
    unit: str = "ns per operation"
    floor: str | None = None
    """The heading of the floor's column."""
    aiofastnet: bool = False
    """Whether uvloop+aiofastnet takes part: it replaces uvloop's network methods and nothing else."""
    rows: list[Row] = field(default_factory=list)

    def timed(
        self, name: str, ops: int, target: Target, floor: Callable[[], Sample] | None = None
    ) -> Callable[[Body], Body]:
        """Make a row of ``async def body(aio, ops)``: its time over ``ops``. The docstring is for people."""

        def add(body: Body) -> Body:
            def measure(session: Session) -> Sample:
                return Sample(session.run(_clocked(body(session.aio, ops))) / ops)

            self.rows.append(Row(name, first_line(body), measure, target, floor))
            return body

        return add


def first_line(documented: object) -> str:
    """The first line of a docstring: what ``run.py --list`` says of a row."""
    return (documented.__doc__ or "").strip().partition("\n")[0]


async def _clocked(work: Awaitable[None]) -> int:
    """Time the work from inside the loop: making and closing a loop is not what the rows are about."""
    start = time.perf_counter_ns()
    await work
    return time.perf_counter_ns() - start
