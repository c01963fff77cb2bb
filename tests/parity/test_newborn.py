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
        "library.Runner()",
        "library.TaskGroup()",
        "library.Condition()",
        "library.Barrier(1)",
        "library.Queue()",
        "library.StreamReader(loop=loop)",
        "library.StreamReaderProtocol(library.StreamReader(loop=loop), loop=loop)",
        "library.run(nothing())",
    ],
)
def test_the_collector_does_not_see_what_is_not_there_yet(name, threshold, make):
    """Python 3.11 makes an object's `__dict__` first, and may collect for it: that read contents not yet written."""
    printed, _, status = run_script(
        name,
        f"""
        library = asyncio if sys.argv[1] == "asyncio" else ferrio

        class Future(library.Future):
            pass

        class Task(library.Task):
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


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_nor_transports_that_are_not_there_yet(name, threshold):
    printed, errors, status = run_script(
        name,
        f"""
        import os
        import socket

        async def make():
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            source, sink = os.pipe()
            made = [
                await loop.connect_accepted_socket(asyncio.Protocol, ours),
                await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)),
                await loop.connect_read_pipe(asyncio.Protocol, open(source, "rb", 0)),
                await loop.connect_write_pipe(asyncio.Protocol, open(sink, "wb", 0)),
            ]
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            for transport, _ in made:
                transport.close()
            server.close()
            theirs.close()
            await asyncio.sleep(0)
            if sys.version_info < (3, 12):
                return [{{}} for _ in range(100)]  # no dictionary is at hand, then

        async def main():
            for _ in range(20):
                await make()
            process, _ = await asyncio.get_running_loop().subprocess_exec(asyncio.SubprocessProtocol, "true")
            process.close()

        loop = new_event_loop()
        gc.freeze()
        gc.set_threshold({threshold}, 1, 1)
        loop.run_until_complete(main())
        print("end")
        """,
    )
    assert (printed, status) == (["end"], 0), errors
