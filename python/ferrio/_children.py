"""How the processes that a program makes with `multiprocessing` come to run on ferrio, under `python -m ferrio`.

A forked process is a copy, and has what its parent has. Others are new interpreters, which load what `multiprocessing`
has pickled for them before they import the program's main module: what is done then is done in time.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import ferrio

SPAWN = "multiprocessing.spawn"

#: As text, for an interpreter that may be another one and have no ferrio: then the child runs as it would without.
FOLLOW = """
import sys
sys.path.append({directory!r})
try:
    from ferrio import _children, _install
except ImportError:
    pass
else:
    _install.install()
    _install.replace_selector_loops()
    _children.follow()
finally:
    sys.path.remove({directory!r})
"""


class _Follow:
    """An object that makes whoever unpickles it run on ferrio."""

    def __reduce__(self) -> tuple[object, ...]:
        directory = os.path.dirname(os.path.dirname(os.path.abspath(ferrio.__file__)))
        return exec, (FOLLOW.format(directory=directory), {})


class _Finder:
    """Waits for `multiprocessing`, whose import takes about as long as asyncio's: few programs need it."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != SPAWN:
            return None
        sys.meta_path.remove(cls)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _extend(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _extend(spawn: ModuleType) -> None:
    prepare = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, object]:
        return prepare(name) | {"ferrio": _Follow()}

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]


def follow() -> None:
    """Has the processes that `multiprocessing` makes from now on run on ferrio. To be called once."""
    if SPAWN in sys.modules:
        _extend(sys.modules[SPAWN])
    else:
        sys.meta_path.insert(0, _Finder)
