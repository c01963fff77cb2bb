"""One body, run on asyncio's loop and on ferrio's, and compared by what it recorded."""

import asyncio
import inspect
import re
from dataclasses import dataclass, field

import ferrio

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_TASK_NUMBER = re.compile(r"\bTask-\d+")


def describe(error):
    """An exception as something to compare: its type and its text."""
    return None if error is None else (type(error).__name__, neutral(str(error)))


def neutral(text):
    """`text` without what differs from run to run: addresses, and the numbers of tasks."""
    return _TASK_NUMBER.sub("Task-N", _ADDRESS.sub("0x", text))


async def outcome(awaitable):
    """What an await comes to: its result, or the description of its error."""
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return describe(error)


class Errors:
    """An exception handler that keeps what it is given."""

    def __init__(self):
        self.contexts = []

    def __call__(self, loop, context):
        self.contexts.append(context)

    def take(self):
        """The contexts since the last time, as a list of (message, exception)."""
        contexts, self.contexts = self.contexts, []
        return [(neutral(context.get("message", "")), describe(context.get("exception"))) for context in contexts]


@dataclass
class Case:
    """One run. Calling it records an event, in the order that is then compared."""

    name: str
    loop: object
    events: list = field(default_factory=list)
    errors: Errors = field(default_factory=Errors)

    @property
    def classes(self):
        """The module that has the loop's own `Future`, `Task`, `Handle` and `TimerHandle`."""
        return {"asyncio": asyncio, "ferrio": ferrio}[self.name]

    def __call__(self, *event):
        self.events.append(event[0] if len(event) == 1 else event)

    def raised(self, function, *args, **kwargs):
        """Calls the function and records what it raises, or that it does not."""
        try:
            function(*args, **kwargs)
        except BaseException as error:  # KeyboardInterrupt is what some of the tests are about
            self.events.append(describe(error))
        else:
            self.events.append("no exception")


def run(name, factory, body):
    """Runs `body(case)`, a function or a coroutine function, on a new loop: the events, then the reported errors."""
    loop = factory()
    case = Case(name, loop)
    loop.set_exception_handler(case.errors)
    try:
        if inspect.iscoroutinefunction(body):
            loop.run_until_complete(body(case))
            loop.run_until_complete(loop.shutdown_asyncgens())
        else:
            body(case)
    finally:
        if not loop.is_running():
            loop.close()
    return case.events, case.errors.take()
