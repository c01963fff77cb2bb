"""Asynchronous generators: the loop knows those that have begun, and closes those that nobody finishes."""

import asyncio
import gc
import sys
import threading

import pytest
from support.case import describe
from support.loops import turn

pytestmark = pytest.mark.every_door


def numbers(case, name="numbers"):
    async def generator():
        try:
            for number in range(100):
                yield number
        finally:
            case("closing", name)
            await asyncio.sleep(0)
            case("closed", name)

    generator.__qualname__ = name
    return generator()


def test_one_that_is_let_go(parity):
    """Its last reference goes; the loop closes it, in a task of its own."""

    async def body(case):
        async for number in numbers(case):
            if number == 3:
                break
        gc.collect()
        case("left")
        for _ in range(4):
            await asyncio.sleep(0)
        case("end")

    assert parity(body)[0] == ["left", ("closing", "numbers"), ("closed", "numbers"), "end"]


def test_shutdown_closes_those_that_are_open(parity):
    async def body(case):
        open_one, finished = (numbers(case, name) for name in ("open", "finished"))
        case(await anext(open_one))
        case(len([number async for number in finished]))
        await asyncio.get_running_loop().shutdown_asyncgens()
        case("shut down")
        try:
            await anext(open_one)
        except StopAsyncIteration:
            case("exhausted")

    events, _ = parity(body)
    assert events[-4:] == [("closing", "open"), ("closed", "open"), "shut down", "exhausted"]


def test_one_that_begins_after_the_shutdown(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        await loop.shutdown_asyncgens()
        late = numbers(case, "late")
        with pytest.warns(ResourceWarning) as warned:
            await anext(late)
        text = str(warned[0].message)
        case(len(warned), text.startswith("asynchronous generator <async_generator object"))
        case(text.split("> ")[-1])
        await late.aclose()

    events, _ = parity(body)
    assert events[:2] == [(1, True), "was scheduled after loop.shutdown_asyncgens() call"]


def test_an_error_while_one_is_closed(parity):
    async def body(case):
        async def generator():
            try:
                yield
            finally:
                raise ZeroDivisionError("while closing")

        async def other():
            try:
                yield
            finally:
                raise asyncio.CancelledError("while closing")

        generators = [generator(), numbers(case), other()]
        for each in generators:
            await anext(each)
        await asyncio.get_running_loop().shutdown_asyncgens()
        case("shut down")

    events, errors = parity(body)
    assert events[-1] == "shut down"
    assert [error for _, error in errors] == [("ZeroDivisionError", "while closing")]
    assert errors[0][0].startswith("an error occurred during closing of asynchronous generator")


def test_one_that_ignores_being_closed(parity):
    async def body(case):
        async def generator():
            try:
                yield
            except GeneratorExit:
                case("ignored")
                yield

        stubborn = generator()
        await anext(stubborn)
        await asyncio.get_running_loop().shutdown_asyncgens()

    events, errors = parity(body)
    assert events == ["ignored"]
    assert [error for _, error in errors] == [("RuntimeError", "async generator ignored GeneratorExit")]


def test_one_that_is_let_go_in_another_thread(loop):
    """The finalizer is called where the last reference goes, and hands the generator to the loop's own thread."""

    class Case(list):
        def __call__(self, *event):
            self.append((*event, threading.current_thread() is threading.main_thread()))

    case = Case()
    holder = [numbers(case)]

    async def begin():
        await anext(holder[0])

    async def wait():
        while len(case) < 2:
            await asyncio.sleep(0)

    loop.run_until_complete(begin())
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    loop.run_until_complete(wait())
    assert case == [("closing", "numbers", True), ("closed", "numbers", True)]


def test_one_that_outlives_its_loop(loop_factory):
    """There is nobody to close it: it goes without a word, as far as the loop is concerned."""
    events = []

    async def generator():
        try:
            yield
        finally:
            events.append("finally")

    loop = loop_factory()
    left = [generator()]

    async def begin():
        await anext(left[0])

    loop.run_until_complete(begin())
    loop.close()
    left.clear()
    gc.collect()
    assert events == []


def test_hooks_of_the_thread(parity):
    """They are the loop's while it runs, and what they were before when it does not."""

    def body(case):
        def first(generator):
            case("first")

        def last(generator):
            case("last")

        sys.set_asyncgen_hooks(first, last)

        def look():
            case(any(hook in (first, last) for hook in sys.get_asyncgen_hooks()))

        try:
            case.loop.call_soon(look)
            turn(case.loop)
            case(sys.get_asyncgen_hooks() == (first, last))
        finally:
            sys.set_asyncgen_hooks(None, None)

    assert parity(body)[0] == [False, True]


def test_hooks_come_back_after_an_error(parity):
    def body(case):
        def leave():
            raise KeyboardInterrupt

        before = sys.get_asyncgen_hooks()
        case.loop.call_soon(leave)
        case.raised(case.loop.run_forever)
        case(sys.get_asyncgen_hooks() == before)

    assert parity(body)[0] == [("KeyboardInterrupt", ""), True]


def test_shutdown_twice_and_of_nothing(parity):
    async def body(case):
        loop = asyncio.get_running_loop()
        case(await loop.shutdown_asyncgens(), await loop.shutdown_asyncgens())

    assert parity(body)[0] == [(None, None)]


def test_a_runner_closes_what_its_program_left(loop_factory, events):
    async def generator():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    async def main():
        main.left = generator()
        return await anext(main.left)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == 1
        assert events == []
    assert events == ["closed"]
    del main.left


def test_cancelled_in_the_middle(parity):
    """A task that is cancelled in a generator unwinds through it."""

    async def body(case):
        async def consume():
            try:
                async for _ in numbers(case):
                    await asyncio.sleep(1000)
            finally:
                case("consumer ends")

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            case(describe(error))
        for _ in range(4):
            await asyncio.sleep(0)

    events, _ = parity(body)
    assert events[0] == "consumer ends"
    assert set(events[1:]) == {("CancelledError", ""), ("closing", "numbers"), ("closed", "numbers")}
