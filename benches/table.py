"""Results as Markdown."""

from __future__ import annotations

from loops import FLOOR, LOOPS
from result import Metric, Result, value
from row import Group, Target

NOTHING = "–"


def table(group: Group, results: list[Result], metric: Metric = value) -> str:
    """One table: a line per row, a column per loop that took part, and the ratios."""
    columns = [loop.name for loop in LOOPS if any(loop.name in r.samples or r.failures.get(loop.name) for r in results)]
    floor = [FLOOR] if group.floor and any(FLOOR in r.samples for r in results) else []
    ratios = ["ferrio × uvloop", "ferrio × best peer", "best peer × uvloop"]
    targets = ["target"] if metric is value else []
    headings = [group.name, *[group.floor or "" for _ in floor], *columns, *ratios, *targets]
    lines = [_line(headings), _line(["---", *["--:" for _ in headings[1:]]])]
    for result in results:
        cells = [_cell(result, loop, metric) for loop in floor + columns]
        target = [_target(result.row.target)] if metric is value else []
        lines.append(_line([result.row.name, *cells, *_ratios(result, metric), *target]))
    return "\n".join(lines)


def footnotes(results: list[Result]) -> list[str]:
    """Why cells are without a number: a line for each loop and reason, with the rows that it concerns."""
    rows: dict[tuple[str, str], list[str]] = {}
    for result in results:
        for loop, why in result.failures.items():
            if why:
                rows.setdefault((loop, why), []).append(result.row.name)
    return [f"- {loop}: {why} ({', '.join(names)})" for (loop, why), names in rows.items()]


def number(amount: float) -> str:
    """Three digits that count, or all of them before the point."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(result: Result, loop: str, metric: Metric) -> str:
    if result.failures.get(loop):
        return "failed"
    amount = result.get(loop, metric)
    return NOTHING if amount is None else number(amount)


def _ratios(result: Result, metric: Metric) -> list[str]:
    """ferrio (its doors in the columns' order) over uvloop and over the best peer, and how good that one is."""
    peer = result.best(metric=metric)
    over = [
        " / ".join(f"{ratio:.2f}" for door in result.ours() if (ratio := result.times(door, other, metric))) or NOTHING
        for other in ("uvloop", peer or "")
    ]
    ratio = result.times(peer, "uvloop", metric) if peer else None
    return [*over, f"{peer} {ratio:.2f}×" if ratio else peer or NOTHING]


def _target(target: Target) -> str:
    parts = [] if target.at_most else [f"{target.uvloop:g}× uvloop"]
    if target.floor:
        parts.append(f"{target.floor:.2f} of the floor")
    if target.at_most:
        parts.append(f"at most {target.at_most:,.0f}")
    return ", ".join(parts)
