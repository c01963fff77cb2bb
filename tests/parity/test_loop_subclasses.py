"""Loops of a class that a program derives: which of its methods the loop itself calls."""

import asyncio

import pytest

import ferrio

BASES = {"asyncio": asyncio.SelectorEventLoop, "ferrio": ferrio.EventLoop}


def derived(case):
    """A class that tells when its methods are called."""

    class Loop(BASES[case.name]):
        def run_forever(self):
            case("run_forever")
            super().run_forever()

        def stop(self):
            case("stop")
            super().stop()

        def create_task(self, coroutine, **keywords):
            case("create_task", sorted(keywords))
            return super().create_task(coroutine, **keywords)

        def close(self):
            case("close")
            super().close()

    return Loop


def test_run_until_complete_goes_through_them(parity):
    def body(case):
        loop = derived(case)()
        case(loop.run_until_complete(asyncio.sleep(0, "result")))
        loop.close()

    recorded, _ = parity(body)
    assert recorded == [("create_task", []), "run_forever", "stop", "result", "close"]


def test_run_forever_that_raises(parity):
    def body(case):
        class Loop(BASES[case.name]):
            def run_forever(self):
                raise ZeroDivisionError

        loop = Loop()
        future = loop.create_future()
        case.raised(loop.run_until_complete, future)
        case(future._callbacks)
        loop.close()

    recorded, _ = parity(body)
    assert recorded == [("ZeroDivisionError", ""), None]


@pytest.mark.parametrize(("arguments", "keywords"), [((None,), {}), ((), {"selector": None}), ((1, 2), {})])
def test_arguments_that_nobody_takes(arguments, keywords):
    """A selector that is not used must not look as if it were."""
    with pytest.raises(TypeError, match=r"EventLoop\(\) takes no arguments"):
        ferrio.EventLoop(*arguments, **keywords)


def test_arguments_of_a_subclass(parity):
    def body(case):
        class Loop(BASES[case.name]):
            def __init__(self, number, *, text):
                super().__init__()
                case(number, text)

        Loop(1, text="text").close()

    assert parity(body)[0] == [(1, "text")]
