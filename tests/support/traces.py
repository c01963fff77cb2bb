"""Random programs of tasks that wait for each other, and what is seen of each: for property tests.

A program is a list of steps. What a step does is the test's; the tasks it starts are numbered, so that a later step can
cancel one, and everything that happens is recorded in the order in which it does.
"""

import asyncio

from hypothesis import HealthCheck, settings, strategies as st

import ferrio

PACKAGES = {"asyncio": asyncio, "ferrio": ferrio}

# The `parity` fixture keeps nothing between examples. Debug builds are slow, and how slow says nothing.
property_test = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def package(case):
    """asyncio, or ferrio in its place."""
    return PACKAGES[case.name]


def programs(*steps):
    """Lists of steps; `cancel` of a task and a `turn` of the loop are always among them.

    A task that is cancelled is often the one that waits longest: it is the one that may have been woken.
    """
    cancel = st.tuples(st.just("cancel"), st.sampled_from([0, 0, 1, 1, 2, 3, 5]))
    return st.lists(st.one_of(cancel, cancel, st.just(("turn",)), *steps), min_size=5, max_size=60)


class Tasks:
    """The tasks of a program."""

    def __init__(self, case):
        self.case = case
        self.tasks = []
        self.over = False

    def start(self, kind, coroutine_of, *args):
        """Starts `coroutine_of(number, *args)`, and records how it ends."""
        number = len(self.tasks)

        async def body():
            try:
                self.case(number, kind, "returned", await coroutine_of(number, *args))
            except BaseException as error:
                if self.over:
                    return
                self.case(number, kind, type(error).__name__, str(error))
                if not isinstance(error, Exception | asyncio.CancelledError):
                    raise

        self.tasks.append(asyncio.ensure_future(body()))

    async def run(self, program, step, look):
        """Runs the program: `step(name, *args)` does what is not done here, `look()` is recorded after each."""
        for name, *args in program:
            if name == "turn":
                await asyncio.sleep(0)
            elif name == "cancel":
                pending = [number for number, task in enumerate(self.tasks) if not task.done()]
                if pending:
                    number = pending[args[0] % len(pending)]
                    self.case("cancel", number, self.tasks[number].cancel())
            else:
                step(name, *args)
            self.case(name, look())

    async def end(self, look):
        """Gives everyone time, then ends who still waits."""
        for _ in range(60):
            await asyncio.sleep(0)
        self.case("quiet", look())
        for task in self.tasks:
            task.cancel()
            await asyncio.sleep(0)
        for _ in range(60):
            await asyncio.sleep(0)
        self.case("end", look(), [task.done() for task in self.tasks])
        # Who waits for ever, as for a lock that nobody gives back, is thrown away with the loop, some time.
        self.over = True
