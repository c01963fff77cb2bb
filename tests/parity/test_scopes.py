"""Timeouts, groups and `wait_for` inside each other: a cancellation arrives where it belongs, and is never lost."""

import asyncio
import contextlib
import weakref

import pytest
from support.case import describe, neutral
from support.guard import without_collector
from support.loops import since, turn

import ferrio

since_315 = pytest.mark.asyncio_since("3.15", "TaskGroup.cancel")


async def forever():
    await asyncio.get_running_loop().create_future()


def history(error):
    """The error, and what it was raised in the handling of."""
    found = []
    while error is not None:
        found.append((describe(error), type(error.__cause__).__name__, error.__suppress_context__))
        error = error.__context__
    return found


async def outcome(case, what, awaitable):
    """Awaits in the task that runs; what comes of it, and how many requests to cancel are left."""
    try:
        case(what, await awaitable)
    except BaseException as error:
        case(what, history(error), asyncio.current_task().cancelling())
        if isinstance(error, asyncio.CancelledError):
            raise


class TestOneTurn:
    """Result, deadline and cancellation in one turn."""

    # The deadline of `wait_for` cannot be brought about from outside; random programs have it come.
    @pytest.mark.parametrize(
        ("form", "order"),
        [
            *(("timeout", order) for order in ("rdc", "rcd", "drc", "dcr", "crd", "cdr")),
            *(("wait_for", order) for order in ("rc", "cr")),
        ],
    )
    def test_all_orders(self, parity, form, order):
        if form == "wait_for" and not since(3, 12):
            pytest.skip("asyncio builds wait_for on timeout since Python 3.12")

        def body(case):
            package = case.classes
            future = case.loop.create_future()
            scopes = []

            async def limited():
                if form == "wait_for":
                    return await package.wait_for(future, 3600)
                async with package.timeout(3600) as scope:
                    scopes.append(scope)
                    return await future

            async def waits():
                await outcome(case, "waited", limited())

            task = case.loop.create_task(waits())
            turn(case.loop)
            happens = {
                "r": lambda: future.cancelled() or future.set_result("result"),
                "d": lambda: scopes[0]._on_timeout(),
                "c": lambda: task.cancel("outside"),
            }
            for letter in order:
                case.loop.call_soon(happens[letter])
            turn(case.loop, 4)
            case(task.done(), task.done() and task.cancelled(), task.cancelling())
            case([scope.expired() for scope in scopes], [neutral(repr(scope)) for scope in scopes])

        parity(body)

    def test_a_deadline_that_is_over_cancels_the_first_wait(self, parity):
        async def body(case):
            for delay in (0, -1):
                try:
                    async with case.classes.timeout(delay) as scope:
                        case("runs", scope.expired())
                        await asyncio.sleep(0)
                        case("is not reached")
                except TimeoutError as error:
                    case(history(error), scope.expired(), asyncio.current_task().cancelling())

        parity(body)

    def test_a_deadline_that_is_over_spares_who_does_not_wait(self, parity):
        async def body(case):
            async with case.classes.timeout(0) as scope:
                case("runs")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            case(scope.expired(), asyncio.current_task().cancelling(), repr(scope))

        parity(body)

    def test_the_last_of_many_deadlines_counts(self, parity):
        async def body(case):
            async with case.classes.timeout(0) as scope:
                for when in (case.loop.time() - 1, None, case.loop.time() - 2, case.loop.time() + 3600):
                    scope.reschedule(when)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                case(scope.expired())
            case(scope.expired())

        parity(body)

    def test_a_cancellation_from_outside_stays_one(self, parity):
        def body(case):
            async def waits():
                async with case.classes.timeout(0) as scope:
                    asyncio.current_task().cancel("outside")
                    try:
                        await forever()
                    finally:
                        case(scope.expired())

            task = case.loop.create_task(waits())
            turn(case.loop, 4)
            case(task.cancelled(), task.cancelling())

        parity(body)


class TestNested:
    @pytest.mark.parametrize(("inner", "outer"), [(0, 3600), (3600, 0), (0, 0)])
    def test_each_scope_takes_its_own(self, parity, inner, outer):
        async def body(case):
            async def within():
                async with case.classes.timeout(inner):
                    await forever()

            async def around():
                async with case.classes.timeout(outer):
                    await outcome(case, "inner", within())
                    await asyncio.sleep(0)

            await outcome(case, "outer", around())

        parity(body)

    def test_a_deadline_around_groups(self, parity):
        async def body(case):
            async def groups(depth):
                async with case.classes.TaskGroup() as group:
                    if depth:
                        group.create_task(groups(depth - 1))
                    group.create_task(forever())
                    await forever()

            async def around():
                async with case.classes.timeout(0.001):
                    await groups(4)

            await outcome(case, "around", around())
            case(len(asyncio.all_tasks()))

        parity(body)

    @pytest.mark.asyncio_since("3.13", "the count of cancellations")
    def test_the_failure_of_the_innermost_ends_all(self, parity):
        async def body(case):
            async def fails():
                raise ValueError("innermost")

            async def groups(depth):
                async with case.classes.TaskGroup() as group:
                    group.create_task(groups(depth - 1) if depth else fails())
                    group.create_task(forever())

            try:
                await groups(3)
            except ExceptionGroup as error:
                while isinstance(error, ExceptionGroup):
                    case(describe(error), error.__suppress_context__, asyncio.current_task().cancelling())
                    (error,) = error.exceptions
                case(describe(error))
            case(len(asyncio.all_tasks()))

        parity(body)

    @pytest.mark.asyncio_since("3.13", "the count of cancellations")
    def test_a_cancellation_while_the_group_shuts_down(self, parity):
        """A child fails, another takes its time, and somebody cancels the parent meanwhile."""

        def body(case):
            leave = case.loop.create_future()

            async def fails():
                raise ValueError("child")

            async def takes_its_time():
                try:
                    await forever()
                finally:
                    await leave

            async def parent():
                async with case.classes.TaskGroup() as group:
                    group.create_task(takes_its_time())
                    group.create_task(fails())

            async def waits():
                await outcome(case, "parent", parent())
                await asyncio.sleep(0)
                case("is not reached")

            task = case.loop.create_task(waits())
            turn(case.loop, 4)
            case(task.cancel("outside"), task.cancelling())
            turn(case.loop, 2)
            leave.set_result(None)
            turn(case.loop, 6)
            case(task.done(), task.cancelled(), task.cancelling())

        parity(body)

    @since_315
    def test_a_cancellation_while_the_cancelled_group_shuts_down(self, parity):
        """The group takes its own request back; the other one stays and is raised."""

        def body(case):
            leave = case.loop.create_future()
            groups = []

            async def takes_its_time():
                try:
                    await forever()
                finally:
                    await leave

            async def parent():
                async with case.classes.TaskGroup() as group:
                    groups.append(group)
                    group.create_task(takes_its_time())
                    await forever()

            task = case.loop.create_task(outcome(case, "parent", parent()))
            turn(case.loop, 2)
            groups[0].cancel()
            turn(case.loop, 2)
            case(task.cancel("outside"), task.cancelling())
            turn(case.loop, 2)
            leave.set_result(None)
            turn(case.loop, 6)
            case(task.done(), task.cancelled(), task.cancelling())

        parity(body)


class TestGroupCancel:
    pytestmark = since_315

    def test_before_inside_and_after(self, parity):
        async def body(case):
            group = case.classes.TaskGroup()
            case(group.cancel(), repr(group))
            async with group:
                case(repr(group))
                await asyncio.sleep(0)
                case("is not reached")
            case(repr(group), group.cancel(), asyncio.current_task().cancelling())
            async with case.classes.TaskGroup() as group:
                child = group.create_task(forever())
                case(group.cancel(), group.cancel(), repr(group))
                case.raised(group.create_task, refused := forever())
                case(refused.cr_frame is None)
                await forever()
            case(child.cancelled(), asyncio.current_task().cancelling())
            await asyncio.sleep(0)

        parity(body)

    def test_by_a_child(self, parity):
        async def body(case):
            async def child(group):
                group.cancel()
                case("cancels itself too", asyncio.current_task().cancelling())
                await asyncio.sleep(0)
                case("is not reached")

            async with case.classes.TaskGroup() as group:
                other = group.create_task(forever())
                one = group.create_task(child(group))
            case(one.cancelled(), other.cancelled(), asyncio.current_task().cancelling())

        parity(body)

    def test_by_a_child_that_starts_eagerly(self, parity):
        async def body(case):
            async def child(group):
                group.cancel()
                await forever()

            async with case.classes.TaskGroup() as group:
                one = group.create_task(child(group), eager_start=True)
            case(one.cancelled(), asyncio.current_task().cancelling())

        parity(body)


class TestOtherMakes:
    """What is not asyncio's own class, but does as it does."""

    def test_cancel_without_a_message(self, parity):
        """Groups and `wait_for` call `cancel()` as asyncio does, with nothing."""

        async def body(case):
            class Task(case.classes.Task):
                def cancel(self):
                    case("cancel")
                    return super().cancel()

            class Future(case.classes.Future):
                def cancel(self):
                    case("cancel of a future")
                    return super().cancel()

            case.loop.set_task_factory(lambda loop, coro, **keywords: Task(coro, loop=loop, **keywords))
            try:
                async with case.classes.TaskGroup() as group:
                    group.create_task(forever())
                    raise ValueError("body")
            except ExceptionGroup as error:
                case(describe(error))
            await outcome(case, "no time", case.classes.wait_for(Future(loop=case.loop), 0))

        parity(body)

    def test_what_cannot_be_awaited(self, parity):
        async def body(case):
            for timeout in (None, 1, 0):
                await outcome(case, timeout, case.classes.wait_for(3, timeout))

        if since(3, 12):
            parity(body)


class TestHistory:
    @pytest.mark.parametrize("raises", [SystemExit, KeyboardInterrupt])
    def test_what_is_raised_alone_has_the_failure_of_the_body(self, parity, raises):
        def body(case):
            async def leaves():
                raise raises(3)

            async def parent():
                async with case.classes.TaskGroup() as group:
                    group.create_task(leaves())
                    await asyncio.sleep(0)
                    raise ValueError("body")

            task = case.loop.create_task(parent())
            for _ in range(6):
                case.raised(turn, case.loop)
            case(history(task.exception()))

        parity(body)

    def test_the_deadline_is_in_the_history_of_other_errors(self, parity):
        async def body(case):
            async def stumbles():
                try:
                    await forever()
                finally:
                    raise ValueError("on the way out")

            async def alone():
                async with case.classes.timeout(0):
                    await stumbles()

            async def grouped():
                async with case.classes.timeout(0), case.classes.TaskGroup() as group:
                    group.create_task(stumbles())
                    await stumbles()

            await outcome(case, "alone", alone())
            try:
                await grouped()
            except ExceptionGroup as error:
                case([history(one) for one in error.exceptions])

        if since(3, 13):
            parity(body)


def test_a_failure_after_the_group_was_left_is_reported(loop, exceptions):
    """A group whose owner is closed while it waits can raise nothing any more; the child's error is not swallowed."""

    async def stumbles():
        try:
            await forever()
        finally:
            raise ValueError("late")

    async def body():
        async with ferrio.TaskGroup() as group:
            group.create_task(stumbles())

    async def main():
        owner = body()
        owner.send(None)
        (child,) = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.sleep(0)
        owner.close()
        child.cancel()
        await asyncio.wait([child])

    loop.run_until_complete(main())
    ((message, error),) = exceptions.take()
    assert error == ("ValueError", "late")
    assert message.endswith("has errored out but its group has been left")


def test_children_are_cancelled_in_the_order_in_which_they_came(loop, events):
    async def child(number):
        try:
            await forever()
        finally:
            events.append(number)

    async def main():
        async with ferrio.TaskGroup() as group:
            for number in range(50):
                group.create_task(child(number))
            await asyncio.sleep(0)
            group.cancel()

    loop.run_until_complete(main())
    assert events == list(range(50))


@pytest.mark.asyncio_since("3.14", "groups that are in no cycle")
def test_nothing_is_kept_after_a_scope(parity):
    """Neither a timer nor a cycle holds what was in a scope that was left, however it was."""

    class Anything:
        pass

    async def body(case):
        package, references = case.classes, []

        def anything():
            thing = Anything()
            references.append(weakref.ref(thing))
            return thing

        async def stumbles(thing):
            raise ValueError(thing)

        async def sleeps(thing):
            await forever()

        async def in_time():
            thing = anything()
            async with package.timeout(3600):
                thing.task = asyncio.current_task()
                await asyncio.sleep(0)

        async def too_late():
            thing = anything()
            with contextlib.suppress(TimeoutError):
                async with package.timeout(0):
                    await sleeps(thing)

        async def limited():
            for timeout in (0, 0.0001):
                with contextlib.suppress(TimeoutError):
                    await package.wait_for(sleeps(anything()), timeout)

        async def grouped():
            try:
                async with package.TaskGroup() as group:
                    group.create_task(stumbles(anything()))
                    group.create_task(sleeps(anything()))
                    await sleeps(anything())
            except* ValueError:
                pass

        with without_collector():
            for function in (in_time, too_late, limited, grouped):
                await asyncio.create_task(function())
                await asyncio.sleep(0)
                case(function.__name__, [reference() is None for reference in references])

    recorded, _ = parity(body)
    assert all(all(freed) for _, freed in recorded)
