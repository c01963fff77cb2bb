"""The loops that are compared, each a way to run the same row: a peer's loop, or one of ferrio's doors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

FLOOR = "floor"
"""Stands in the place of a loop's name where a row's floor is measured."""


class Opened(NamedTuple):
    """A loop that has been imported."""

    aio: ModuleType
    """What the rows use as ``asyncio``."""
    runner: Callable[[], asyncio.Runner]


@dataclass(frozen=True)
class Loop:
    """A column of the tables."""

    name: str
    packages: tuple[str, ...]
    """What is imported, in this order; the distributions have the same names."""
    open: Callable[[], Opened]
    """Imports it. Only called in a worker's process, since some packages patch asyncio when they are imported."""
    ours: bool = False


def _open_asyncio() -> Opened:
    return Opened(asyncio, asyncio.Runner)


def _open_factory(package: str) -> Opened:
    factory = import_module(package).new_event_loop
    return Opened(asyncio, partial(asyncio.Runner, loop_factory=factory))


def _open_aiofastnet() -> Opened:
    """uvloop with aiofastnet's transports, and with its start_server, which takes the loop first."""
    aiofastnet, uvloop = import_module("aiofastnet"), import_module("uvloop")

    def start_server(connected: Callable[..., Any], host: str, port: int, **options: Any) -> Any:
        return aiofastnet.start_server(asyncio.get_running_loop(), connected, host, port, **options)

    aio = ModuleType("aio", "asyncio with aiofastnet's streams")
    vars(aio).update(vars(asyncio), start_server=start_server)
    return Opened(aio, partial(asyncio.Runner, loop_factory=aiofastnet.loop_factory(uvloop.new_event_loop)))


def _open_ferrio_module() -> Opened:
    """`import ferrio as asyncio`."""
    ferrio = import_module("ferrio")
    return Opened(ferrio, ferrio.Runner)


def _open_ferrio_installed() -> Opened:
    """`ferrio.install()`, and then asyncio as ever."""
    import_module("ferrio").install()
    return Opened(asyncio, asyncio.Runner)


def _peer(name: str) -> Loop:
    return Loop(name, (name,), partial(_open_factory, name))


LOOPS = (
    Loop("asyncio", (), _open_asyncio),
    _peer("uvloop"),
    _peer("rloop"),
    _peer("rsloop"),
    _peer("zuvloop"),
    _peer("veloxloop"),
    Loop("uvloop+aiofastnet", ("uvloop", "aiofastnet"), _open_aiofastnet),
    Loop("ferrio", ("ferrio",), partial(_open_factory, "ferrio"), ours=True),
    Loop("ferrio-module", ("ferrio",), _open_ferrio_module, ours=True),
    Loop("ferrio-installed", ("ferrio",), _open_ferrio_installed, ours=True),
)


def loop_named(name: str) -> Loop:
    return next(loop for loop in LOOPS if loop.name == name)
