"""What a future does, the same on asyncio's and on ferrio's."""

import asyncio
import contextlib
import contextvars
import gc
import weakref

import pytest
from support.case import describe, neutral

import ferrio

variable = contextvars.ContextVar("variable", default="unset")


class TestMaking:
    def test_arguments(self, parity):
        def body(case):
            future = case.classes.Future(loop=case.loop)
            case(future.get_loop() is case.loop, future._loop is case.loop)
            for wrong in [lambda: case.classes.Future(case.loop), lambda: case.classes.Future(lop=case.loop)]:
                with pytest.raises(TypeError):
                    wrong()
            with pytest.raises(AttributeError):
                case.classes.Future(loop=object())

        parity(body)

    def test_without_a_loop(self, parity):
        async def body(case):
            case(case.classes.Future().get_loop() is case.loop)

        parity(body)

    def test_of_no_loop_at_all(self, parity):
        asyncio.set_event_loop(None)
        parity(lambda case: case.raised(case.classes.Future) if asyncio_raises() else None)

    def test_a_subclass_that_does_not_initialize(self, parity):
        def body(case):
            class Lazy(case.classes.Future):
                def __init__(self):
                    pass

            future = Lazy()
            for name in ["result", "exception", "cancel", "get_loop", "__iter__"]:
                case.raised(getattr(future, name))
            case.raised(future.set_result, 1)
            case.raised(future.set_exception, ValueError())
            for method in [future.add_done_callback, future.remove_done_callback]:
                with pytest.raises(RuntimeError, match="initialized"):
                    method(print)
            for name in ["_state", "_callbacks", "_result", "_exception"]:
                case.raised(getattr, future, name)
            case(future.done(), future._loop, future.cancelled(), future._asyncio_future_blocking)

        parity(body)

    @pytest.mark.asyncio_since("3.15", "a refusal to initialize a future twice")
    def test_twice(self, loop):
        future = loop.create_future()
        with pytest.raises(RuntimeError, match="already initialized"):
            future.__init__(loop=loop)
        assert future.get_loop() is loop

    def test_generic(self, parity):
        def body(case):
            alias = case.classes.Future[int]
            case(alias.__origin__ is case.classes.Future, alias.__args__)
            case(alias(loop=case.loop).done())

        parity(body)

    def test_is_a_future_to_asyncio(self, loop):
        future = loop.create_future()
        assert isinstance(future, asyncio.Future)
        assert not isinstance(future, asyncio.Task)
        assert asyncio.isfuture(future)
        assert asyncio.ensure_future(future) is future
        assert asyncio.wrap_future(future) is future

    def test_a_subclass_is_its_own_class(self, parity):
        def body(case):
            class Own(case.classes.Future):
                pass

            case(Own(loop=case.loop).__class__ is Own, isinstance(Own(loop=case.loop), case.classes.Future))

        parity(body)


def asyncio_raises():
    """Whether there is no current loop, as in every Python from 3.14 on."""
    try:
        asyncio.get_event_loop_policy()
    except Exception:
        return False
    import sys

    return sys.version_info >= (3, 14)


class TestOutcomes:
    def test_states(self, parity):
        def body(case):
            def look(future):
                case(future._state, future.done(), future.cancelled(), future._result, describe(future._exception))
                case.raised(future.result)
                case.raised(future.exception)
                case(future._log_traceback)

            for settle in [
                lambda future: None,
                lambda future: future.set_result(7),
                lambda future: future.set_exception(ValueError("text")),
                lambda future: future.set_exception(ValueError),
                lambda future: future.cancel(),
                lambda future: future.cancel("why"),
                lambda future: future.cancel(msg=None),
            ]:
                future = case.loop.create_future()
                case(settle(future))
                look(future)
                case.raised(future.set_result, 1)
                case.raised(future.set_exception, KeyError())
                case(future.cancel())
                look(future)

        parity(body)

    def test_wrong_exceptions(self, parity):
        def body(case):
            class Failing(Exception):
                def __init__(self):
                    raise ZeroDivisionError("no instance")

            class Odd(Exception):
                def __new__(cls):
                    return "no exception"

            future = case.loop.create_future()
            for wrong in [1, None, int, object(), Failing, Odd]:
                case.raised(future.set_exception, wrong)
                case(future.done())

        parity(body)

    def test_set_result_takes_one_argument(self, parity):
        def body(case):
            future = case.loop.create_future()
            for wrong in [future.set_result, lambda: future.set_result(1, 2), lambda: future.set_result(x=1)]:
                with pytest.raises(TypeError):
                    wrong()
            case(future.done())

        parity(body)

    @pytest.mark.asyncio_since("3.13", "a RuntimeError in the place of a StopIteration")
    def test_stop_iteration(self, loop):
        for stop in [StopIteration, StopIteration("value")]:
            future = loop.create_future()
            future.set_exception(stop)
            error = future.exception()
            assert type(error) is RuntimeError
            assert isinstance(error.__cause__, StopIteration)

    def test_base_exceptions_are_kept(self, parity):
        def body(case):
            for error in [KeyboardInterrupt("k"), SystemExit(2), GeneratorExit(), asyncio.CancelledError("c")]:
                future = case.loop.create_future()
                future.set_exception(error)
                case.raised(future.result)
                case(future.exception() is error, future.cancelled())

        parity(body)

    def test_a_class_that_settles_the_future_as_it_is_made(self, parity):
        def body(case):
            future = case.loop.create_future()

            class Settles(Exception):
                def __init__(self):
                    future.set_result("first")

            with contextlib.suppress(asyncio.InvalidStateError):
                future.set_exception(Settles)
            case(future.done())

        parity(body)

    def test_traceback_does_not_grow(self, loop):
        future = loop.create_future()
        try:
            raise ValueError
        except ValueError as error:
            future.set_exception(error)

        def depth():
            try:
                future.result()
            except ValueError as error:
                count, entry = 0, error.__traceback__
                while entry is not None:
                    count, entry = count + 1, entry.tb_next
                return count

        first = depth()
        assert max(depth() for _ in range(5)) <= first

    def test_cancel_messages(self, parity):
        def body(case):
            for message in ["text", "", 0, ("a", 1), None, ValueError("v")]:
                future = case.loop.create_future()
                future.cancel(message)
                case(neutral(repr(future._cancel_message)))
                with pytest.raises(asyncio.CancelledError) as caught:
                    future.result()
                case(neutral(repr(caught.value.args)))
                case(neutral(repr(future._make_cancelled_error())))
            future._cancel_message = "later"
            case(future._cancel_message, repr(future._make_cancelled_error()))

        parity(body)

    def test_log_traceback_goes_off_only(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.set_exception(ValueError())
            case(future._log_traceback)
            case.raised(setattr, future, "_log_traceback", True)
            future._log_traceback = False
            case(future._log_traceback)

        parity(body)
        assert parity(body)[1] == []


class TestRepr:
    def test_states(self, parity):
        def body(case):
            pending, cancelled, done, failed = (case.loop.create_future() for _ in range(4))
            cancelled.cancel("m")
            done.set_result(["r"] * 50)
            failed.set_exception(ValueError("e"))
            failed.exception()
            case(*map(repr, (pending, cancelled, done, failed)))

        parity(body)

    def test_callbacks(self, parity):
        def body(case):
            def callback(future):
                pass

            future = case.loop.create_future()
            for _ in range(4):
                future.add_done_callback(callback)
                case(neutral(repr(future)))

        parity(body)

    def test_of_itself(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.set_result([future])
            case(repr(future))

        parity(body)

    def test_source_in_debug_mode(self, parity):
        def body(case):
            case.loop.set_debug(True)
            future = case.loop.create_future()
            case(repr(future).count("created at"), future._source_traceback[-1].name != "")
            future = case.classes.Future(loop=case.loop)
            case(future._source_traceback[-1].name, future._source_traceback[-1].line)

        parity(body)

    def test_a_failing_repr_of_a_result(self, parity):
        def body(case):
            class Bad:
                def __repr__(self):
                    raise ZeroDivisionError("no repr")

            future = case.loop.create_future()
            future.set_result(Bad())
            try:
                case(neutral(repr(future)))
            except ZeroDivisionError:
                case("raised")

        parity(body)


class TestAwaiting:
    def test_by_hand(self, parity):
        def body(case):
            future = case.loop.create_future()
            iterator = iter(future)
            case(next(iterator) is future, future._asyncio_future_blocking)
            case.raised(next, iterator)
            future.set_result((1, 2))
            with pytest.raises(StopIteration) as stopped:
                next(iterator)
            case(stopped.value.value)

        parity(body)

    @pytest.mark.asyncio_since("3.14", "an iterator that gives the result more than once")
    def test_the_end_of_an_iterator_comes_again(self, loop):
        future = loop.create_future()
        iterator = iter(future)
        future.set_result((1, 2))
        for _ in range(3):
            with pytest.raises(StopIteration) as stopped:
                next(iterator)
            assert stopped.value.value == (1, 2)

    def test_iterator_methods(self, parity):
        def body(case):
            future = case.loop.create_future()
            iterator = future.__await__()
            case(iterator.send(None) is future, iter(iterator) is iterator)
            case.raised(iterator.throw, ValueError("thrown"))
            other = iter(case.loop.create_future())
            with pytest.raises(TypeError):
                other.throw(1)
            case(other.close())

        parity(body)

    def test_blocking_is_a_bool(self, parity):
        def body(case):
            future = case.loop.create_future()
            future._asyncio_future_blocking = True
            case(future._asyncio_future_blocking)
            with pytest.raises((TypeError, AttributeError)):
                del future._asyncio_future_blocking
            case(future._asyncio_future_blocking)

        parity(body)

    @pytest.mark.parametrize("value", [None, 1, (), (1, 2), ValueError("v"), StopIteration(3)], ids=repr)
    def test_values_come_through_await(self, parity, value):
        async def body(case):
            future = case.loop.create_future()
            case.loop.call_soon(future.set_result, value)
            case(await future is value, await future is value)

        parity(body)

    def test_await_in_a_plain_coroutine(self, parity):
        def body(case):
            async def waits():
                return await future

            future = case.loop.create_future()
            coroutine = waits()
            case(coroutine.send(None) is future)
            case.raised(coroutine.send, None)

        parity(body)

    @pytest.mark.parametrize("value", [None, "result"])
    @pytest.mark.parametrize("make", ["Future", "Task", "gather", "shield"])
    def test_who_drives_a_coroutine_sends_it_something(self, parity, make, value):
        """As trio-asyncio does, with what another coroutine has yielded: the future wants none of it."""

        def body(case):
            async def waits():
                return await future

            async def returns():
                return value

            future = inner = case.loop.create_future()
            if make == "Task":
                future = case.loop.create_task(returns())
            elif make != "Future":
                future = getattr(case.classes, make)(inner)
            coroutine = waits()
            case(coroutine.send(None) is future)
            case.raised(coroutine.send, "too early")
            coroutine = waits()
            future._asyncio_future_blocking = False
            case(coroutine.send(None) is future)
            if not inner.done():
                inner.set_result(value)
            case.loop.run_until_complete(future)
            try:
                coroutine.send("in time")
            except StopIteration as end:
                case(end.value)

        parity(body)

    def test_threads_settle_no_future_of_another_loop(self, parity):
        async def body(case):
            other = type(case.loop)()
            future = other.create_future()
            try:
                await future
            except RuntimeError as error:
                case(neutral(str(error)).split(" got ")[1].split(" attached ")[1])
            other.close()

        parity(body)


class TestEnd:
    def test_an_exception_that_nobody_fetches(self, parity):
        def body(case):
            class Own(case.classes.Future):
                pass

            for future in [case.loop.create_future(), Own(loop=case.loop)]:
                future.set_exception(ValueError("lost"))
            del future
            gc.collect()

        errors = parity(body)[1]
        assert errors == [
            (f"{name} exception was never retrieved", ("ValueError", "lost")) for name in ("Future", "Own")
        ]

    @pytest.mark.parametrize("how", ["result", "exception", "cancel", "off"])
    def test_an_exception_that_somebody_fetches(self, parity, how):
        def body(case):
            future = case.loop.create_future()
            future.set_exception(ValueError("fetched"))
            if how == "off":
                future._log_traceback = False
            elif how == "cancel":
                future.cancel()
            else:
                case.raised(getattr(future, how))
            del future
            gc.collect()

        assert parity(body)[1] == []

    def test_the_handler_may_keep_the_future(self, loop):
        kept = []
        loop.set_exception_handler(lambda loop, context: kept.append(context["future"]))
        future = loop.create_future()
        future.set_exception(ValueError("lost"))
        del future
        (future,) = kept
        assert repr(future) == "<Future finished exception=ValueError('lost')>"
        with pytest.raises(ValueError, match="lost"):
            future.result()
        kept.clear()
        del future
        assert kept == []

    def test_subclasses_override_del(self, parity):
        def body(case):
            class Own(case.classes.Future):
                def __del__(self):
                    case("del", self._state)
                    super().__del__()

            future = Own(loop=case.loop)
            future.set_exception(KeyError("k"))
            del future
            gc.collect()

        recorded, errors = parity(body)
        assert recorded == [("del", "FINISHED")]
        assert len(errors) == 1

    def test_a_subclass_that_comes_back_to_life(self, parity):
        def body(case):
            kept = []

            class Own(case.classes.Future):
                def __del__(self):
                    kept.append(self)

            future = Own(loop=case.loop)
            future.set_result("alive")
            del future
            case(len(kept), kept[0].result())
            kept.clear()
            case(len(kept))

        parity(body)

    def test_weak_references(self, parity):
        def body(case):
            future = case.loop.create_future()
            reference = weakref.ref(future, lambda _: case("gone"))
            case(reference() is future)
            del future
            case(reference())

        parity(body)

    def test_cycles_are_collected(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.itself = future
            future.add_done_callback(lambda f, own=future: None)
            references = [weakref.ref(future)]
            done = case.loop.create_future()
            done.set_result(done)
            references.append(weakref.ref(done))
            failed = case.loop.create_future()
            failed.set_exception(ValueError())
            failed.exception().future = failed
            references.append(weakref.ref(failed))
            del future, done, failed
            gc.collect()
            case([reference() for reference in references])

        parity(body)

    def test_callbacks_are_dropped_with_the_future(self, parity):
        def body(case):
            class Callback:
                def __call__(self, future):
                    case("called")

                def __del__(self):
                    case("dropped")

            future = case.loop.create_future()
            future.add_done_callback(Callback())
            del future
            case("after")

        parity(body)

    def test_a_result_that_adds_callbacks_as_it_goes(self, parity):
        def body(case):
            holder = {}

            class Result:
                def __del__(self):
                    case("dropped", holder["future"]().done() if holder["future"]() else None)

            future = case.loop.create_future()
            holder["future"] = weakref.ref(future)
            future.set_result(Result())
            del future
            case("after")

        parity(body)


class TestSubclasses:
    def test_overridden_methods_are_used(self, parity):
        """A task that waits for a subclass's future goes through its methods."""

        async def body(case):
            class Own(case.classes.Future):
                def add_done_callback(self, fn, *, context=None):
                    case("add", context is not None)
                    super().add_done_callback(fn, context=context)

                def cancel(self, msg=None):
                    case("cancel", msg)
                    return super().cancel(msg)

                def result(self):
                    case("result")
                    return super().result()

            future = Own(loop=case.loop)

            async def waits():
                return await future

            task = case.loop.create_task(waits())
            await asyncio.sleep(0)
            task.cancel("please")
            try:
                await task
            except asyncio.CancelledError as error:
                case(error.args)
            done = Own(loop=case.loop)
            case.loop.call_soon(done.set_result, 3)
            case(await done)

        parity(body)

    def test_attributes(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.anything = 1
            case(future.anything)
            for name in ["_state", "_loop", "_result", "_exception", "_callbacks", "_source_traceback"]:
                with pytest.raises(AttributeError):
                    setattr(future, name, None)

        parity(body)

    def test_abandoned_by_its_subclass(self, loop):
        class Own(ferrio.Future):
            def __init__(self, *, loop):
                super().__init__(loop=loop)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            Own(loop=loop)
