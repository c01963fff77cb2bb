"""asyncio's own tests, run on ferrio by the interpreter that runs this file.

Each module of the standard library's tests runs in a process of its own with ferrio's classes in the place of the C
ones (`substitute.py`). The tests that `exceptions.toml` names are expected to fail, and must: an exception that has
become stale is an error like a test that fails.

    python tests/conformance/run.py
    python tests/conformance/run.py --module test_tasks -k test_cancel
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
from pathlib import Path

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
        for test, outcome in self.outcomes.items():
            if outcome == "started":
                self.problems.append(f"{test}\nit did not end")
            elif outcome in ("failed", "left out") and test in exceptions:
                self.excepted[test] = exceptions[test]
            elif outcome == "failed":
                self.problems.append(f"{test}\n{self.details[test]}")
            elif test in exceptions:
                self.problems.append(f"{test}\nexceptions.toml expects it to fail, but it is {outcome}")
        for test in exceptions if complete else ():
            if test.startswith(full_name(self.module) + ".") and test not in self.outcomes:
                self.problems.append(f"{test}\nexceptions.toml names it, but there is no such test")

    @property
    def row(self) -> tuple[str, ...]:
        values = list(self.outcomes.values())
        counts = (len(values), values.count("ok"), values.count("skipped"), len(self.excepted), len(self.problems))
        return (self.module, *map(str, counts), f"{self.seconds:.1f}")


def full_name(module: str) -> str:
    return module if "." in module else f"test.test_asyncio.{module}"


def load_modules() -> dict[str, list[str]]:
    """The modules that this Python has, each with the patterns of the tests to run; none means all of them."""
    table = tomllib.loads((HERE / "modules.toml").read_text())
    modules = {name: [] for name in table["required"]} | {part["module"]: part["tests"] for part in table["selected"]}
    return {name: patterns for name, patterns in modules.items() if exists(full_name(name))}


def exists(module: str) -> bool:
    """Whether this Python has the module; older ones have fewer."""
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def is_this_python(python: str) -> bool:
    """Whether `python` means the running one: "3.14", or "<3.12.2" for the releases of 3.12 before that one."""
    *series, release = version = tuple(map(int, python.removeprefix("<").split(".")))
    if python.startswith("<"):
        return sys.version_info[:2] == tuple(series) and sys.version_info[2] < release
    return sys.version_info[: len(version)] == version


def load_exceptions() -> tuple[dict[str, str], list[str]]:
    """The tests that may fail on this Python, and why; and those among them that would not end."""
    entries = tomllib.loads((HERE / "exceptions.toml").read_text()).get("except", [])
    applicable = [entry for entry in entries if any(map(is_this_python, entry.get("pythons", ["3"])))]
    exceptions = {full_test_name(test): entry["reason"] for entry in applicable for test in entry["tests"]}
    endless = [full_test_name(test) for entry in applicable if entry.get("endless") for test in entry["tests"]]
    return exceptions, endless


def full_test_name(test: str) -> str:
    return test if test.startswith("test.") else f"test.test_asyncio.{test}"


def run_module(module: str, patterns: list[str], without: list[str], plain: bool, interpreter: list[str]) -> Report:
    report = Report(module)
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        output = Path(directory, "outcomes")
        output.touch()
        command = [sys.executable, "-X", "faulthandler", *interpreter]
        command += [str(HERE / "child.py"), full_name(module), str(output)]
        command += [argument for pattern in patterns for argument in ("-k", pattern)]
        command += [argument for test in without for argument in ("--without", test)]
        command += ["--plain"] if plain else []
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
    parser.add_argument("-q", "--quiet", action="store_true", help="name what failed, without details")
    options = parser.parse_args()
    faulthandler.enable()
    exceptions, endless = ({}, []) if options.plain else load_exceptions()
    reports = []
    modules = load_modules()
    interpreter = ["-X", "dev"] if options.dev else []
    for module in options.module or modules:
        print(f"{module} ...", end="", flush=True)
        patterns = options.patterns or modules.get(module, [])
        report = run_module(module, patterns, endless, options.plain, interpreter)
        report.judge(exceptions, complete=not options.patterns)
        print(f" {'FAILED' if report.problems else 'ok'} ({report.seconds:.1f} s)", flush=True)
        reports.append(report)
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        print("FAILED", problem.splitlines()[0] if options.quiet else problem)
    for report in reports:
        for test, reason in report.excepted.items():
            print(f"excepted {test}: {reason}")
    print(f"\nasyncio's tests of Python {sys.version.split()[0]} on {'asyncio' if options.plain else 'ferrio'}")
    print("\n".join(lines_of_table(reports)))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
