"""Runs one module of tests with ferrio's classes, and writes how each test ended as lines of JSON."""

import argparse
import importlib
import json
import signal
import sys
import unittest
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

from newer import take_tests
from substitute import substitute


class Recorder(unittest.TestResult):
    """Writes each outcome at once: what ran is known even if the process dies."""

    def __init__(self, output: TextIO) -> None:
        super().__init__()
        self.output = output
        self.subtest_failures: dict[str, str] = {}

    def record(self, test: unittest.TestCase, outcome: str, details: str = "") -> None:
        print(json.dumps({"id": test.id(), "outcome": outcome, "details": details}), file=self.output, flush=True)

    def startTest(self, test):
        super().startTest(test)
        self.record(test, "started")

    def addSuccess(self, test):
        if details := self.subtest_failures.pop(test.id(), None):
            self.record(test, "failed", details)
        else:
            self.record(test, "ok")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            details = f"{subtest}\n{self._exc_info_to_string(err, test)}"
            self.subtest_failures[test.id()] = self.subtest_failures.get(test.id(), "") + details

    def stopTest(self, test):
        super().stopTest(test)
        if details := self.subtest_failures.pop(test.id(), None):
            self.record(test, "failed", details)

    def addError(self, test, err):
        self.record(test, "failed", self._exc_info_to_string(err, test))

    addFailure = addError

    def addSkip(self, test, reason):
        self.record(test, "skipped", reason)

    def addExpectedFailure(self, test, err):
        self.record(test, "ok")

    def addUnexpectedSuccess(self, test):
        self.record(test, "failed", "it was expected to fail, and passed")


def each_test(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from each_test(part)
        else:
            yield part


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("output")
    parser.add_argument("-k", action="append", dest="patterns")
    parser.add_argument("--without", action="append", default=[], metavar="PATTERN", help="leave these tests out")
    parser.add_argument("--plain", action="store_true", help="with the standard library's own classes")
    parser.add_argument("--tests", type=Path, metavar="DIRECTORY", help="take the tests of a newer Python from there")
    options = parser.parse_args()
    # A shell starts what it puts in the background with interrupts ignored, and some tests interrupt themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The tests read the command line of the process that they run in.
    sys.argv[1:] = []
    if not options.plain:
        substitute()
    if options.tests:
        take_tests(options.tests)
    loader = unittest.TestLoader()
    if options.patterns:
        loader.testNamePatterns = [p if "*" in p else f"*{p}*" for p in options.patterns]
    suite = loader.loadTestsFromModule(importlib.import_module(options.module))
    with open(options.output, "w") as output:
        recorder = Recorder(output)
        tests = list(each_test(suite))
        left_out = {test for test in tests if any(fnmatchcase(test.id(), pattern) for pattern in options.without)}
        for test in left_out:
            recorder.record(test, "left out")
        unittest.TestSuite(test for test in tests if test not in left_out).run(recorder)
        print(json.dumps({"id": "", "outcome": "ended", "details": ""}), file=output, flush=True)


if __name__ == "__main__":
    main()
