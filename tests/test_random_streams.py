"""Random programs on the two ends of a connection, both streams, on asyncio and on ferrio: what each call came to."""

import asyncio
import os
import socket

import pytest
from hypothesis import given, settings, strategies as st
from support.case import describe, outcome
from support.peers import turns
from support.traces import package, property_test

TEXT = b"abc\nde;fg\r\nhi||jkl\n\nmno;;"
SEPARATORS = [b"\n", b";", b"||", b"z", (b"\n", b";"), (b"||", b"|")]


class End:
    """A reader and a writer, and the tasks that wait for them."""

    def __init__(self, name, reader, writer):
        self.name = name
        self.reader = reader
        self.writer = writer

    def look(self):
        transport = self.writer.transport
        return (
            self.writer.is_closing(),
            self.reader.at_eof(),
            transport.is_reading(),
            describe(self.reader.exception()),
        )


class Program:
    """One run of a program."""

    def __init__(self, case, ends):
        self.case = case
        self.ends = ends
        self.tasks = []

    def wait(self, end, what, awaitable):
        """Has a task wait for `awaitable`; says what that came to."""
        number = len(self.tasks)

        async def body():
            self.case(end.name, number, *what, await outcome(awaitable))

        self.tasks.append(asyncio.ensure_future(body()))

    def call(self, end, what, function, *arguments):
        try:
            result = function(*arguments)
        except Exception as error:
            result = describe(error)
        self.case(end.name, what, result)

    def step(self, name, end, *arguments):
        end = self.ends[end]
        reader, writer = end.reader, end.writer
        match name:
            case "readline" | "readexactly" | "readuntil" | "read":
                self.wait(end, (name, *arguments), getattr(reader, name)(*arguments))
            case "drain" | "wait_closed":
                self.wait(end, (name,), getattr(writer, name)())
            case "write":
                begin, size = arguments
                self.call(end, name, writer.write, (TEXT * 5)[begin:][:size])
            case "writelines":
                self.call(end, name, writer.writelines, [TEXT[:3], b"", bytearray(TEXT[3:9])])
            case "write_eof" | "close":
                self.call(end, name, getattr(writer, name))
            case "abort" | "pause_reading" | "resume_reading":
                self.call(end, name, getattr(writer.transport, name))
            case "feed":
                self.call(end, name, reader.feed_data, TEXT)
            case "cancel":
                waiting = [task for task in self.tasks if not task.done()]
                if waiting:
                    waiting[arguments[0] % len(waiting)].cancel()

    async def settle(self):
        """Turns, until nothing has happened for some of them."""
        seen = -1
        while seen != len(self.case.events):
            seen = len(self.case.events)
            await turns(12)


async def run(case, limits, program):
    pair = socket.socketpair()
    ends = [
        End(name, *await package(case).open_connection(sock=sock, limit=limit))
        for name, sock, limit in zip("ab", pair, limits, strict=True)
    ]
    run = Program(case, ends)
    for step in program:
        case("step", *step)
        run.step(*step)
        await run.settle()
        case("look", *[end.look() for end in ends])
    case("the end")
    for end in ends:
        end.writer.transport.abort()
    await run.settle()
    for task in run.tasks:
        task.cancel()
    await run.settle()


END = st.integers(0, 1)


def steps(*names):
    return st.tuples(st.sampled_from(names), END)


WRITE = st.tuples(st.just("write"), END, st.integers(0, 25), st.sampled_from([1, 8, 16, 24, 50]))
READ = st.one_of(
    steps("readline"),
    st.tuples(st.just("readexactly"), END, st.sampled_from([0, 1, 8, 40])),
    st.tuples(st.just("readuntil"), END, st.sampled_from(SEPARATORS)),
    st.tuples(st.just("read"), END, st.sampled_from([0, 1, 8, 100])),
)
STEP = st.one_of(
    WRITE,
    WRITE,
    READ,
    READ,
    st.tuples(st.just("cancel"), st.just(0), st.integers(0, 3)),
    steps("writelines", "feed", "drain", "wait_closed", "pause_reading", "resume_reading"),
    steps("write_eof", "close", "abort"),
)


@pytest.mark.patience(300)
@pytest.mark.asyncio_since("3.14", "writelines that looks, and one end of a connection")
@settings(property_test, max_examples=int(os.environ.get("FERRIO_STREAM_PROGRAMS", 120)))
@given(limits=st.tuples(*[st.sampled_from([8, 16, 1000])] * 2), program=st.lists(STEP, min_size=3, max_size=20))
def test_programs(parity, limits, program):
    async def body(case):
        await run(case, limits, program)

    parity(body)
