"""The machine that a run was made on: its description, and its cores."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple


class Cores(NamedTuple):
    """Who runs where: what is measured has a core for itself; the load generator and run.py share the other one."""

    measured: int
    load: int


def _cores() -> Cores:
    """The first and the last core that this process may use; one and the same on a machine that has no more."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[-1])


CORES = _cores()
"""Fixed at import: a worker pins itself to the one core afterwards, and must still know the other."""

REALTIME = bool(os.environ.get("REALTIME"))
"""Whether workers run before everything else on the machine, for which root's rights are needed."""


def describe(packages: list[str]) -> list[str]:
    """The lines that head a report."""
    usable = len(os.sched_getaffinity(0))
    busy = os.getloadavg()[0]
    return [
        f"- machine: {_processor()}, {usable} cores, {platform.system()} {platform.release()}",
        f"- Python: {' '.join(sys.version.split())}{_build()}",
        f"- packages: {', '.join(f'{name} {found}' for name in packages if (found := _version(name)))}",
        f"- date: {time.strftime('%Y-%m-%d')}, load average at the start {busy:.2f}"
        + (" (somebody else is at work here: the numbers waver)" if busy > 0.5 else "")
        + ("; at real-time priority" if REALTIME else ""),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _build() -> str:
    """How the interpreter was built, as far as it moves numbers."""
    free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED")
    debug = hasattr(sys, "gettotalrefcount")
    return (", free-threaded" if free_threaded else "") + (", a debug build" if debug else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
