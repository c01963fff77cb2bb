"""`timeout`, `timeout_at` and the scope they open. How scopes meet in one turn is in parity/test_scopes.py."""

import asyncio
import inspect
import weakref

import pytest
from support.case import describe, neutral
from support.loops import STEPPED

import ferrio


async def forever():
    await asyncio.get_running_loop().create_future()


async def within(scope, at_the_beginning=lambda: None, at_the_end=lambda: None):
    """Waits in the scope for what never comes."""
    async with scope:
        at_the_beginning()
        try:
            await forever()
        finally:
            at_the_end()


def test_the_states_of_a_scope(parity):
    async def body(case):
        scope = case.classes.timeout_at(1e9)
        case(repr(scope), scope.when(), scope.expired())
        async with scope as entered:
            case(entered is scope, repr(scope))
            scope.reschedule(None)
            case(repr(scope), scope.when())
        case(repr(scope), scope.expired())
        scope = case.classes.timeout(0)
        with pytest.raises(TimeoutError):
            await within(scope, at_the_end=lambda: case(repr(scope), scope.expired()))
        case(repr(scope), scope.expired())

    parity(body)


def test_what_is_refused(parity):
    async def body(case):
        async def enter(scope):
            try:
                async with scope:
                    pass
            except RuntimeError as error:
                case(describe(error))

        scope = case.classes.timeout(60)
        case.raised(scope.reschedule, 1)
        await enter(scope)
        await enter(scope)
        case.raised(scope.reschedule, None)
        scope = case.classes.timeout(0)
        with pytest.raises(TimeoutError):
            await within(scope, at_the_end=lambda: case.raised(scope.reschedule, None))
        case.raised(scope.reschedule, None)

    parity(body)


def test_a_subclass(parity):
    """What it overrides is called where asyncio's own calls it."""

    async def body(case):
        class Scope(case.classes.Timeout):
            def __init__(self, when, name):
                super().__init__(when)
                self.name = name

            def reschedule(self, when):
                case("reschedule", when)
                super().reschedule(when)

        scope = Scope(None, name="mine")
        async with scope as entered:
            case(entered is scope, scope.name, isinstance(scope, case.classes.Timeout), repr(scope))
            scope.reschedule(1e9)
        try:
            await within(Scope(0, "over"))
        except TimeoutError as error:
            case(describe(error))
        case.raised(Scope, 1)

    recorded, _ = parity(body)
    assert recorded[0] == ("reschedule", None)
    assert recorded[3] == ("reschedule", 0)


@pytest.mark.parametrize("when", [None, 5, 5.5, True, 10**12], ids=repr)
def test_the_deadline_is_what_was_given(parity, when):
    async def body(case):
        scope = case.classes.timeout_at(when)
        case(repr(scope.when()))
        scope = case.classes.timeout_at(None)
        async with scope:
            scope.reschedule(10**12)
            case(repr(scope.when()), repr(scope))
        made = case.classes.Timeout(when)
        case(repr(made.when()))
        made.__init__(7)
        case(repr(made.when()))
        for arguments in [(), (1, 2)]:
            with pytest.raises(TypeError):
                case.classes.Timeout(*arguments)

    parity(body)


def test_outside_of_a_task(parity):
    def body(case):
        case.raised(case.classes.timeout, 1)
        coroutine = case.classes.timeout_at(1).__aenter__()
        case.loop.call_soon(lambda: case.raised(coroutine.send, None))
        case.loop.call_soon(case.loop.stop)
        case.loop.run_forever()

    parity(body)


@pytest.mark.parametrize("name", STEPPED)
def test_the_deadline_comes_when_it_was_set(name):
    package = {"asyncio": asyncio, "ferrio": ferrio}[name]
    loop = STEPPED[name]()

    async def main():
        scope = package.timeout(5)
        assert scope.when() == 5
        with pytest.raises(TimeoutError):
            await within(scope)
        assert loop.time() == 5
        scope = package.timeout(None)
        with pytest.raises(TimeoutError):
            await within(scope, lambda: (scope.reschedule(60), scope.reschedule(7)))
        assert loop.time() == 7
        async with package.timeout_at(9):
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        assert loop.time() == 18

    loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("delay", [float("inf"), 1e300])
def test_a_deadline_beyond_the_clock_never_comes(loop, delay):
    async def main():
        async with ferrio.timeout(delay) as scope:
            await asyncio.sleep(0)
        return scope.expired()

    assert loop.run_until_complete(main()) is False


def test_the_chain_of_the_error(parity):
    async def body(case):
        try:
            async with case.classes.timeout(0):
                await forever()
        except TimeoutError as error:
            case(type(error.__cause__).__name__, error.__cause__ is error.__context__, error.args)

    parity(body)


def test_an_error_of_the_body_passes(parity):
    async def body(case):
        error = ValueError("body")
        with pytest.raises(ValueError, match="body") as caught:
            async with case.classes.timeout(60) as scope:
                raise error
        case(caught.value is error, error.__context__, error.__cause__, scope.expired())

    parity(body)


def test_a_subclass_of_the_task_is_asked_by_its_own_methods(parity):
    async def body(case):
        class Task(case.classes.Task):
            def cancel(self, *args, **keywords):
                case("cancel", args, keywords)
                return super().cancel(*args, **keywords)

            def cancelling(self):
                case("cancelling")
                return super().cancelling()

            def uncancel(self):
                case("uncancel")
                return super().uncancel()

        async def limited():
            async with case.classes.timeout(0):
                await forever()

        with pytest.raises(TimeoutError):
            await Task(limited(), loop=case.loop)

    parity(body)


def test_on_the_loop_and_in_the_task_of_asyncio():
    async def main():
        async with ferrio.timeout(60):
            await asyncio.sleep(0)
        for delay in (0, 0.001):
            scope = ferrio.timeout(delay)
            with pytest.raises(TimeoutError):
                await within(scope)
            assert scope.expired()
        assert asyncio.current_task().cancelling() == 0
        return [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]

    assert asyncio.run(main()) == []


def test_what_asyncio_says_of_it(loop):
    async def main():
        scope = ferrio.timeout(None)
        assert isinstance(scope, asyncio.Timeout)
        assert isinstance(scope, ferrio.Timeout)
        assert weakref.ref(scope)() is scope
        scope.note = "a word"
        assert vars(scope) == {"note": "a word"}

    loop.run_until_complete(main())
    assert all(map(inspect.iscoroutinefunction, (ferrio.Timeout.__aenter__, ferrio.Timeout.__aexit__)))
    assert [*inspect.signature(ferrio.timeout).parameters] == ["delay"]
    assert [*inspect.signature(ferrio.timeout_at).parameters] == ["when"]


def test_the_method_of_something_else(parity):
    async def body(case):
        for method in (ferrio.Timeout.__aenter__, ferrio.Timeout.__aexit__):
            with pytest.raises(TypeError):
                await method(*[object()] * (1 if method is ferrio.Timeout.__aenter__ else 4))
        case(neutral(repr(case.classes.timeout(None))))

    parity(body)
