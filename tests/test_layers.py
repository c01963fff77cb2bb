"""The rooms of the two crates: who may import whom, where `unsafe` may stand, and that the engine knows no Python.

The order is the one of ARCHITECTURE.md. A module that is not in it has no place yet: give it one there, then here.
"""

import re
from pathlib import Path

import pytest

CRATES = Path(__file__).parent.parent / "crates"

# A module may use those on its own line and on the lines above.
ENGINE = """
    sys
    engine
    time task stream unblock
    net
    task_group timeout gather yield_now
    io
    exit_status
    run
"""
BINDING = """
    ffi
    asyncio current convert os_error classes
    descriptors contexts
    handles loop_ref
    futures
    tasks coroutine
    locks
    queues
    timeouts wait_for taskgroups threads graph testing
    transports
    sslproto
    streams
    subprocess
    event_loop
    runners
"""
# How a waiting task shows among a future's callbacks is the task's to say.
EXCEPTIONS = {("futures", "tasks::wakeup_pair")}

SOURCES = [
    pytest.param(CRATES / crate / "src", order, id=crate)
    for crate, order in [("ferrio", ENGINE), ("ferrio-python", BINDING)]
]


def code_of(file):
    """The file without its comments, and without the contents of its strings; line numbers stay."""
    text = file.read_text()
    token = r'//[^\n]*|/\*.*?\*/|b?r(?P<h>#*)".*?"(?P=h)|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\\\'])\''
    return re.sub(token, lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)


def module_of(source, file):
    """The path of the module inside its crate: () for lib.rs."""
    parts = file.relative_to(source).with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


def expand(use):
    """The paths of a use declaration: `a::{b, c::d}` is a::b and a::c::d."""
    head, brace, rest = use.partition("{")
    if not brace:
        return [head.strip()]
    depth, items = 0, [""]
    for character in rest[: rest.rindex("}")]:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    return [path for item in items if item.strip() for path in expand(head.strip() + item.strip())]


def uses(source, file):
    """The paths inside the crate that a file names, in `use` declarations and elsewhere, from the crate's root."""
    code = code_of(file)
    module = module_of(source, file)
    declared = re.compile(r"\buse\s+([^;]+);")
    paths = [path for match in declared.finditer(code) for path in expand(match[1])]
    paths += re.findall(r"\b((?:crate|super)(?:::\w+)+)", declared.sub("", code))
    for path in paths:
        first, *rest = re.sub(r"\s+as\s+\w+", "", path).split("::")
        if first == "crate":
            yield rest
        elif first == "super":
            at = list(module[:-1])
            while rest and rest[0] == "super":
                rest.pop(0)
                at.pop()
            yield at + rest


def arrows(source):
    """Who uses what: top-level module, and path from the crate's root."""
    for file in sorted(source.rglob("*.rs")):
        module = module_of(source, file)
        for path in uses(source, file):
            if module and path and path[0].islower() and path[0] != module[0]:
                yield module[0], path


def ranks_of(order):
    return {module: rank for rank, line in enumerate(order.strip().splitlines()) for module in line.split()}


@pytest.mark.parametrize(("source", "order"), SOURCES)
def test_every_module_has_a_place(source, order):
    assert {file.stem for file in source.iterdir()} - {"lib"} == set(ranks_of(order))


@pytest.mark.parametrize(("source", "order"), SOURCES)
def test_every_arrow_points_down(source, order):
    ranks = ranks_of(order)
    found = list(arrows(source))
    assert found
    wrong = {
        (module, "::".join(path))
        for module, path in found
        if ranks[path[0]] > ranks[module] and (module, "::".join(path[:2])) not in EXCEPTIONS
    }
    assert not wrong


def test_only_runners_know_the_event_loop():
    """This cuts the knot between a loop and its transports."""
    assert {module for module, path in arrows(CRATES / "ferrio-python/src") if path[0] == "event_loop"} <= {"runners"}


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        pytest.param(CRATES / "ferrio/src", r"sys/.*|engine/runnable\.rs|engine/task/raw\.rs", id="ferrio"),
        pytest.param(CRATES / "ferrio-python/src", r"ffi/.*", id="ferrio-python"),
    ],
)
def test_unsafe_stays_in_its_room(source, allowed):
    files = {str(file.relative_to(source)) for file in source.rglob("*.rs") if re.search(r"\bunsafe\b", code_of(file))}
    assert files
    assert not {file for file in files if not re.fullmatch(allowed, file)}


def test_the_engine_knows_no_python():
    word = re.compile(r"\bpy(?:thon|o3|object)\b|\bPy[A-Z<]|\basyncio\b|\bGIL\b|\bgil\b", re.IGNORECASE)
    source = CRATES / "ferrio/src"
    # The root's documentation says what the crate has to do with Python.
    files = [file for file in source.rglob("*.rs") if file != source / "lib.rs"]
    found = [f"{file.relative_to(source)}: {match[0]}" for file in files for match in word.finditer(file.read_text())]
    assert not found
    assert not word.search(code_of(source / "lib.rs"))


def test_use_declarations_are_expanded():
    assert expand("crate::{a::B, c::{self, D as E}}") == ["crate::a::B", "crate::c::self", "crate::c::D as E"]
