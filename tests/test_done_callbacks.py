"""The callbacks of futures, the same on asyncio's and on ferrio's."""

import contextvars

import pytest
from support.loops import turn

variable = contextvars.ContextVar("variable", default="unset")


class TestCallbacks:
    def test_order_and_duplicates(self, parity):
        def body(case):
            future = case.loop.create_future()

            def first(f):
                case("first", f is future)

            def second(f):
                case("second")

            for callback in [first, second, first]:
                future.add_done_callback(callback)
            case(len(future._callbacks), future._callbacks[0][0] is first)
            future.set_result(None)
            case("before", future._callbacks)
            turn(case.loop)
            future.add_done_callback(second)
            case("not at once")
            turn(case.loop)

        parity(body)

    def test_remove(self, parity):
        def body(case):
            future = case.loop.create_future()

            class Equal:
                def __init__(self, name):
                    self.name = name

                def __eq__(self, other):
                    return True

                __hash__ = None

                def __call__(self, f):
                    case(self.name)

            for name in "abc":
                future.add_done_callback(Equal(name))
            case(future.remove_done_callback(Equal("other")), future._callbacks)
            future.add_done_callback(print)
            case(future.remove_done_callback(case), future.remove_done_callback(print))
            future.set_result(1)
            turn(case.loop)

        parity(body)

    def test_remove_with_a_failing_comparison(self, parity):
        def body(case):
            class Fails:
                def __eq__(self, other):
                    raise ZeroDivisionError("compared")

                def __call__(self, f):
                    case("called")

            future = case.loop.create_future()
            future.add_done_callback(Fails())
            case.raised(future.remove_done_callback, Fails())
            future.set_result(1)
            turn(case.loop)

        parity(body)

    def test_what_is_not_callable(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.add_done_callback(None)
            future.add_done_callback("text")
            future.set_result(1)
            turn(case.loop)
            for wrong in [lambda: future.add_done_callback(), lambda: future.add_done_callback(print, print)]:
                with pytest.raises(TypeError):
                    wrong()

        recorded, errors = parity_by_type(parity, body)
        assert [kind for kind, _ in errors] == ["TypeError", "TypeError"]

    def test_contexts(self, parity):
        def body(case):
            future = case.loop.create_future()
            variable.set("adding")
            own = contextvars.copy_context()
            own.run(variable.set, "own")
            future.add_done_callback(lambda f: case(variable.get()))
            future.add_done_callback(lambda f: case(variable.get()), context=own)
            variable.set("later")
            future.set_result(None)
            turn(case.loop)
            case(variable.get())

        parity(body)

    def test_callbacks_that_add_and_remove(self, parity):
        def body(case):
            future = case.loop.create_future()

            def late(f):
                case("late")

            def adds(f):
                case("adds", f.remove_done_callback(removed))
                f.add_done_callback(late)

            def removed(f):
                case("removed too late")

            future.add_done_callback(adds)
            future.add_done_callback(removed)
            future.set_result(1)
            turn(case.loop)
            case("turn")
            turn(case.loop)

        parity(body)

    def test_a_callback_that_raises(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.add_done_callback(lambda f: 1 / 0)
            future.add_done_callback(lambda f: case("next"))
            future.set_result(1)
            turn(case.loop)

        assert parity(body)[1][0][1] == ("ZeroDivisionError", "division by zero")

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_a_callback_that_leaves_the_loop(self, parity, error):
        def body(case):
            future = case.loop.create_future()

            def leave(f):
                raise error("out")

            future.add_done_callback(leave)
            future.add_done_callback(lambda f: case("after"))
            future.set_result(1)
            case.raised(turn, case.loop)
            turn(case.loop)

        parity(body)

    def test_a_base_exception_is_reported(self, parity):
        class Own(BaseException):
            pass

        def body(case):
            def fail(f):
                raise Own("own")

            future = case.loop.create_future()
            future.add_done_callback(fail)
            future.set_result(1)
            turn(case.loop)

        parity(body)

    def test_a_loop_that_refuses(self, parity):
        """`call_soon` of a foreign loop raises: the future is done, and the one who settled it is told."""

        def body(case):
            class Refuses:
                def get_debug(self):
                    return False

                def call_soon(self, *args, **kwargs):
                    raise ZeroDivisionError("refused")

                def call_exception_handler(self, context):
                    case(context["message"])

            future = case.classes.Future(loop=Refuses())
            future.add_done_callback(print)
            case.raised(future.set_result, 1)
            case(future.done(), future.result())
            case.raised(future.add_done_callback, print)

        parity(body)

    def test_a_closed_loop(self, parity):
        def body(case):
            future = case.loop.create_future()
            future.add_done_callback(print)
            case.loop.close()
            case.raised(future.set_result, 1)
            case(future.done())

        parity(body)


def parity_by_type(parity, body):
    """As `parity`; of the errors only their types, since the words are the interpreter's and name its classes."""
    recorded, errors = parity(body)
    return recorded, [error for _, error in errors]
