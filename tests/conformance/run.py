"""asyncio's own tests, run on ferrio by the interpreter that runs this file.

Each module of the standard library's tests runs in a process of its own with ferrio's classes in the place of the C
ones (`substitute.py`). The tests that `exceptions.toml` names are expected to fail, and must: an exception that has
become stale is an error like a test that fails.

    python tests/conformance/run.py
    python tests/conformance/run.py --module test_tasks -k test_cancel
    python tests/conformance/run.py --tests-of python3.15
"""

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from newer import find_tests

HERE = Path(__file__).parent
#: Seconds after which a module counts as hung. The slowest takes a tenth of it.
LIMIT = 300


@dataclass
class Report:
    """How the tests of one module ended."""

    module: str
    seconds: float = 0.0
    outcomes: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    excepted: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def judge(self, exceptions: dict[str, str], complete: bool) -> None:
        """Compares what failed with what may fail."""
        unused = {pattern for pattern in exceptions if pattern.startswith(full_name(self.module) + ".")}
        for test, outcome in self.outcomes.items():
            patterns = [pattern for pattern in exceptions if fnmatchcase(test, pattern)]
            unused.difference_update(patterns)
            if outcome == "started":
                self.problems.append(f"{test}\nit did not end")
            elif outcome in ("failed", "left out") and patterns:
                self.excepted[test] = exceptions[patterns[0]]
            elif outcome == "failed":
                self.problems.append(f"{test}\n{self.details[test]}")
            elif patterns:
                self.problems.append(f"{test}\n{patterns[0]} is expected to fail, but it is {outcome}")
        for pattern in sorted(unused) if complete else ():
            self.problems.append(f"{pattern}\nit is expected to fail, but there is no such test")

    @property
    def row(self) -> tuple[str, ...]:
        values = list(self.outcomes.values())
        counts = (len(values), values.count("ok"), values.count("skipped"), len(self.excepted), len(self.problems))
        return (self.module, *map(str, counts), f"{self.seconds:.1f}")


def full_name(module: str) -> str:
    return module if "." in module else f"test.test_asyncio.{module}"


@dataclass
class Source:
    """Whose tests are run: the running Python's, or a newer one's."""

    version: tuple[int, ...]
    directory: Path
    newer: bool

    def load_modules(self) -> dict[str, list[str]]:
        """The modules that it has, each with the patterns of the tests to run; none means all of them."""
        table = tomllib.loads((HERE / "modules.toml").read_text())
        selected = {part["module"]: part["tests"] for part in table["selected"]}
        modules = dict.fromkeys(table["required"], []) | selected
        left_out = tomllib.loads((HERE / "newer.toml").read_text())["left_out"] if self.newer else ()
        return {
            name: patterns for name, patterns in modules.items() if self.has(full_name(name)) and name not in left_out
        }

    def has(self, module: str) -> bool:
        """Whether it has the module; older Pythons have fewer."""
        path = self.directory.joinpath(*module.split(".")[1:])
        return path.is_dir() or path.with_suffix(".py").exists()


def is_python(python: str, version: tuple[int, ...]) -> bool:
    """Whether `python` means `version`: "3.14", or "<3.12.2" for the releases of 3.12 before that one."""
    *series, release = named = tuple(map(int, python.removeprefix("<").split(".")))
    if python.startswith("<"):
        return version[:2] == tuple(series) and version[2] < release
    return version[: len(named)] == named


def load_exceptions(source: Source) -> tuple[dict[str, str], list[str]]:
    """The tests that may fail on this Python, and why; and those among them that would not end."""
    applicable = select("exceptions.toml", source.version)
    if source.newer:
        applicable += select("newer.toml", sys.version_info[:3])
    exceptions = {full_test_name(test): entry["reason"] for entry in applicable for test in entry["tests"]}
    endless = [full_test_name(test) for entry in applicable if entry.get("endless") for test in entry["tests"]]
    return exceptions, endless


def select(file: str, version: tuple[int, ...]) -> list[dict]:
    """The exceptions in `file` that concern `version`."""
    entries = tomllib.loads((HERE / file).read_text())["except"]
    return [entry for entry in entries if any(is_python(python, version) for python in entry.get("pythons", ["3"]))]


def full_test_name(test: str) -> str:
    return test if test.startswith("test.") else f"test.test_asyncio.{test}"


def run_module(
    module: str, patterns: list[str], without: list[str], arguments: list[str], interpreter: list[str]
) -> Report:
    report = Report(module)
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        output = Path(directory, "outcomes")
        output.touch()
        command = [sys.executable, "-X", "faulthandler", *interpreter]
        command += [str(HERE / "child.py"), full_name(module), str(output), *arguments]
        command += [argument for pattern in patterns for argument in ("-k", pattern)]
        command += [argument for test in without for argument in ("--without", test)]
        start = time.monotonic()
        # A variable of whoever calls this must not switch asyncio's debug mode on.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONASYNCIO")}
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=LIMIT,
            )
            printed, status = done.stdout.decode(errors="replace"), done.returncode
        except subprocess.TimeoutExpired as hung:
            printed, status = (hung.stdout or b"").decode(errors="replace"), None
        report.seconds = time.monotonic() - start
        ended = read_outcomes(output, report)
    if not ended:
        how = f"took longer than {LIMIT} seconds" if status is None else f"ended with status {status}"
        report.problems.append(f"{full_name(module)}\nthe process {how}\n{printed[-4000:]}")
    return report


def read_outcomes(output: Path, report: Report) -> bool:
    """Reads what the child wrote; true if it came to its end."""
    for line in output.read_text().splitlines():
        record = json.loads(line)
        if record["outcome"] == "ended":
            return True
        report.outcomes[record["id"]] = record["outcome"]
        report.details[record["id"]] = record["details"]
    return False


def lines_of_table(reports: list[Report]) -> Iterator[str]:
    rows = [("module", "ran", "ok", "skipped", "excepted", "failed", "seconds"), *(report.row for report in reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        name, *numbers = row
        yield "  ".join([name.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", help="run this module only; may be given more than once")
    parser.add_argument("-k", action="append", dest="patterns", default=[], help="run tests that match the pattern")
    parser.add_argument("--plain", action="store_true", help="leave asyncio as it is: what fails then is not ferrio's")
    parser.add_argument("--dev", action="store_true", help="in the interpreter's development mode, -X dev")
    parser.add_argument("--tests-of", metavar="PYTHON", help="run the tests of this interpreter, which is newer")
    parser.add_argument("-q", "--quiet", action="store_true", help="name what failed, without details")
    options = parser.parse_args()
    faulthandler.enable()
    source = Source(*find_tests(options.tests_of or sys.executable), newer=options.tests_of is not None)
    exceptions, endless = ({}, []) if options.plain else load_exceptions(source)
    reports = []
    modules = source.load_modules()
    interpreter = ["-X", "dev"] if options.dev else []
    arguments = ["--plain"] if options.plain else []
    arguments += ["--tests", str(source.directory)] if source.newer else []
    for module in options.module or modules:
        print(f"{module} ...", end="", flush=True)
        patterns = options.patterns or modules.get(module, [])
        report = run_module(module, patterns, endless, arguments, interpreter)
        report.judge(exceptions, complete=not options.patterns)
        print(f" {'FAILED' if report.problems else 'ok'} ({report.seconds:.1f} s)", flush=True)
        reports.append(report)
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        print("FAILED", problem.splitlines()[0] if options.quiet else problem)
    for report in reports:
        for test, reason in report.excepted.items():
            print(f"excepted {test}: {reason}")
    tested, running = (".".join(map(str, version)) for version in (source.version, sys.version_info[:3]))
    print(f"\nasyncio's tests of Python {tested} on {'asyncio' if options.plain else 'ferrio'}, Python {running}")
    print("\n".join(lines_of_table(reports)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
