"""Frameworks of another kind say which loop runs there by replacing asyncio's functions that tell it."""

import asyncio
import contextlib

import pytest

pytestmark = pytest.mark.every_door


@contextlib.contextmanager
def hosted(loop):
    """Has asyncio find a loop that the interpreter does not know to run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.events, "_get_running_loop", lambda: loop)
        patch.setattr(asyncio.events, "get_running_loop", lambda: loop)
        yield


async def nothing():
    pass


def test_what_a_loop_is_needed_for(parity):
    def body(case):
        case.raised(case.classes.sleep(1).send, None)
        with hosted(case.loop):
            sleeping = case.classes.sleep(1)
            case(sleeping.send(None).get_loop() is case.loop)
            sleeping.close()
            lock = case.classes.Lock()
            with pytest.raises(StopIteration):
                lock.acquire().send(None)
            waiting = lock.acquire()
            case(waiting.send(None).get_loop() is case.loop)
            waiting.close()
            children = [case.classes.create_task(nothing()) for _ in range(2)]
            everything = case.classes.gather(*children)
            case([task.get_loop() is case.loop for task in (*children, everything)])
        case.loop.run_until_complete(everything)

    recorded, _ = parity(body)
    assert recorded == [("RuntimeError", "no running event loop"), True, True, [True] * 3]


@pytest.mark.asyncio_since("3.14", "a loop that goes on when somebody has tried to run it again")
def test_a_loop_in_a_loop(parity):
    def body(case):
        with contextlib.closing(type(case.loop)()) as other:

            async def main():
                for loop in (case.loop, other):
                    case.raised(loop.run_forever)
                    coroutine = nothing()
                    case.raised(loop.run_until_complete, coroutine)
                    coroutine.close()

            case.loop.run_until_complete(main())

    recorded, _ = parity(body)
    assert recorded[:2] == [("RuntimeError", "This event loop is already running")] * 2
    assert recorded[2:] == [("RuntimeError", "Cannot run the event loop while another loop is running")] * 2
