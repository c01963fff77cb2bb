"""Context variables: which context each callback and each step of a task runs in."""

import asyncio
import contextvars
import socket
import threading
import weakref

import pytest
from support.case import describe
from support.loops import turn

pytestmark = pytest.mark.every_door

variable = contextvars.ContextVar("variable", default="none")


def isolated(body):
    """`body(case)` in a context of its own, so that what it sets is seen by no other run."""
    return lambda case: contextvars.copy_context().run(body, case)


def look(case):
    case(variable.get())


def test_a_copy_is_taken_when_it_is_asked_for(parity):
    @isolated
    def body(case):
        variable.set("soon")
        case.loop.call_soon(look, case)
        variable.set("later")
        case.loop.call_later(-1, look, case)
        variable.set("at")
        case.loop.call_at(0, look, case)
        variable.set("threadsafe")
        case.loop.call_soon_threadsafe(look, case)
        future = case.loop.create_future()
        variable.set("done")
        future.add_done_callback(lambda future: look(case))
        variable.set("when it is done")
        future.set_result(None)
        variable.set("now")
        turn(case.loop)

    assert sorted(parity(body)[0]) == ["at", "done", "later", "soon", "threadsafe"]


def test_callbacks_do_not_see_each_other(parity):
    @isolated
    def body(case):
        def callback(value):
            case(variable.get())
            variable.set(value)

        for value in "abc":
            case.loop.call_soon(callback, value)
        turn(case.loop)
        case(variable.get())

    assert parity(body)[0] == ["none"] * 4


def test_a_given_context_is_used_itself(parity):
    @isolated
    def body(case):
        def callback(value):
            case(variable.get())
            variable.set(value)

        context = contextvars.Context()
        case.loop.call_soon(callback, "soon", context=context)
        case.loop.call_later(-1, callback, "later", context=context)
        turn(case.loop)
        case.loop.call_soon_threadsafe(callback, "threadsafe", context=context)
        turn(case.loop)
        case(context[variable], variable.get())

    assert parity(body)[0] == ["none", "soon", "later", ("threadsafe", "none")]


def test_a_context_that_is_entered_already(parity, caplog):
    """Whoever hands over the context that runs gets an error for it, and the loop goes on."""

    @isolated
    def body(case):
        context = contextvars.copy_context()
        case.loop.set_exception_handler(None)

        def run():
            case.loop.call_soon(look, case, context=context)
            case.loop.call_soon(case, "goes on")
            turn(case.loop)

        context.run(run)

    assert parity(body)[0] == ["goes on"]
    assert str(caplog.records[0].exc_info[1]).startswith("cannot enter context")


def test_a_task_copies_its_makers(parity):
    @isolated
    def body(case):
        async def task(value):
            case(variable.get())
            variable.set(value)
            await asyncio.sleep(0)
            case(variable.get())

        variable.set("maker")
        tasks = [case.loop.create_task(task(value)) for value in "ab"]
        variable.set("later")
        case.loop.run_until_complete(asyncio.gather(*tasks))
        case(variable.get())

    assert parity(body)[0] == ["maker", "maker", "a", "b", "later"]


def test_a_task_keeps_its_own(parity):
    """Across every way to be woken, the context is the task's, not the waker's."""

    @isolated
    def body(case):
        async def task():
            loop = case.loop
            variable.set("task")

            def wake(future):
                variable.set("waker")
                future.set_result(None)

            future = loop.create_future()
            loop.call_soon(wake, future)
            await future
            look(case)
            await asyncio.sleep(0)
            look(case)
            await asyncio.sleep(0.0001)
            look(case)
            future = loop.create_future()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(wake, future))
            thread.start()
            await future
            thread.join()
            look(case)
            inner = loop.create_task(child())
            await inner
            look(case)
            inner = loop.create_future()
            loop.call_soon(inner.cancel)
            try:
                await inner
            except asyncio.CancelledError:
                look(case)
            foreign = asyncio.futures._PyFuture(loop=loop)
            loop.call_soon(wake, foreign)
            await foreign
            look(case)

        async def child():
            look(case)
            variable.set("child")
            await asyncio.sleep(0)

        case.loop.run_until_complete(task())
        look(case)

    assert parity(body)[0] == ["task"] * 8 + ["none"]


def test_a_task_in_a_given_context(parity):
    @isolated
    def body(case):
        async def task(value):
            look(case)
            variable.set(value)
            await asyncio.sleep(0)
            look(case)

        context = contextvars.Context()
        context.run(variable.set, "given")
        case.loop.run_until_complete(case.loop.create_task(task("one"), context=context))
        case.loop.run_until_complete(case.loop.create_task(task("two"), context=context))
        case(context[variable], variable.get())

    assert parity(body)[0] == ["given", "one", "one", "two", ("two", "none")]


def test_tasks_that_share_a_context(parity):
    """Each step enters it anew, so that two tasks can share one."""

    @isolated
    def body(case):
        async def task(value):
            for _ in range(3):
                case(value, variable.get())
                variable.set(value)
                await asyncio.sleep(0)

        context = contextvars.Context()
        tasks = [case.loop.create_task(task(value), context=context) for value in "ab"]
        case.loop.run_until_complete(asyncio.gather(*tasks))

    assert parity(body)[0] == [("a", "none"), ("b", "a"), ("a", "b"), ("b", "a"), ("a", "b"), ("b", "a")]


def test_the_context_is_left_when_a_step_fails(parity):
    @isolated
    def body(case):
        async def task():
            variable.set("task")
            raise ValueError

        def callback():
            variable.set("callback")
            raise ValueError

        failed = case.loop.create_task(task())
        case.loop.call_soon(callback)
        case.loop.call_soon(look, case)
        turn(case.loop)
        case(describe(failed.exception()))
        look(case)

    assert parity(body)[0] == ["none", ("ValueError", ""), "none"]


def test_callback_with_a_context(parity):
    @isolated
    def body(case):
        context = contextvars.Context()
        context.run(variable.set, "given")
        future = case.loop.create_future()
        future.add_done_callback(lambda future: look(case), context=context)
        future.set_result(None)
        future.add_done_callback(lambda future: look(case), context=context)
        turn(case.loop)

    assert parity(body)[0] == ["given", "given"]


def test_readers_keep_their_makers(parity):
    @isolated
    def body(case):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"x")

            def readable():
                look(case)
                variable.set("set by the reader")

            variable.set("maker")
            case.loop.add_reader(ours, readable)
            variable.set("later")
            # The same context each time: the reader finds what it left.
            turn(case.loop, 2)
            case.loop.remove_reader(ours)

    assert parity(body)[0] == ["maker", "set by the reader"]


@pytest.mark.asyncio_since("3.12", "the handler in that context")
def test_the_exception_handler_runs_in_the_context_of_what_failed(parity):
    @isolated
    def body(case):
        case.loop.set_exception_handler(lambda loop, context: look(case))

        def callback():
            variable.set("callback")
            raise ValueError

        async def task():
            variable.set("task")
            raise ValueError

        case.loop.call_soon(callback)
        turn(case.loop)
        failed = case.loop.create_task(task())
        turn(case.loop)
        del failed
        case.loop.call_exception_handler({"message": "by hand"})

    assert parity(body)[0] == ["callback", "task", "none"]


@pytest.mark.asyncio_since("3.12", "get_context()")
def test_the_context_of_a_handle(parity):
    """It is the same before, in and after the callback, is no other handle's, and keeps what the callback sets."""

    @isolated
    def body(case):
        def callback(value):
            variable.set(value)
            case(handles["a"].get_context() is contexts["a"], handles["a"].get_context().get(variable))

        variable.set("scheduled")
        handles = {value: case.loop.call_soon(callback, value) for value in "ab"}
        contexts = {value: handle.get_context() for value, handle in handles.items()}
        case(contexts["a"] is contexts["b"], contexts["b"][variable])
        unasked = case.loop.call_soon(callback, "unasked")
        turn(case.loop)
        case([context[variable] for context in contexts.values()], unasked.get_context()[variable])
        case([handles[value].get_context() is contexts[value] for value in "ab"])

    parity(body)


def test_a_token_is_of_one_callback(parity):
    """The context of one callback may serve the next one only if nothing is left of the first."""

    @isolated
    def body(case):
        tokens = []

        def sets():
            tokens.append(variable.set("set"))

        def resets():
            with pytest.raises(ValueError, match="different Context"):
                variable.reset(tokens[0])
            case(variable.get())

        def copies():
            tokens.append(contextvars.copy_context())
            case(len(tokens[-1]))

        for callback in [sets, resets, copies, sets, copies]:
            case.loop.call_soon(callback)
        turn(case.loop)

    parity(body)


def test_a_callback_inside_another_has_a_context_of_its_own(parity):
    @isolated
    def body(case):
        def outer(handle):
            variable.set("outer")
            handle._run()
            case(variable.get())

        def inner():
            case(variable.get())
            variable.set("inner")

        case.loop.call_soon(outer, case.loop.call_later(100, inner))
        turn(case.loop)

    parity(body)


@pytest.mark.parametrize("end", ["runs", "cancelled", "closed"])
def test_values_go_with_the_callback(parity, end):
    """No context outlives the callbacks that were to run in it."""

    class Value:
        pass

    @isolated
    def body(case):
        value = Value()
        gone = weakref.ref(value)
        token = variable.set(value)
        handles = [case.loop.call_soon(lambda: None) for _ in range(3)] + [case.loop.call_later(100, lambda: None)]
        variable.reset(token)
        del value, token
        case(gone() is None)
        if end == "runs":
            handles.pop().cancel()
            del handles
            turn(case.loop)
        elif end == "cancelled":
            while handles:
                handles.pop().cancel()
            turn(case.loop)
        else:
            del handles
            case.loop.close()
        case(gone() is None)

    parity(body)
