"""Contexts of tasks and connections, which are made for the first step, and given back when nothing has come of it."""

import asyncio
import contextvars
import gc
import weakref

import pytest

import ferrio

variable = contextvars.ContextVar("variable", default="unset")


class Value:
    """Something to keep alive by a variable."""


async def nothing():
    pass


async def look(case, name, change=None, sleeps=0):
    case(name, "sees", variable.get())
    if change is not None:
        variable.set(change)
    for _ in range(sleeps):
        await asyncio.sleep(0)
        case(name, "still sees", variable.get())


class TestBasics:
    def test_copied_when_made(self, parity):
        def body(case):
            async def look():
                before = variable.get()
                variable.set("inside")
                await asyncio.sleep(0)
                case(before, variable.get())

            variable.set("made")
            task = case.loop.create_task(look())
            variable.set("later")
            case.loop.run_until_complete(task)
            case(variable.get())

        parity(body)

    def test_given(self, parity):
        def body(case):
            async def look():
                case(variable.get())
                variable.set("changed")

            context = contextvars.copy_context()
            context.run(variable.set, "given")
            task = case.loop.create_task(look(), context=context)
            case.loop.run_until_complete(task)
            case(context[variable])

        parity(body)

    @pytest.mark.asyncio_since("3.12", "get_context()")
    def test_get_context(self, loop):
        context = contextvars.copy_context()
        task = loop.create_task(nothing(), context=context)
        assert task.get_context() is context
        loop.run_until_complete(task)
        assert task.get_context() is context

    def test_no_context(self, loop):
        coroutine = nothing()
        with pytest.raises((TypeError, AttributeError)):
            ferrio.Task(coroutine, loop=loop, context=1)
        coroutine.close()


class TestCopies:
    def test_made_in_a_row(self, parity):
        def body(case):
            variable.set("outside")
            tasks = [
                case.loop.create_task(look(case, name, change, sleeps))
                for name, change, sleeps in [
                    ("a", None, 0),
                    ("b", "b's", 0),
                    ("c", None, 2),
                    ("d", "d's", 2),
                    ("e", None, 1),
                ]
            ]
            case.loop.run_until_complete(asyncio.wait(tasks))
            case(variable.get())

        parity(body)

    def test_made_in_tasks(self, parity):
        """What a task sets is seen by those it makes afterwards, and by no other."""

        async def parent(case, name, levels):
            variable.set((variable.get(), name))
            if not levels:
                case(name, variable.get())
                return
            children = [asyncio.create_task(parent(case, index, levels - 1)) for index in range(3)]
            await asyncio.sleep(0)
            variable.set("no more")
            for child in children:
                await child
            case(name, variable.get())

        def body(case):
            case.loop.run_until_complete(parent(case, "root", 3))

        parity(body)

    def test_changed_after_the_first_step(self, parity):
        def body(case):
            async def sleeper(name):
                await asyncio.sleep(0)
                case(name, variable.get())
                variable.set(name)
                await asyncio.sleep(0)
                case(name, variable.get())

            tasks = [case.loop.create_task(sleeper(name)) for name in "abc"]
            case.loop.run_until_complete(asyncio.wait(tasks))
            case(variable.get())

        parity(body)

    def test_thrown_into(self, parity):
        """A task that is cancelled before its first step, or in its first sleep."""

        def body(case):
            async def sleeper(name):
                variable.set(name)
                try:
                    await asyncio.sleep(3600)
                finally:
                    case(name, variable.get())

            tasks = [case.loop.create_task(sleeper(name)) for name in "ab"]
            tasks[0].cancel()
            case.loop.call_soon(tasks[1].cancel)
            case.loop.run_until_complete(asyncio.wait(tasks))
            case([task.cancelled() for task in tasks])

        parity(body)

    def test_eager(self, parity):
        def body(case):
            async def main():
                variable.set("main")
                tasks = [asyncio.eager_task_factory(case.loop, look(case, name, name, 1)) for name in "ab"]
                await asyncio.wait(tasks)
                case(variable.get())

            case.loop.run_until_complete(main())

        if not hasattr(asyncio, "eager_task_factory"):
            pytest.skip("asyncio has it since Python 3.12")
        parity(body)


@pytest.mark.asyncio_since("3.12", "get_context()")
class TestAskedFor:
    """Who asks for the context gets the very one, whenever that is."""

    @pytest.mark.parametrize("asked", ["before", "in the first step", "between", "after"])
    def test_stays_the_same(self, parity, asked):
        def body(case):
            seen = []

            async def job():
                if asked == "in the first step":
                    seen.append(asyncio.current_task().get_context())
                await asyncio.sleep(0)
                seen.append(asyncio.current_task().get_context())
                variable.set("job's")

            tasks = [case.loop.create_task(job()) for _ in range(2)]
            if asked == "before":
                seen.append(tasks[0].get_context())
            if asked == "between":
                case.loop.call_soon(lambda: seen.append(tasks[0].get_context()))
            case.loop.run_until_complete(asyncio.wait(tasks))
            if asked == "after":
                seen.insert(0, tasks[0].get_context())
            case(tasks[0].get_context() is tasks[1].get_context())
            case([context is tasks[0].get_context() for context in seen])
            case([context.get(variable) for context in seen])

        parity(body)

    def test_of_those_that_end_at_once(self, parity):
        def body(case):
            async def job(value):
                if value:
                    variable.set(value)

            variable.set("outside")
            tasks = [case.loop.create_task(job(value)) for value in (None, 1, None, 2)]
            case.loop.run_until_complete(asyncio.wait(tasks))
            contexts = [task.get_context() for task in tasks]
            case([context[variable] for context in contexts])
            case(len(set(map(id, contexts))))
            contexts[0].run(variable.set, "changed")
            case([task.get_context()[variable] for task in tasks])

        parity(body)

    def test_kept_by_somebody(self, parity):
        """A context that somebody has is nobody else's."""

        def body(case):
            kept = []

            async def job():
                kept.append(asyncio.current_task().get_context())

            for _ in range(3):
                case.loop.run_until_complete(case.loop.create_task(job()))
            case(len(set(map(id, kept))))
            for number, context in enumerate(kept):
                context.run(variable.set, number)
            case.loop.run_until_complete(case.loop.create_task(look(case, "last")))
            case([context[variable] for context in kept])

        parity(body)

    def test_kept_weakly(self, parity):
        def body(case):
            references = []

            async def job():
                references.append(weakref.ref(asyncio.current_task().get_context()))

            for _ in range(3):
                task = case.loop.create_task(job())
                case.loop.run_until_complete(task)
                case(references[-1]() is task.get_context())
                del task

        parity(body)


class TestEntered:
    def test_by_the_task_itself(self, parity):
        """A task whose first step is inside of its own context by hand."""

        def body(case):
            async def job():
                context = contextvars.copy_context()
                case.raised(lambda: context.run(context.run, nothing))
                case.raised(context.run, variable.set, "copy")
                case(variable.get())

            case.loop.run_until_complete(case.loop.create_task(job()))

        parity(body)


class TestKeepsAlive:
    def test_what_a_finished_task_has_set(self, parity):
        def body(case):
            value = Value()
            reference = weakref.ref(value)

            async def job(value):
                variable.set(value)

            task = case.loop.create_task(job(value))
            case.loop.run_until_complete(task)
            del value
            case(reference() is None)
            del task
            gc.collect()
            case(reference() is None)

        parity(body)

    def test_what_tasks_were_made_with(self, parity):
        """Values go with the last task that was made while they were set."""

        def body(case):
            def run():
                value = Value()
                variable.set(value)
                tasks = [case.loop.create_task(nothing()) for _ in range(3)]
                case.loop.run_until_complete(asyncio.wait(tasks))
                return weakref.ref(value)

            reference = contextvars.copy_context().run(run)
            case.loop.run_until_complete(case.loop.create_task(nothing()))
            gc.collect()
            case(reference() is None)

        parity(body)


@pytest.fixture
def loop_of_ferrio():
    loop = ferrio.new_event_loop()
    yield loop
    loop.close()


class TestConnections:
    """Each connection has a copy of its server's context, on every Python (asyncio: 3.15)."""

    def test_a_copy_each(self, loop_of_ferrio):
        seen = []

        class Notes(asyncio.Protocol):
            def __init__(self):
                seen.append(("made", variable.get()))
                variable.set("factory's")

            def connection_made(self, transport):
                self.transport = transport
                seen.append(("connected", variable.get()))

            def data_received(self, data):
                seen.append((data, variable.get()))
                variable.set(data)
                self.transport.write(data)

            def connection_lost(self, exc):
                seen.append(("lost", variable.get()))

        async def talk(address, texts):
            reader, writer = await asyncio.open_connection(*address)
            for text in texts:
                writer.write(text)
                assert await reader.readexactly(len(text)) == text
            writer.close()
            await writer.wait_closed()

        async def main():
            variable.set("server's")
            loop = asyncio.get_running_loop()
            async with await loop.create_server(Notes, "127.0.0.1", 0) as server:
                for texts in ([b"a", b"b", b"c"], [b"d"], []):
                    await talk(server.sockets[0].getsockname(), texts)
                server.close()
                await server.wait_closed()

        loop_of_ferrio.run_until_complete(main())
        beginning = [("made", "server's"), ("connected", "factory's")]
        assert seen == [
            *beginning,
            (b"a", "factory's"),
            (b"b", b"a"),
            (b"c", b"b"),
            ("lost", b"c"),
            *beginning,
            (b"d", "factory's"),
            ("lost", b"d"),
            *beginning,
            ("lost", "factory's"),
        ]

    def test_that_change_nothing(self, loop_of_ferrio):
        """What the server was made with is there in every callback, and what somebody else sets is not."""
        seen = []

        class Notes(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                seen.append(variable.get())

            def data_received(self, data):
                seen.append((data, variable.get()))
                self.transport.close()

            def connection_lost(self, exc):
                seen.append(variable.get())

        async def main():
            variable.set("server's")
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Notes, "127.0.0.1", 0)
            for number in range(3):
                variable.set(number)
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"text")
                assert await reader.read() == b""
                writer.close()
            server.close()
            await server.wait_closed()

        loop_of_ferrio.run_until_complete(main())
        assert seen == ["server's", (b"text", "server's"), "server's"] * 3

    def test_go_with_the_connection(self, loop_of_ferrio):
        """What a connection's callbacks have set is not kept when the connection is gone."""
        references = []

        class Keeps(asyncio.Protocol):
            def connection_made(self, transport):
                value = Value()
                references.append(weakref.ref(value))
                variable.set(value)
                transport.close()

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Keeps, "127.0.0.1", 0)
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                assert await reader.read() == b""
                writer.close()
            server.close()
            await server.wait_closed()

        loop_of_ferrio.run_until_complete(main())
        assert [reference() for reference in references] == [None] * 3
