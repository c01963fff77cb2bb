"""What a handle does, the same on asyncio's and on ferrio's."""

import asyncio
import contextvars
import gc
import weakref

import pytest
from support.case import neutral
from support.loops import turn

import ferrio

variable = contextvars.ContextVar("variable", default="unset")


class TestMaking:
    def test_by_hand(self, parity):
        def body(case):
            handle = case.classes.Handle(case, ("ran",), case.loop)
            handle._run()
            case(handle._callback is case, handle._args, handle._loop is case.loop, handle.cancelled())
            timer = case.classes.TimerHandle(5.5, case, ("timed",), case.loop)
            case(timer.when(), timer.cancelled())
            timer._run()
            for wrong in [lambda: case.classes.Handle(case), lambda: case.classes.Handle(case, ())]:
                with pytest.raises(TypeError):
                    wrong()

        parity(body)

    def test_wrong_callbacks_in_debug_mode(self, parity):
        async def coroutine_function():
            pass

        def body(case):
            case.loop.set_debug(True)
            for wrong in [1, None, coroutine_function]:
                for schedule in [
                    case.loop.call_soon,
                    case.loop.call_soon_threadsafe,
                    lambda callback: case.loop.call_later(60, callback),
                    lambda callback: case.loop.call_at(60, callback),
                ]:
                    with pytest.raises(TypeError):
                        schedule(wrong)

        parity(body)

    @pytest.mark.parametrize("kind", ["Handle", "TimerHandle"])
    def test_a_subclass(self, parity, kind):
        """As those of trio-asyncio, which pass on what they are called with, and add to it."""

        async def body(case):
            class Scoped(getattr(case.classes, kind)):
                __slots__ = ("scope",)

                def __init__(self, *args, scope=None, **keywords):
                    super().__init__(*args, **keywords)
                    self.scope = scope

                def cancel(self):
                    case("cancel", self.scope)
                    super().cancel()

            class Other(Scoped):
                def __init__(self, *args, **keywords):
                    *before, callback, arguments, loop = args
                    super().__init__(*before, lambda value: callback(("other", value)), arguments, loop, **keywords)

            when = (1.5,) if kind == "TimerHandle" else ()
            variable = contextvars.ContextVar("variable", default="unset")
            context = contextvars.copy_context()
            context.run(variable.set, "set")
            for made_by in (Scoped, Other):
                handle = made_by(*when, case, ("ran",), case.loop, scope="a scope")
                case(isinstance(handle, getattr(case.classes, kind)), handle.__class__ is made_by, handle.scope)
                handle._run()
                handle.cancel()
                case(handle.cancelled())
            Scoped(*when, lambda: case(variable.get()), (), case.loop, context=context)._run()
            Scoped(*when, callback=lambda: case(variable.get()), args=[], loop=case.loop, context=None)._run()
            for wrong in [{"other": 1}, {"callback": case}]:
                with pytest.raises(TypeError):
                    Scoped(*when, case, (), case.loop, **wrong)
                with pytest.raises(TypeError):
                    getattr(case.classes, kind)(*when, case, (), case.loop, **wrong)

        parity(body)

    @pytest.mark.parametrize("kind", ["Handle", "TimerHandle"])
    @pytest.mark.parametrize("debug", [False, True])
    def test_a_subclass_with_other_parameters(self, parity, kind, debug):
        """As those of Temporal's workflows, whose classes are called with what only they know of."""

        async def body(case):
            class Numbered(getattr(case.classes, kind)):
                def __init__(self, number, callback, loop, *, when=7):
                    before = (when,) if kind == "TimerHandle" else ()
                    super().__init__(*before, callback, (number,), loop)
                    self.number = number

            class Unmade(getattr(case.classes, kind)):
                def __init__(self, number):
                    self.number = number

            case.loop.set_debug(debug)
            handle = Numbered("one", case, case.loop)
            case(handle.number, isinstance(handle, getattr(case.classes, kind)), handle._loop is case.loop)
            case(handle._source_traceback is not None, repr(handle).startswith("<Numbered"))
            handle._run()
            if kind == "TimerHandle":
                case(handle.when(), handle < Numbered("two", case, case.loop, when=8.5))
            handle.cancel()
            case(handle.cancelled(), repr(handle).startswith("<Numbered cancelled"))
            unmade = Unmade(1)
            case(unmade.number)
            for ask in [unmade._run, unmade.cancel, lambda: unmade._loop]:
                with pytest.raises(AttributeError):
                    ask()
            gc.collect()

        parity(body)

    @pytest.mark.parametrize("kind", ["Handle", "TimerHandle"])
    def test_a_subclass_with_other_parameters_on_a_loop_of_another_make(self, parity, kind):
        def body(case):
            class Loop(asyncio.AbstractEventLoop):
                def get_debug(self):
                    return False

                def _timer_handle_cancelled(self, handle):
                    case("cancelled", handle.number)

            class Numbered(getattr(case.classes, kind)):
                def __init__(self, number, options, callback, loop):
                    before = (number,) if kind == "TimerHandle" else ()
                    super().__init__(*before, callback, (number,), loop)
                    self.number = number

            handle = Numbered(1, {}, case, Loop())
            handle._run()
            handle.cancel()

        parity(body)

    def test_is_a_handle_to_asyncio(self, loop):
        assert isinstance(loop.call_soon(print), asyncio.Handle)
        timer = loop.call_later(60, print)
        assert isinstance(timer, asyncio.TimerHandle)
        assert isinstance(timer, asyncio.Handle)
        timer.cancel()


class TestCancelling:
    def test_lets_go_of_everything(self, parity):
        def body(case):
            class Argument:
                pass

            for schedule in [case.loop.call_soon, lambda *args: case.loop.call_later(60, *args)]:
                argument = Argument()
                reference = weakref.ref(argument)
                handle = schedule(case, argument)
                del argument
                case(reference() is None)
                handle.cancel()
                handle.cancel()
                case(reference() is None, handle.cancelled(), handle._callback, handle._args)
            turn(case.loop)

        parity(body)

    def test_in_the_same_turn(self, parity):
        def body(case):
            case.loop.call_soon(lambda: second.cancel())
            second = case.loop.call_soon(case, "second")
            case.loop.call_soon(case, "third")
            turn(case.loop)

        parity(body)

    def test_from_inside(self, parity):
        def body(case):
            def callback():
                handle.cancel()
                case(handle.cancelled())

            handle = case.loop.call_soon(callback)
            turn(case.loop)
            case(handle.cancelled(), handle._callback)

        parity(body)

    def test_of_one_that_ran(self, parity):
        def body(case):
            handle = case.loop.call_soon(case, "ran")
            turn(case.loop)
            case(handle.cancelled())
            handle.cancel()
            case(handle.cancelled())

        parity(body)

    def test_an_argument_whose_end_cancels(self, parity):
        def body(case):
            class Cancels:
                def __del__(self):
                    handle.cancel()
                    case("dropped", handle.cancelled())

            handle = case.loop.call_soon(case, Cancels())
            handle.cancel()
            turn(case.loop)

        parity(body)


class TestRepr:
    def test_states(self, parity):
        def callback(*args):
            pass

        def body(case):
            handle = case.loop.call_soon(callback, 1, "two")
            case(repr(handle))
            handle.cancel()
            case(repr(handle))
            timer = case.loop.call_at(1e9, callback)
            case(repr(timer))
            timer.cancel()
            case(repr(timer))

        parity(body)

    def test_in_debug_mode(self, parity):
        def callback():
            pass

        def body(case):
            case.loop.set_debug(True)
            handle = case.loop.call_soon(callback)
            case(neutral(repr(handle)))
            handle.cancel()
            case(neutral(repr(handle)))
            case(handle._source_traceback[-1].name)

        parity(body)


class TestContexts:
    def test_copied_or_given(self, parity):
        def body(case):
            own = contextvars.copy_context()
            own.run(variable.set, "own")
            variable.set("outer")
            for keywords in [{}, {"context": own}, {"context": None}]:
                case.loop.call_soon(lambda: case(variable.get()), **keywords)
                case.loop.call_later(0, lambda: case(variable.get()), **keywords)
                case.loop.call_soon_threadsafe(lambda: case(variable.get()), **keywords)
            variable.set("later")
            turn(case.loop, 3)

        recorded, _ = parity(body)
        assert sorted(recorded) == ["outer"] * 6 + ["own"] * 3

    @pytest.mark.asyncio_since("3.12", "get_context()")
    def test_get_context(self, loop):
        own = contextvars.copy_context()
        assert loop.call_soon(print, context=own).get_context() is own


class TestTimers:
    def test_comparisons(self, parity):
        def body(case):
            make = case.classes.TimerHandle
            first, second = make(1.0, case, (), case.loop), make(2.0, case, (), case.loop)
            same = make(1.0, case, (), case.loop)
            case(first < second, first <= second, first > second, first >= second, first == second, first != second)
            case(first == same, first <= same, first >= same, first < same, hash(first) == hash(1.0))
            case(first == 1.0, first != 1.0, first == case.classes.Handle(case, (), case.loop))
            for compare in [lambda: first < 1.0, lambda: first >= "1"]:
                with pytest.raises(TypeError):
                    compare()

        parity(body)


class TestErrors:
    def test_report(self, loop):
        def fails():
            raise ValueError("failed")

        contexts = []
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        handle = loop.call_soon(fails)
        turn(loop)
        (context,) = contexts
        assert sorted(context) == ["exception", "handle", "message"]
        assert context["handle"] is handle
        assert context["message"].startswith("Exception in callback TestErrors.test_report.<locals>.fails() at ")

    def test_cycles_are_collected(self, parity):
        def body(case):
            class Callback:
                def __call__(self):
                    pass

            callback = Callback()
            callback.handle = case.loop.call_soon(callback)
            reference = weakref.ref(callback)
            del callback
            turn(case.loop)
            gc.collect()
            case(reference())

        parity(body)


@pytest.mark.parametrize("name", ["Handle", "TimerHandle"])
def test_a_cancelled_handle_of_another_loop_keeps_its_context(name):
    """A loop of another make may still run something in it, as trio-asyncio does."""
    loop = asyncio.new_event_loop()
    try:
        for module in (asyncio, ferrio):
            variable, context = contextvars.ContextVar("variable"), contextvars.copy_context()
            context.run(variable.set, "set")
            arguments = (print, (1,), loop, context)
            handle = getattr(module, name)(*(arguments if name == "Handle" else (1.0, *arguments)))
            handle.cancel()
            assert handle._context is context
            assert handle._context.run(variable.get) == "set"
            assert (handle._callback, handle._args, handle.cancelled()) == (None, None, True)
            assert "cancelled" in repr(handle)
            assert "None" not in repr(handle)
    finally:
        loop.close()
