"""What came out of a row: the best measurement of each loop, and why the others have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from loops import LOOPS
from row import PEERS, Row, Sample

Metric = Callable[[Sample], float | None]


def value(sample: Sample) -> float | None:
    return sample.value


def p99(sample: Sample) -> float | None:
    return sample.p99


def cpu(sample: Sample) -> float | None:
    return sample.cpu


@dataclass
class Result:
    """A line of a table."""

    row: Row
    samples: dict[str, Sample] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, loop: str, sample: Sample) -> None:
        """Keep the minimum: whatever else the machine does can only make a measurement longer."""
        best = self.samples.get(loop, sample)
        self.samples[loop] = Sample(
            min(sample.value, best.value), _least(sample.p99, best.p99), _least(sample.cpu, best.cpu)
        )

    def fail(self, loop: str, why: str) -> None:
        """A loop that fails once has no number, even where earlier rounds went well."""
        self.samples.pop(loop, None)
        self.failures[loop] = why

    def get(self, loop: str, metric: Metric = value) -> float | None:
        return metric(self.samples[loop]) if loop in self.samples else None

    def times(self, loop: str, other: str, metric: Metric = value) -> float | None:
        """How many times as good as ``other`` the loop is."""
        ours, theirs = self.get(loop, metric), self.get(other, metric)
        return theirs / ours if ours and theirs else None

    def best(self, among: Iterable[str] = PEERS, metric: Metric = value) -> str | None:
        """The loop with the smallest number."""
        measured = [(number, name) for name in among if (number := self.get(name, metric)) is not None]
        return min(measured)[1] if measured else None

    def ours(self) -> list[str]:
        """ferrio's doors that have a number here."""
        return [loop.name for loop in LOOPS if loop.ours and loop.name in self.samples]


def _least(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else min(one, other)
