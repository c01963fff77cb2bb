"""Tests that need an interpreter of their own: what forks, dies, or ends with the interpreter."""

import os
import subprocess
import sys
import textwrap

_HEAD = """
import asyncio, gc, os, signal, sys, threading
import ferrio
new_event_loop = {"asyncio": asyncio.new_event_loop, "ferrio": ferrio.new_event_loop}[sys.argv[1]]
"""


def run_script(name, body, *, options=(), timeout=15, environment=None):
    """Runs `body` with `new_event_loop` of that name, and returns what it printed, wrote to stderr, and its status."""
    script = _HEAD + textwrap.dedent(body)
    command = [sys.executable, "-X", "faulthandler", *options, "-c", script, name]
    environment = os.environ | (environment or {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    return done.stdout.splitlines(), done.stderr, done.returncode
