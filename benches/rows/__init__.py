"""The rows, one file per group; a group that is added here is run."""

from __future__ import annotations

from row import Group, Row

from . import api, memory, net, tasks, tls

GROUPS: tuple[Group, ...] = (tasks.GROUP, api.GROUP, net.GROUP, tls.GROUP, memory.GROUP)


def row_named(name: str) -> Row:
    return next(row for group in GROUPS for row in group.rows if row.name == name)
