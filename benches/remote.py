"""The parent's side of a worker: ask it for a measurement, and survive it when it crashes or hangs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from row import Sample

PATIENCE = 30.0
"""Seconds after which a worker that does not answer counts as hanging. A row needs about a tenth of a second."""

WORKER = Path(__file__).with_name("worker.py")


class Failed(Exception):
    """The loop cannot run the row; the text says why. Empty where it is not meant to."""


class Remote:
    """A worker's process. Use it as a context manager: it never outlives the block, nor do the processes it started."""

    def __init__(self, loop: str, row: str | None = None) -> None:
        self._answers, theirs = os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        command = [sys.executable, str(WORKER), loop, row or "", str(theirs)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=(theirs,),
            # Hashes decide about the layout of sets and dicts: the same luck for everybody.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            # A group of its own, so that a hanging worker goes together with its load generator.
            start_new_session=True,
        )
        os.close(theirs)

    def ready(self) -> None:
        """Wait until the loop is imported."""
        self._answer()
        self._signal(signal.SIGSTOP)

    def measure(self) -> Sample:
        """Have the row measured once. In between the worker stands still: some loops spin when they are idle."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        sample = Sample(**self._answer())
        self._signal(signal.SIGSTOP)
        return sample

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has crashed, and everything that it started is gone too
            os.killpg(self._process.pid, number)

    def _answer(self) -> dict[str, Any]:
        try:
            return self._await_answer()
        except Failed:
            # It may hang in a loop that spins, on the core of whoever comes next.
            self._signal(signal.SIGKILL)
            raise

    def _await_answer(self) -> dict[str, Any]:
        if not select.select([self._answers], [], [], PATIENCE)[0]:
            raise Failed(f"no end after {PATIENCE:.0f} s")
        line = os.read(self._answers, select.PIPE_BUF)  # an answer is shorter than what a pipe writes at once
        if not line:
            raise Failed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return f"crashed, {how}" + (f": {lines[-1][:120]}" if lines else "")

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._signal(signal.SIGKILL)
        self._process.wait()
        with suppress(BrokenPipeError):  # a line that it did not live to read
            self._process.stdin.close()
        self._errors.close()
        os.close(self._answers)
