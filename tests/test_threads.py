"""`to_thread`, `run_coroutine_threadsafe`, `wrap_future`: between the loop and other threads."""

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading

import pytest
from support.case import describe

import ferrio

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


def module(case):
    return ferrio if case.name == "ferrio" else asyncio


def fail(error):
    raise error


def test_to_thread(parity):
    async def body(case):
        to_thread = module(case).to_thread
        here = threading.get_ident()
        VARIABLE.set("set")
        case(await to_thread(lambda *args, **kwargs: (args, kwargs), 1, two=2))
        case(await to_thread(VARIABLE.get), await to_thread(threading.get_ident) == here)
        await to_thread(VARIABLE.set, "theirs")
        case(VARIABLE.get())
        for error in (ValueError("x"), concurrent.futures.CancelledError("their own")):
            try:
                await to_thread(fail, error)
            except BaseException as caught:
                case(describe(caught))
        await case.loop.shutdown_default_executor()

    assert parity(body)[0][:3] == [((1,), {"two": 2}), ("set", False), "set"]


def test_to_thread_is_a_coroutine_function():
    assert inspect.iscoroutinefunction(ferrio.to_thread)
    assert inspect.signature(ferrio.to_thread) == inspect.signature(asyncio.to_thread)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'func'"):
        ferrio.to_thread()


def test_a_coroutine_from_a_thread(parity):
    async def body(case):
        async def coroutine(result):
            await asyncio.sleep(0)
            if isinstance(result, BaseException):
                raise result
            return result

        def thread():
            for result in ("value", ValueError("x"), asyncio.CancelledError()):
                future = module(case).run_coroutine_threadsafe(coroutine(result), case.loop)
                try:
                    case(future.result(10))
                except BaseException as error:
                    case(type(error).__name__, future.cancelled())

        await case.loop.run_in_executor(None, thread)
        await case.loop.shutdown_default_executor()

    assert parity(body)[0] == ["value", ("ValueError", False), ("CancelledError", True)]


def test_a_thread_that_cancels(parity):
    async def body(case):
        begun, cancelled = threading.Event(), case.loop.create_future()

        async def coroutine():
            begun.set()
            try:
                await case.loop.create_future()
            finally:
                cancelled.set_result("cancelled")

        def thread():
            future = module(case).run_coroutine_threadsafe(coroutine(), case.loop)
            begun.wait()
            case(future.cancel(), future.cancelled())

        await case.loop.run_in_executor(None, thread)
        case(await cancelled)
        await case.loop.shutdown_default_executor()

    assert parity(body)[0] == [(True, True), "cancelled"]


def test_what_is_no_coroutine(parity):
    def body(case):
        case.raised(module(case).run_coroutine_threadsafe, case.loop.create_future(), case.loop)
        case.raised(module(case).wrap_future, 1, loop=case.loop)

    parity(body)


def test_a_task_factory_that_raises(parity):
    async def body(case):
        async def coroutine():
            pass

        def factory(loop, coro, **kwargs):
            coro.close()
            raise NameError("factory")

        def thread():
            future = module(case).run_coroutine_threadsafe(coroutine(), case.loop)
            case(describe(future.exception(10)))

        waiting = case.loop.run_in_executor(None, thread)
        case.loop.set_task_factory(factory)
        await waiting
        case.loop.set_task_factory(None)
        # The message says where asyncio has the callback.
        case([describe(context["exception"]) for context in case.errors.contexts])
        case.errors.contexts.clear()
        await case.loop.shutdown_default_executor()

    assert parity(body)[0] == [("NameError", "factory"), [("NameError", "factory")]]


def test_wrap_future(parity):
    async def body(case):
        wrap_future = module(case).wrap_future
        for settle in (
            lambda future: future.set_result("value"),
            lambda future: future.set_exception(concurrent.futures.InvalidStateError("x")),
            lambda future: future.cancel() and future.set_running_or_notify_cancel(),
        ):
            source = concurrent.futures.Future()
            wrapped = wrap_future(source)
            case(wrap_future(wrapped) is wrapped)
            thread = threading.Thread(target=settle, args=(source,))
            thread.start()
            try:
                case(await wrapped)
            except BaseException as error:
                case(describe(error))
            thread.join()
        source = concurrent.futures.Future()
        wrap_future(source).cancel()
        await asyncio.sleep(0)
        case(source.cancelled())

    parity(body)


def test_a_source_that_ends_after_the_loop(parity):
    def body(case):
        source = concurrent.futures.Future()
        wrapped = module(case).wrap_future(source, loop=case.loop)
        case.loop.close()
        source.set_result(None)
        case(wrapped.done())

    assert parity(body)[0] == [False]
