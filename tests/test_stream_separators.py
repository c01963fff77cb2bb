"""StreamReader.readuntil(): separators."""

import asyncio

import pytest
from support.peers import turns
from support.streams import outcome
from support.traces import package

SEPARATORS = pytest.mark.asyncio_since("3.13", "tuples of separators")


def refuses(case, separator):
    async def body():
        reader = package(case).StreamReader()
        reader.feed_data(b"data")
        coroutine = reader.readuntil(separator)  # raises nothing yet
        name, text = await outcome(coroutine)
        case(name, text if name == "ValueError" else None)

    return body()


@pytest.mark.parametrize("separator", [b"", "text", 3, None, [b"a"]])
def test_what_is_no_separator(parity, separator):
    async def body(case):
        await refuses(case, separator)

    parity(body)


@SEPARATORS
@pytest.mark.parametrize("separator", [(), (b"", b"a"), ("text",), (b"a", None)])
def test_tuples_of_what_are_no_separators(parity, separator):
    async def body(case):
        await refuses(case, separator)

    parity(body)


@SEPARATORS
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    "separators",
    [
        (b"\r\n", b"\n"),
        (b"\n", b"\r\n"),
        (b"aa", b"aaa"),
        (b"aaa", b"aa"),
        (b"ab", b"bc", b"abc"),
        (b"xyz", b"yz", b"z"),
    ],
    ids=repr,
)
def test_separators_that_overlap(parity, separators, limit):
    """However what comes is cut."""

    async def body(case):
        async def read(reader):
            while True:
                try:
                    case(await reader.readuntil(separators))
                except asyncio.LimitOverrunError as error:
                    case(error.consumed, str(error), await reader.read(max(error.consumed, 1)))
                except asyncio.IncompleteReadError as error:
                    case(error.partial, error.expected)
                    if not error.partial:
                        return

        for data in (b"aab\r\naaabc", b"aaaa", b"xxyz\r\n", b"abcabc", b"\r\n\n\r\n"):
            for step in (1, 2, 3, 100):
                reader = package(case).StreamReader(limit=limit)
                reading = asyncio.ensure_future(read(reader))
                for start in range(0, len(data), step):
                    reader.feed_data(data[start : start + step])
                    await asyncio.sleep(0)
                reader.feed_eof()
                await reading

    parity(body)


def test_a_separator_across_the_limit_of_64_kib(parity):
    async def body(case):
        reader = package(case).StreamReader()
        for length in (65535, 65536, 65537):
            for cut in (length - 1, length, length + 1, length + 2):
                message = b"x" * length + b"\r\n"
                reader.feed_data(message[:cut])
                waiting = asyncio.ensure_future(outcome(reader.readuntil(b"\r\n")))
                await turns()
                reader.feed_data(message[cut:])
                result = await waiting
                case(length, cut, len(result) if isinstance(result, bytes) else result, len(reader._buffer))
                case(len(await reader.read(100_000)) if reader._buffer else None)

    parity(body)
