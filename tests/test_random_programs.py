"""Random programs do the same on ferrio as on asyncio, event by event, on a clock that leaps from timer to timer.

`--hypothesis-seed=N` repeats a search; where `CI` is set the programs are the same every time, and FERRIO_PROGRAMS=long
makes many more. What a failure prints can be given to `@example`.
"""

import asyncio
import os
from itertools import zip_longest

import pytest
from hypothesis import HealthCheck, example, find, given, settings
from support import primitives, programs
from support.loops import STEPPED, since

import ferrio

pytestmark = [
    # The collector has been told to leave alone what was imported (see conftest.py), and then finds no referrers.
    pytest.mark.filterwarnings("ignore:.*register_random:hypothesis.errors.HypothesisWarning"),
    # asyncio's groups close what they refuse from Python 3.13 on; before, the coroutine complains when it goes.
    pytest.mark.filterwarnings("ignore:coroutine 'World.run' was never awaited:RuntimeWarning"),
]

settings.register_profile("quick", max_examples=150, derandomize=True)
settings.register_profile("ci", max_examples=300, derandomize=True)
settings.register_profile("long", max_examples=20_000)

options = settings(
    settings.get_profile(os.environ.get("FERRIO_PROGRAMS", "ci" if os.environ.get("CI") else "quick")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def first_difference(ours, theirs):
    for number, (own, other) in enumerate(zip_longest(ours, theirs)):
        if own != other:
            before = "\n".join(map(repr, ours[:number]))
            return f"{before}\nthen ferrio:  {own}\nbut asyncio:  {other}"
    return None


@pytest.mark.patience(900)
@pytest.mark.parametrize(
    "package",
    [
        pytest.param(asyncio, id="the loop alone"),
        pytest.param(
            ferrio,
            id="its own functions",
            marks=pytest.mark.skipif(not since(3, 14), reason="they do as those of a newer asyncio"),
        ),
    ],
)
@options
@given(program=programs.programs())
@example(program=[[("wait_for_future", 3, False)]])
@example(program=[[("sleep", 3)], [("sleep", 1), ("cancel", 0, "message")]])
@example(
    program=[
        [("guard", [("sleep", 5)], [("pause", False)], True), ("note", 1)],
        [("cancel", 0, None), ("cancel", 0, "m")],
    ]
)
@example(program=[[("wait_for_future", 0, False)], [("set_result", 0), ("cancel", 0, None)]])
@example(program=[[("wait_for_future", 0, False)], [("cancel", 0, None), ("set_result", 0)]])
@example(program=[[("gather", [0, 1, 4], True)], [("call_later", 3, [("cancel", 0, None), ("set_exception", 1)])]])
@example(program=[[("timeout", 0, [("wait_for_future", 0, False)])], [("set_result", 0), ("cancel", 0, "m")]])
@example(program=[[("timeout", 2, [("group", [[("sleep", 5)]], [("sleep", 5)])])], [("sleep", 2), ("cancel", 0, "m")]])
@example(program=[[("group", [[("fail",)], [("guard", [("sleep", 5)], [("fail",)], True)]], [("sleep", 5)])]])
@example(program=[[], [("cancel", 2, "m"), ("limit", [("join", [])], 1)], [("wait_for_future", 5, False)]])
@example(program=[[], [("cancel", 3, "message")], [("gather", [5], True)], []])
def test_the_same_happens(package, program):
    ours = primitives.run(STEPPED["ferrio"], program, package)
    difference = first_difference(ours, primitives.run(STEPPED["asyncio"], program))
    assert difference is None, difference


def test_time_leaps():
    """A day passes at once, and the trace says when what happened."""
    traces = [primitives.run(factory, [[("sleep", 5), ("sleep", 3)]]) for factory in STEPPED.values()]
    assert traces[0] == traces[1]
    times = [event[0] for event in traces[0][:-1]]
    assert times == [0, 0, 5, 5, 8, 8, 1_000_000]


def operations(body):
    """The names of all operations of a body, of those within them too."""
    for name, *arguments in body:
        yield name
        for argument in arguments:
            if isinstance(argument, list) and argument and isinstance(argument[0], tuple):
                yield from operations(argument)


@pytest.mark.parametrize("name", [*programs.SYNCHRONOUS, *programs.ASYNCHRONOUS])
def test_each_operation_is_reached(name):
    """A program with that operation can be found, and runs: none has dropped out of the grammar."""
    found = find(
        programs.programs(),
        lambda program: any(name in operations(body) for body in program),
        settings=settings(deadline=None, database=None, derandomize=True),
    )
    assert first_difference(*(primitives.run(factory, found) for factory in STEPPED.values())) is None
