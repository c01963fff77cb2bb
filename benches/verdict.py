"""Where ferrio is behind its target or behind a peer."""

from __future__ import annotations

from loops import FLOOR, LOOPS
from result import Result, p99
from row import Target

NOISE = 0.97
"""Two loops that run the same code still differ by some percent; from here on one counts as behind the other."""
LATENCY_NOISE = 0.9
"""The 99th percentile of a tenth of a second wavers more than its mean."""

ALONE = "ferrio"


def shortcomings(result: Result) -> list[str]:
    """What ferrio does not reach on a row, each in a few words; empty if all is well or ferrio is not there."""
    target, found = result.row.target, []
    for door in (loop.name for loop in LOOPS if loop.ours):
        if why := result.failures.get(door):
            found.append(f"{door}: no number ({why})")
        if door in result.samples:
            held = target if target.alone or door != ALONE else Target(rivals=())
            found += [f"{door}: {what}" for what in _compare(result, door, held)]
    return found


def _compare(result: Result, door: str, target: Target) -> list[str]:
    found = []
    ratio = result.times(door, "uvloop")
    least = target.uvloop if target.uvloop > 1 else target.uvloop * NOISE
    if ratio is not None and ratio < least:
        limit = result.times(FLOOR, "uvloop")
        most = f", the floor is {limit:.2f}x" if limit else ""
        found.append(f"{ratio:.2f}x uvloop, to be {target.uvloop:g}x{most}")
    ratio = result.times(door, FLOOR)
    if target.floor and ratio is not None and ratio < target.floor:
        found.append(f"{ratio:.2f} of the floor, to be {target.floor:.2f}")
    number = result.get(door)
    if target.at_most and number is not None and number > target.at_most:
        found.append(f"{number:,.0f}, to be at most {target.at_most:,.0f}")
    peer = result.best(target.rivals)
    if peer and (ratio := result.times(door, peer)) is not None and ratio < NOISE:
        found.append(f"behind {peer}, {ratio:.2f}x")
    peer = result.best(target.rivals, p99)
    if peer and (ratio := result.times(door, peer, p99)) is not None and ratio < LATENCY_NOISE:
        found.append(f"99th percentile behind {peer}, {ratio:.2f}x")
    return found
