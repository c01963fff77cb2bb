"""The programs in C: the load generator, and the echo server that is the limit (sources in native/)."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from machine import CORES
from row import Sample

LONGEST = 25.0
"""Seconds; shorter than run.py's patience, so that it is the load generator who says what is wrong."""


class Server(NamedTuple):
    """Where the load goes, and whose CPU time it costs."""

    port: int
    pid: int


@dataclass(frozen=True)
class Load:
    """What the load generator does; the head of native/load.c explains the modes."""

    mode: str
    messages: int = 1
    connections: int = 1
    size: int = 1024
    line: int = 0
    tls: bool = False
    sleeps: bool = False
    """Whether it sleeps while there is nothing to do, as programs do. Else it spins, and is sooner there."""

    def command(self, server: Server) -> list[str]:
        options = {"-n": self.messages, "-c": self.connections, "-s": self.size, "-l": self.line, "-p": CORES.load}
        flags = [f"{flag}{number}" for flag, number in options.items()]
        if self.sleeps or CORES.load == CORES.measured:
            flags.append("-b")  # spinning, it would only keep the server from its work
        return [*_program("load_tls" if self.tls else "load"), self.mode, str(server.port), str(server.pid), *flags]

    def run(self, server: Server) -> Sample:
        """Put load on the server until every message has come back."""
        command = self.command(server)
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"load: not done after {LONGEST:.0f} s") from None
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or f"load: exit status {done.returncode}")
        report = json.loads(done.stdout)
        messages = report["messages"]
        return Sample(report["elapsed_ns"] / messages, report["p99_ns"], report["server_cpu_ns"] / messages)


@contextmanager
def c_server(kind: str) -> Iterator[Server]:
    """The server in C, on the core of the caller. ``kind`` is a word that it knows, or a file for the one with TLS."""
    command = [*_program("echo_server_tls" if kind.endswith(".pem") else "echo_server"), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid)
        process.stdin.close()  # which ends it


def _program(name: str) -> list[str]:
    """setup.sh compiles the programs into the environment whose Python runs this."""
    path = Path(sys.prefix) / "native" / name
    if not path.exists():
        raise RuntimeError(f"{path} is missing: benches/setup.sh says why")
    return [*(_with_our_openssl() if name.endswith("_tls") else ()), str(path)]


@functools.cache
def _with_our_openssl() -> tuple[str, ...]:
    """What runs a program with the OpenSSL of this interpreter, which may be much newer than the system's.

    What is measured is the loop; a client that is slower than the server would hide it.
    """
    import _ssl  # noqa: F401 (which loads it)

    files = {Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    loaders = [str(file) for file in files if file.name.startswith("ld-linux")]
    libraries = [file for file in files if file.name.startswith(("libssl.so", "libcrypto.so", "libc.so"))]
    if not loaders or not any(file.name.startswith("libssl.so") for file in libraries):
        return ()
    return (loaders[0], "--library-path", ":".join(sorted({str(file.parent) for file in libraries})))
