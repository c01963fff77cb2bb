"""The process in which one row is measured on one loop.

usage: worker.py LOOP ROW FD

Writes one line of JSON to the descriptor FD when the loop is imported, then one for each line that it reads from its
standard input: a measurement, or why there is none. With an empty ROW it only imports the loop, which is how run.py
learns who is there.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from dataclasses import asdict

from loops import FLOOR, loop_named
from machine import CORES, REALTIME
from row import NotApplicable, Row, Sample
from rows import row_named
from session import Session

REALTIME_PRIORITY = 40
"""Above whatever has none, below what the kernel itself runs at such priorities."""


class Worker:
    """Measures a row as often as it is asked to."""

    def __init__(self, loop: str, row: str | None) -> None:
        self._session = None if loop == FLOOR else Session(loop_named(loop))
        self._row = row_named(row) if row else None
        self._warm = False

    def measure(self) -> Sample:
        """Measure once. The first time a run is thrown away before: caches, and the interpreter's specialised code."""
        row = self._row
        assert row is not None
        if not self._warm and not row.once:
            self._attempt(row)
            self._warm = True
        return self._attempt(row)

    def _attempt(self, row: Row) -> Sample:
        # The collector stays on, since the garbage that a loop makes is a part of its price; but it starts from the
        # same state for all, and never walks what the imports left behind.
        gc.collect()
        gc.freeze()
        if self._session is None:
            assert row.floor is not None
            return row.floor()
        return row.measure(self._session)


def explain(error: BaseException) -> str:
    """An error on one line, short enough for a footnote."""
    text = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(": ")
    return text if len(text) <= 160 else text[:157] + "..."


def main() -> None:
    """Serve run.py until it closes our standard input."""
    loop, row, fd = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
    os.set_inheritable(fd, False)
    # Before a loop is imported, so that the helper threads which some loops start stay on this core as well: the load
    # generator owns the other one.
    os.sched_setaffinity(0, {CORES.measured})
    if REALTIME:
        # The load generator and all threads inherit it.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(REALTIME_PRIORITY))

    def reply(answer: dict[str, object]) -> None:
        os.write(fd, json.dumps(answer).encode() + b"\n")

    # BaseException, because a panic in Rust arrives as one.
    try:
        worker = Worker(loop, row)
    except BaseException as error:
        reply({"failed": explain(error)})
        return
    reply({"ready": True})
    for _ in sys.stdin:
        try:
            reply(asdict(worker.measure()))
        except NotApplicable:
            reply({"failed": ""})
        except BaseException as error:
            reply({"failed": explain(error)})


if __name__ == "__main__":
    main()
