"""A newer Python's tests on the one that runs: ferrio owes it the newest asyncio.

The tests come from the newer Python's `test` package. What they lean on, `test.support` and the standard library, stays
this Python's, with what is not there yet.
"""

import ast
import asyncio
import importlib
import os
import re
import subprocess
import sys
import unittest.case
from pathlib import Path
from types import ModuleType

import test.support

#: A module of asyncio, a name in it, and what the newest Python calls that. Older ones have one function where it has
#: one in C and one in Python.
RENAMED = (
    (asyncio.events, "Handle", "_ThreadSafeHandle"),
    (asyncio.events, "AbstractEventLoopPolicy", "_AbstractEventLoopPolicy"),
    (asyncio.events, "get_event_loop_policy", "_get_event_loop_policy"),
    (asyncio.events, "set_event_loop_policy", "_set_event_loop_policy"),
    (asyncio.futures, "future_add_to_awaited_by", "_c_future_add_to_awaited_by"),
    (asyncio.futures, "future_discard_from_awaited_by", "_c_future_discard_from_awaited_by"),
    (asyncio.tasks, "all_tasks", "_c_all_tasks"),
    (asyncio.tasks, "all_tasks", "_py_all_tasks"),
    (asyncio.tasks, "current_task", "_c_current_task"),
    (asyncio.tasks, "current_task", "_py_current_task"),
    (asyncio.unix_events, "DefaultEventLoopPolicy", "_DefaultEventLoopPolicy"),
    (asyncio.unix_events, "PidfdChildWatcher", "_PidfdChildWatcher"),
    (asyncio.unix_events, "ThreadedChildWatcher", "_ThreadedChildWatcher"),
)

#: What `test.support` has on this Python as well, and takes more on the newer one.
CHANGED = ("check_sanitizer", "ignore_warnings", "skip_if_sanitizer")

#: A function, class or import of a module. They are read one by one, as some are written in what this Python cannot
#: read.
STATEMENT = re.compile(r"^(?:@.*\n)*(?:def|class|import|from)\b.*\n(?:(?:[ )].*)?\n)*", re.MULTILINE)


def find_tests(python: str) -> tuple[tuple[int, ...], Path]:
    """The version of the interpreter `python`, and where its tests are."""
    program = "import sys, test; print(*sys.version_info[:3], test.__path__[0])"
    printed = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout
    *version, directory = printed.split(maxsplit=3)
    return tuple(map(int, version)), Path(directory.rstrip("\n"))


def take_tests(directory: Path) -> None:
    """Has `import test.test_x` find those of `directory`, with what they need."""
    # They are read from the other Python's directory, which is not ours to write into.
    sys.dont_write_bytecode = True
    test.support.__path__.append(str(directory / "support"))
    for source in sorted((directory / "support").glob("[!_]*.py")):
        try:
            fill(importlib.import_module(f"test.support.{source.stem}"), source)
        except (ImportError, SyntaxError):
            continue  # it wants what is not here; a test that needs it says so
    fill(test.support, directory / "support" / "__init__.py")
    fill(unittest.case, directory.parent / "unittest" / "case.py")
    test.support.TEST_HOME_DIR = str(directory)
    test.__path__.insert(0, str(directory))
    name_internals()
    # The end of a string, which has been written so as well since Python 3.14.
    re._parser.CATEGORIES.setdefault(r"\z", re._parser.CATEGORIES[r"\Z"])


def fill(module: ModuleType, source: Path) -> None:
    """Gives `module` what its newer self imports and defines and it lacks, where this Python can make it."""
    for text in STATEMENT.findall(source.read_text()):
        try:
            (node,) = ast.parse(text).body
        except SyntaxError:
            continue
        define(node, source, vars(module), module)
        known = getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        for method in node.body if isinstance(known, type) else ():
            if isinstance(method, ast.FunctionDef):
                define(method, source, vars(module), known)


def define(node: ast.stmt, source: Path, names: dict, holder: ModuleType | type) -> None:
    """Runs the statement with the module's `names`, and gives `holder` what it binds and has not; or does not."""
    bound: dict = {}
    try:
        exec(compile(ast.Module([node], []), str(source), "exec"), names, bound)
    except (AttributeError, ImportError, NameError):
        return
    for name, value in bound.items():
        if not hasattr(holder, name) or name in CHANGED:
            setattr(holder, name, value)


def name_internals() -> None:
    """Gives what is private in asyncio the names of the newest Python, by which tests reach it."""
    for module, here, newest in RENAMED:
        if hasattr(module, here) and not hasattr(module, newest):
            setattr(module, newest, getattr(module, here))
    if not hasattr(asyncio.unix_events, "can_use_pidfd"):
        asyncio.unix_events.can_use_pidfd = lambda: hasattr(os, "pidfd_open")
    # The pure Python futures of this Python record no waiters.
    for name in ("_py_future_add_to_awaited_by", "_py_future_discard_from_awaited_by"):
        if not hasattr(asyncio.futures, name):
            setattr(asyncio.futures, name, lambda future, waiter: None)
