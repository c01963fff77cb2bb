"""Objects that are made while the garbage collector is at work."""

import pytest
from support.scripts import run_script


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize("threshold", [1, 2, 3])
@pytest.mark.parametrize(
    "make",
    [
        "loop.create_future()",
        "Future(loop=loop)",
        "loop.create_task(nothing())",
        "Task(nothing(), loop=loop)",
        "loop.call_soon(int)",
        "loop.call_later(3600, print)",
        "new_event_loop()",
    ],
)
def test_the_collector_does_not_see_what_is_not_there_yet(name, threshold, make):
    """Python 3.11 makes an object's `__dict__` first, and may collect for it: that read contents not yet written."""
    printed, _, status = run_script(
        name,
        f"""
        class Future(asyncio.Future if sys.argv[1] == "asyncio" else ferrio.Future):
            pass

        class Task(asyncio.Task if sys.argv[1] == "asyncio" else ferrio.Task):
            pass

        async def nothing():
            pass

        loop = new_event_loop()
        gc.freeze()
        gc.set_threshold({threshold}, 1, 1)
        for _ in range(30):
            # All kinds of numbers of objects before it, and some memory that was used before.
            kept = [{make} for _ in range(7)]
            for each in kept:
                if isinstance(each, asyncio.AbstractEventLoop):
                    each.close()
            loop.call_soon(loop.stop)
            loop.run_forever()
            if sys.version_info < (3, 12):
                kept = [{{}} for _ in range(100)]  # none is at hand, then
        print("end")
        """,
    )
    assert (printed, status) == (["end"], 0)
