"""Exception handlers: who is called with what, in which context, and what happens when the handler fails itself."""

import asyncio
import contextvars
import logging
import sys

import pytest
from support.case import describe, neutral
from support.loops import turn
from support.peers import turns

pytestmark = pytest.mark.every_door

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.fixture
def records(caplog):
    """What was logged by asyncio's logger, as (level, text, exception)."""
    caplog.set_level(logging.DEBUG, "asyncio")

    def take():
        found = [
            (record.levelname, neutral(record.getMessage()), describe(record.exc_info[1] if record.exc_info else None))
            for record in caplog.records
            if record.name == "asyncio" and "selector" not in record.getMessage()
        ]
        caplog.clear()
        return found

    return take


def test_setting_one(parity):
    def body(case):
        case(case.loop.get_exception_handler() is case.errors)
        case.loop.set_exception_handler(None)
        case(case.loop.get_exception_handler())
        for wrong in (1, "handler", object):
            case.raised(case.loop.set_exception_handler, wrong)
        case(case.loop.get_exception_handler() is object)

    events, _ = parity(body)
    assert events[2:5] == [
        ("TypeError", "A callable object or None is expected, got 1"),
        ("TypeError", "A callable object or None is expected, got 'handler'"),
        "no exception",
    ]


def test_what_a_callback_reports(parity):
    """The context of the report: the keys, the very exception, the very handle."""

    def body(case):
        error = ValueError("from the callback")

        def handler(loop, context):
            case(loop is case.loop, sorted(context), context["exception"] is error, context["handle"] is handle)
            case(context["message"].split(" at ")[0])

        def callback(*args):
            raise error

        case.loop.set_exception_handler(handler)
        handle = case.loop.call_soon(callback)
        turn(case.loop)
        handle = case.loop.call_later(0, callback, 1)
        turn(case.loop)
        handle = case.loop.call_soon_threadsafe(callback, 1, 2)
        turn(case.loop)

    events, _ = parity(body)
    assert events[0] == (True, ["exception", "handle", "message"], True, True)


def test_the_default_handler(parity, records):
    def body(case):
        case.loop.set_exception_handler(None)

        def callback():
            raise ValueError("text")

        case.loop.call_soon(callback)
        turn(case.loop)
        case([(level, text.split(" at ")[0], error) for level, text, error in records()])

    events, _ = parity(body)
    assert events[0][0][2] == ("ValueError", "text")


CONTEXTS = {
    "empty": {},
    "message": {"message": "something"},
    "no message": {"message": ""},
    "exception": {"message": "something", "exception": KeyError("key")},
    "no exception": {"message": "something", "exception": None},
    "anything": {"message": "something", "zebra": [1], "ant": "two", "exception": OSError(2, "no such thing")},
    "source traceback": {"message": "m", "source_traceback": [("file.py", 3, "function", "the line")]},
    "handle traceback": {"message": "m", "handle_traceback": [("file.py", 3, "function", "the line")]},
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_the_text_that_is_logged(parity, records, context):
    def body(case):
        case.loop.default_exception_handler(dict(context))
        case(records())
        case.loop.set_exception_handler(None)
        case.loop.call_exception_handler(dict(context))
        case(records())

    events, _ = parity(body)
    assert events[0] == events[1]
    assert len(events[0]) == 1


def test_a_handler_that_fails(parity, records):
    """The error of the handler is logged, with what it was called for; the loop goes on."""

    def body(case):
        def handler(loop, context):
            case("handler", context["message"])
            raise ZeroDivisionError("in the handler")

        case.loop.set_exception_handler(handler)
        case.loop.call_exception_handler({"message": "the reason"})
        case([(level, text.splitlines()[0], error) for level, text, error in records()])
        case.loop.call_soon(case, "the loop goes on")
        turn(case.loop)

    events, _ = parity(body)
    assert events[1] == [("ERROR", "Unhandled error in exception handler", ("ZeroDivisionError", "in the handler"))]


def test_a_default_handler_that_fails(parity, records):
    """The last resort: one line in the log, whatever the reason."""

    def body(case):
        class Loop(type(case.loop)):
            def default_exception_handler(self, context):
                case("default", context.get("message"))
                raise ZeroDivisionError("in the default handler")

        def handler(loop, context):
            raise ValueError

        loop = Loop()
        loop.call_exception_handler({"message": "the reason"})
        case(records())
        loop.set_exception_handler(handler)
        loop.call_exception_handler({"message": "another reason"})
        case(records())
        loop.close()

    parity(body)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["handler", "default"])
def test_what_leaves_a_handler_leaves_the_loop(parity, error, where):
    def body(case):
        class Loop(type(case.loop)):
            def default_exception_handler(self, context):
                raise error

        def handler(loop, context):
            raise error

        def callback():
            raise ValueError

        loop = Loop()
        if where == "handler":
            loop.set_exception_handler(handler)
        case.raised(loop.call_exception_handler, {"message": "text"})
        loop.call_soon(callback)
        loop.call_soon(case, "it can be run again")
        case.raised(loop.run_forever)
        turn(loop)
        loop.close()

    events, _ = parity(body)
    assert events == [(error.__name__, "")] * 2 + ["it can be run again"]


@pytest.mark.parametrize("error", [GeneratorExit, asyncio.CancelledError])
def test_other_base_exceptions_stay_in_the_loop(parity, records, error):
    def body(case):
        def handler(loop, context):
            case(describe(context.get("exception")))
            raise error

        def callback():
            raise error

        case.loop.set_exception_handler(handler)
        case.loop.call_soon(callback)
        case.loop.call_soon(case, "next")
        turn(case.loop)
        case([(level, text.splitlines()[0], logged) for level, text, logged in records()])

    parity(body)


@pytest.mark.asyncio_since("3.12", "the handler called in the context of what failed")
def test_the_handler_runs_in_the_context_of_what_failed(parity):
    def body(case):
        def handler(loop, context):
            case(VARIABLE.get())

        def fails():
            VARIABLE.set("set by the callback")
            raise ValueError

        async def task():
            VARIABLE.set("set by the task")
            raise ValueError

        def future():
            VARIABLE.set("set beside the future")
            failed = case.loop.create_future()
            failed.set_exception(ValueError())

        case.loop.set_exception_handler(handler)
        case.loop.call_soon(fails)
        turn(case.loop)
        context = contextvars.copy_context()
        context.run(VARIABLE.set, "given")
        case.loop.call_soon(fails, context=context)
        turn(case.loop)
        case.loop.create_task(task())
        turn(case.loop)
        case.loop.call_soon(future)
        turn(case.loop)
        case.loop.call_exception_handler({"message": "by hand"})
        case.loop.call_exception_handler({"message": "by hand", "handle": object(), "task": None})
        case(VARIABLE.get())

    events, _ = parity(body)
    assert events[:3] == ["set by the callback", "set by the callback", "set by the task"]
    assert events[-1] == "unset"


def test_an_exception_that_nobody_fetched(parity):
    def body(case):
        async def fails():
            raise KeyError("lost")

        future = case.loop.create_future()
        future.set_exception(KeyError("lost"))
        del future
        task = case.loop.create_task(fails())
        turn(case.loop)
        del task
        fetched = case.loop.create_future()
        fetched.set_exception(KeyError("fetched"))
        case(describe(fetched.exception()))
        del fetched

    _, errors = parity(body)
    assert errors == [
        ("Future exception was never retrieved", ("KeyError", "'lost'")),
        ("Task exception was never retrieved", ("KeyError", "'lost'")),
    ]


def test_a_handler_that_is_replaced_while_it_runs(parity):
    def body(case):
        def first(loop, context):
            case("first", context["message"])
            loop.set_exception_handler(second)
            loop.call_exception_handler({"message": "inner"})

        def second(loop, context):
            case("second", context["message"])

        case.loop.set_exception_handler(first)
        case.loop.call_exception_handler({"message": "outer"})
        case.loop.call_exception_handler({"message": "after"})

    assert parity(body)[0] == [("first", "outer"), ("second", "inner"), ("second", "after")]


def test_what_is_no_dictionary(parity, records):
    """The context is whatever the caller gives: the handler gets it as it is."""

    def body(case):
        case.loop.set_exception_handler(None)
        for context in (None, 7, [], "text"):
            case.raised(case.loop.call_exception_handler, context)
            case([(level, text.splitlines()[0]) for level, text, _ in records()])
            case.raised(case.loop.default_exception_handler, context)

    parity(body)


def test_what_is_being_handled(parity, caplog):
    """A handler that logs with a traceback, or raises, does so as in an `except` block for what was raised."""

    def body(case):
        def handler(loop, context):
            # asyncio shows a callback's arguments in debug mode only, on some versions.
            case(context["message"].partition("(")[0], sys.exc_info()[1] is context["exception"])

        def failing(loop, context):
            raise ValueError("from the handler")

        async def main():
            case.loop.set_exception_handler(handler)
            case.loop.call_soon(int, "of a callback")
            await turns(2)
            future = case.loop.create_future()
            future.set_exception(KeyError("that nobody asks for"))
            del future
            case(sys.exc_info())
            case.loop.set_exception_handler(failing)
            case.loop.call_soon(int, "of a callback")
            await turns(2)

        case.loop.run_until_complete(main())

    events, _ = parity(body)
    assert events == [
        ("Exception in callback int", True),
        ("Future exception was never retrieved", False),
        (None, None, None),
    ]
    failures = [record for record in caplog.records if "Unhandled error in exception handler" in record.getMessage()]
    assert len(failures) >= 2
    for failure in failures:
        assert "of a callback" in str(failure.exc_info[1].__context__)


def test_what_a_failing_default_handler_logs(parity, caplog):
    def body(case):
        class Loop(type(case.loop)):
            def default_exception_handler(self, context):
                raise ValueError("from the default handler")

        loop = Loop()
        loop.call_soon(int, "of a callback")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()

    parity(body)
    errors = [record for record in caplog.records if record.getMessage() == "Exception in default exception handler"]
    assert len(errors) >= 2
    for error in errors:
        assert str(error.exc_info[1]) == "from the default handler"
        assert "of a callback" in str(error.exc_info[1].__context__)
