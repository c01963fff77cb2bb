"""Compare ferrio with asyncio and its peers: a Markdown report on standard output, progress on standard error.

usage: python benches/run.py [--list]

ROWS=    comma separated: a group's name, a pattern (`net/*50 conn*`), or a piece of a row's name; all by default
LOOPS=   comma separated: names or patterns of loops (`uvloop,ferrio*`); all by default
ROUNDS=  how often every loop is measured on a row; 5 by default; the best one counts
REALTIME=1  at real-time priority, so that nobody else takes the cores meanwhile; for root

Run it with the Python of the environment that setup.sh makes. --list only says what the rows do.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from fnmatch import fnmatchcase

from loops import FLOOR, LOOPS, Loop
from machine import describe
from remote import Failed, Remote
from result import Result, cpu, p99
from row import Group, Row
from rows import GROUPS
from table import footnotes, number, table
from verdict import shortcomings


def say(text: str) -> None:
    """Tell whoever waits; standard output is the report."""
    print(text, file=sys.stderr, flush=True)


def patterns(variable: str) -> list[str]:
    return [pattern.strip() for pattern in os.environ.get(variable, "*").split(",")]


def chosen_loops() -> list[Loop]:
    return [loop for loop in LOOPS if any(fnmatchcase(loop.name, pattern) for pattern in patterns("LOOPS"))]


def chosen_rows(group: Group) -> list[Row]:
    names = {group.name for group in GROUPS}

    def fits(row: Row, pattern: str) -> bool:
        if pattern in names:
            return pattern == group.name
        return pattern in row.name or fnmatchcase(row.name, pattern) or fnmatchcase(f"{group.name}/{row.name}", pattern)

    return [row for row in group.rows if any(fits(row, pattern) for pattern in patterns("ROWS"))]


def present(loops: list[Loop]) -> tuple[list[Loop], list[str]]:
    """The loops that can be imported here, and a line of why for each of the others."""
    there, absent = [], []
    for loop in loops:
        with Remote(loop.name) as worker:
            try:
                worker.ready()
            except Failed as failed:
                absent.append(f"- without {loop.name}: {failed}")
            else:
                there.append(loop)
    return there, absent


def run_row(row: Row, loops: list[str], rounds: int) -> Result:
    """Measure one row on all loops in turns: A B C, A B C, ...

    Each loop has a process of its own for the row, which lives through the rounds. So no loop inherits the heap, the
    threads or the patches of another loop or of an earlier row, all are warm, and what disturbs the machine for a while
    disturbs all alike. Those whose turn it is not wait in a read, with their loop closed.
    """
    result = Result(row)
    with ExitStack() as stack:
        workers = {}
        for name in [FLOOR, *loops] if row.floor else loops:
            workers[name] = stack.enter_context(Remote(name, row.name))
            try:
                workers[name].ready()
            except Failed as failed:
                result.fail(name, str(failed))
        for _ in range(1 if row.once else rounds):
            for name, worker in workers.items():
                if name in result.failures:
                    continue
                try:
                    result.add(name, worker.measure())
                except Failed as failed:
                    result.fail(name, str(failed))
    return result


def run_group(group: Group, rows: list[Row], loops: list[Loop], rounds: int) -> list[Result]:
    names = [loop.name for loop in loops if group.aiofastnet or loop.name != "uvloop+aiofastnet"]
    results = []
    for row in rows:
        start = time.monotonic()
        result = run_row(row, names, rounds)
        best = ", ".join(f"{name} {number(sample.value)}" for name, sample in result.samples.items())
        say(f"{group.name}/{row.name} ({time.monotonic() - start:.0f} s): {best}")
        results.append(result)
    return results


def report(group: Group, results: list[Result]) -> None:
    print(f"\n### {group.title}: {group.unit}\n\n{table(group, results)}")
    loaded = [result for result in results if any(sample.p99 for sample in result.samples.values())]
    if loaded:
        print(f"\n### {group.title}: 99th percentile of the latency, ns\n\n{table(group, loaded, p99)}")
        print(f"\n### {group.title}: CPU time of the server, ns per operation\n\n{table(group, loaded, cpu)}")
    if notes := footnotes(results):
        print("", *notes, sep="\n")
    sys.stdout.flush()


def judge(results: list[Result]) -> str:
    """The last line: every row on which ferrio does not reach what it must."""
    if not any(result.ours() for result in results):
        return "ferrio took no part in this run."
    missed = [f"{result.row.name} ({'; '.join(why)})" for result in results if (why := shortcomings(result))]
    if not missed:
        return "Every target is reached."
    return f"Not reached, {len(missed)} of {len(results)} rows: {', '.join(missed)}."


def main() -> None:
    rounds = int(os.environ.get("ROUNDS", "5"))
    plan = [(group, rows) for group in GROUPS if (rows := chosen_rows(group))]
    if "--list" in sys.argv:
        for group, rows in plan:
            print(f"\n**{group.title}** (`ROWS={group.name}`)\n")
            print(*(f"- {row.name}: {row.about}" for row in rows), sep="\n")
        return
    if not plan:
        sys.exit(f"no row is called {os.environ['ROWS']}; --list tells their names")
    loops, absent = present(chosen_loops())
    if not loops:
        sys.exit("no such loop here: " + os.environ.get("LOOPS", "*"))
    packages = dict.fromkeys(package for loop in loops for package in loop.packages)
    print(*describe(list(packages)), f"- rounds: {rounds}, the best one counts", *absent, sep="\n", flush=True)
    everything = []
    for group, rows in plan:
        results = run_group(group, rows, loops, rounds)
        report(group, results)
        everything += results
    print(f"\n{judge(everything)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
