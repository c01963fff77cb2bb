"""What the interpreter finds when it ends: objects in cycles, loops that nobody closed, work that nobody waited for."""

import pytest
from support.scripts import run_script

pytestmark = pytest.mark.every_door


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize(
    "keep",
    [
        pytest.param("loop.call_soon(print)", id="handle"),
        pytest.param("loop.call_later(3600, print)", id="timer"),
        pytest.param("loop.create_future()", id="future"),
        pytest.param("finished()", id="future with an exception that nobody fetched"),
        pytest.param("with_callback()", id="future with a callback"),
        pytest.param("loop.create_task(asyncio.sleep(3600), name='named')", id="task that has not begun"),
        pytest.param("waiting()", id="task that waits"),
        pytest.param("loop.sock_recv(None, 1)", id="coroutine of the loop"),
        pytest.param("served()", id="server and transport"),
        pytest.param("connecting()", id="coroutine that connects"),
    ],
)
def test_what_is_left_in_a_cycle_goes_in_peace(name, keep, debug):
    """A finalizer that wants the interpreter's help while that is finalizing aborted the process."""
    printed, _, status = run_script(
        name,
        f"""
        class Cycle:
            pass

        def finished():
            future = loop.create_future()
            future.set_exception(ValueError())
            return future

        def with_callback():
            future = loop.create_future()
            future.add_done_callback(print)
            future.add_done_callback(len)
            return future

        def waiting():
            task = loop.create_task(asyncio.sleep(3600), name="named")
            loop.run_until_complete(asyncio.sleep(0))
            return task

        def served():
            async def both():
                server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
                address = server.sockets[0].getsockname()
                return server, await loop.create_connection(asyncio.Protocol, *address)

            return loop.run_until_complete(both())

        def connecting():
            # An address that is reserved for documentation: nobody answers, or the system knows no way.
            coroutine = loop.create_connection(asyncio.Protocol, "192.0.2.1", 1, happy_eyeballs_delay=delay)
            task = loop.create_task(coroutine)
            loop.run_until_complete(asyncio.sleep(0))
            return task

        delay = None
        loop = new_event_loop()
        loop.set_debug({debug})
        cycle = Cycle()
        cycle.itself = cycle
        cycle.kept = {keep}
        print("end")
        # The cycle is the collector's, at the end of the interpreter, and not that of the module's dictionary.
        gc.disable()
        del cycle
        """,
    )
    assert (printed, status) == (["end"], 0)


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize("tasks", [1, 100])
def test_coroutines_that_end_with_the_interpreter_run_their_last_lines(name, tasks):
    """An exception that Rust had to make while the interpreter was finalizing aborted the process."""
    _, complaints, status = run_script(
        name,
        f"""
        async def unfinished():
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)  # a coroutine that ignores its end

        async def main():
            for _ in range({tasks}):
                asyncio.create_task(unfinished())
            await asyncio.sleep(0)

        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
    )
    assert status == 0
    assert "panicked" not in complaints


@pytest.mark.parametrize("package", ["asyncio", "ferrio"])
@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize(
    "waits",
    [
        "queue.get()",
        "lock.acquire()",
        "package.wait_for(queue.get(), 3600)",
        "package.gather(queue.get(), lock.acquire())",
        "in_a_group()",
        "one_by_one()",
    ],
)
def test_coroutines_that_wait_when_the_interpreter_ends(name, package, waits):
    """A waiter that is given up then is one of a closed loop: to look at what Rust raises of that was a panic."""
    printed, complaints, status = run_script(
        name,
        f"""
        package = {package}

        async def in_a_group():
            async with package.timeout(3600), package.TaskGroup() as group:
                group.create_task(queue.get())
                group.create_task(lock.acquire())

        async def one_by_one():
            for earliest in package.as_completed([queue.get(), lock.acquire()]):
                await earliest

        async def unfinished():
            try:
                await {waits}
            finally:
                print("finally")

        async def main():
            await lock.acquire()
            tasks.append(asyncio.create_task(unfinished()))
            for _ in range(3):
                await asyncio.sleep(0)

        tasks = []
        queue, lock = package.Queue(), package.Lock()
        loop = new_event_loop()
        loop.run_until_complete(main())
        """,
        options=["-W", "ignore"],
    )
    assert (printed, status) == (["finally"], 0)
    assert "panicked" not in complaints


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
def test_errors_of_the_last_reports_are_survived(name):
    """What an exception handler raises while the interpreter ends."""
    _, complaints, status = run_script(
        name,
        """
        class Wild(asyncio.Task):
            def __repr__(self):
                raise ZeroDivisionError

        def handler(loop, context):
            raise BaseException

        loops = [new_event_loop(), new_event_loop()]
        loops[1].set_exception_handler(handler)
        for loop in loops:
            task = Wild(asyncio.sleep(3600), loop=loop)
            loop.run_until_complete(asyncio.sleep(0))
        """,
    )
    assert status == 0
    assert "panicked" not in complaints


@pytest.mark.parametrize("closed", [False, True], ids=["", "closed"])
@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
def test_the_last_reports_say_what_there_is_to_say(name, closed):
    """Nothing can be imported any more when they are made: what they need has been before."""
    _, complaints, status = run_script(
        name,
        f"""
        loop = new_event_loop()
        future = loop.create_future()
        future.set_exception(ValueError("told"))
        task = loop.create_task(loop.sock_recv(None, 1), name="unfinished")
        if {closed}:
            loop.close()
        """,
        options=["-W", "ignore"],
    )
    assert status == 0
    assert "Future exception was never retrieved" in complaints
    assert "ValueError: told" in complaints
    assert "Task was destroyed but it is pending!" in complaints
    assert "unfinished" in complaints
    assert "Exception in default exception handler" not in complaints


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
def test_signal_handlers_of_a_loop_that_goes_with_the_interpreter(name):
    _, complaints, status = run_script(
        name,
        """
        loop = new_event_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        """,
        options=["-W", "always"],
    )
    assert status == 0
    assert "unclosed event loop" in complaints
    assert "skipping signal handlers removal" in complaints
    assert "ImportError" not in complaints


@pytest.mark.parametrize("streams", ["asyncio", "ferrio"])
@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
def test_a_program_that_closes_and_does_not_wait_ends_quietly(name, streams):
    """The runner gives the loop the turns in which connections end."""
    printed, errors, status = run_script(
        name,
        f"""
        streams = {streams}

        async def serve(reader, writer):
            writer.write(await reader.read(100))
            writer.close()

        async def main():
            server = await streams.start_server(serve, "127.0.0.1", 0)
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            process = await streams.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            writer.write(b"hello")
            print(await reader.read(100), await process.communicate(b"world"))
            writer.close()
            server.close()

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """,
        options=["-X", "dev", "-W", "error"],
    )
    assert (printed, errors, status) == (["b'hello' (b'world', None)"], "", 0)


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize(
    "work",
    [
        "pass",
        "repr(asyncio.current_task()), repr(loop.create_future())",
        "await asyncio.gather(asyncio.sleep(0), asyncio.create_task(asyncio.sleep(0)))",
        "await asyncio.wait_for(asyncio.shield(asyncio.sleep(0)), 1)",
        "await asyncio.wait([asyncio.create_task(asyncio.sleep(0))], timeout=1)",
        "reader, writer = await asyncio.open_connection(sock=pair[0]); writer.close(); await writer.wait_closed()",
        "await loop.sock_sendall(pair[0], b'x'); await loop.sock_recv(pair[1], 1)",
        "server = await asyncio.start_server(print, '127.0.0.1', 0); server.close()",
        "loop.add_signal_handler(signal.SIGUSR1, print); loop.remove_signal_handler(signal.SIGUSR1)",
        "loop.call_soon_threadsafe(loop.call_later, 0, print)",
        "loop.set_debug(True); await asyncio.sleep(0)",
    ],
)
def test_a_finalizer_runs_a_loop(name, work):
    """As a client does whose `__del__` closes it: nothing can be imported any more, and what is loaded serves."""
    printed, complaints, status = run_script(
        name,
        f"""
        import socket
        import sys

        class Client:
            async def work(self, loop, pair):
                {work}
                return "done"

            def __del__(self, print=print, pair=socket.socketpair, meta_path=sys.meta_path):
                pair = pair()
                for end in pair:
                    end.setblocking(False)
                loop = new_event_loop()
                try:
                    print(loop.run_until_complete(self.work(loop, pair)), sys.meta_path is not meta_path)
                finally:
                    loop.close()
                    for end in pair:
                        end.close()

        # What asyncio itself imports when it is first needed.
        new_event_loop().close()
        client = Client()
        """,
    )
    assert (printed, complaints, status) == (["done True"], "", 0)


@pytest.mark.parametrize("package", ["asyncio", "ferrio"])
@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize(
    ("work", "error"),
    [
        ("package.wait_for(package.sleep(3600), 0.001)", "TimeoutError"),
        ("self.in_a_scope()", "TimeoutError"),
        ("self.bad_yield()", "RuntimeError"),
        ("self.empty_buffer(loop, pair)", "RuntimeError"),
        ("self.handshake(loop, pair)", "ConnectionAbortedError"),
        ("self.given_up(loop, pair)", "CancelledError"),
    ],
)
def test_a_finalizer_meets_errors(name, package, work, error):
    """Rust raises them, and looks at them before Python does: for most that was a panic."""
    printed, complaints, status = run_script(
        name,
        f"""
        import socket
        import ssl
        package = {package}

        class Bad:
            def __await__(self):
                yield 5

        class Empty(asyncio.BufferedProtocol):
            def __init__(self, lost):
                self.lost = lost

            def get_buffer(self, size):
                return b""

            def connection_lost(self, exc):
                self.lost.set_exception(exc)

        class Client:
            async def in_a_scope(self):
                async with package.timeout(0.001):
                    await package.sleep(3600)

            async def bad_yield(self):
                await Bad()

            async def empty_buffer(self, loop, pair):
                loop.set_exception_handler(lambda *_: None)
                lost = loop.create_future()
                await loop.create_connection(lambda: Empty(lost), sock=pair[0])
                pair[1].send(b"x")
                await lost

            async def handshake(self, loop, pair):
                await loop.create_connection(asyncio.Protocol, sock=pair[0], ssl=self.context, server_hostname="x",
                                             ssl_handshake_timeout=0.01)

            async def given_up(self, loop, pair):
                task = loop.create_task(self.handshake(loop, pair))
                await package.sleep(0)
                await package.sleep(0)
                task.cancel()
                await task

            async def work(self, loop, pair):
                try:
                    await {work}
                except BaseException as error:
                    return type(error).__name__

            def __del__(self, print=print, pair=socket.socketpair):
                pair = pair()
                for end in pair:
                    end.setblocking(False)
                loop = new_event_loop()
                try:
                    print(loop.run_until_complete(self.work(loop, pair)))
                finally:
                    loop.close()
                    for end in pair:
                        end.close()

        # What is imported when it is first needed.
        new_event_loop().close()
        "a name".encode("idna")
        client = Client()
        client.context = ssl.create_default_context()
        """,
    )
    assert (printed, complaints, status) == ([error], "", 0)


@pytest.mark.parametrize("name", ["asyncio", "ferrio"])
@pytest.mark.parametrize(
    "work",
    [
        "in_tasks()",
        "in_callbacks()",
        "in_done_callbacks()",
        "in_protocols()",
        "in_factories()",
        "in_comparisons()",
        "in_finalizers()",
        "in_exception_handlers()",
        "in_debug_mode()",
    ],
)
def test_a_daemon_thread_runs_a_loop_when_the_interpreter_ends(name, work):
    """Before Python 3.14 such a thread is ended inside of the Python code that it runs, which unwound through Rust."""
    printed, complaints, status = run_script(
        name,
        f"""
        def spin():
            for _ in range(10_000):
                pass
            busy.set()

        async def in_tasks():
            while True:
                spin()
                await asyncio.sleep(0)

        async def in_callbacks():
            loop = asyncio.get_running_loop()

            def again(one, two, three):
                spin()
                loop.call_soon(again, one, two, three)

            again(1, 2, 3)
            await loop.create_future()

        async def in_done_callbacks():
            loop = asyncio.get_running_loop()

            def again(future):
                spin()
                future = loop.create_future()
                future.add_done_callback(again)
                future.set_result(None)

            again(None)
            await loop.create_future()

        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                spin()
                self.transport.write(data)

        async def in_protocols():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            transport, _ = await loop.create_connection(Echo, *server.sockets[0].getsockname())
            transport.write(b"x")
            await loop.create_future()

        async def in_factories():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            while True:
                transport, _ = await loop.create_connection(lambda: spin() or Echo(), *server.sockets[0].getsockname())
                transport.close()

        class Wild:
            def __eq__(self, other):
                spin()
                return False

            def __del__(self):
                spin()

            def __call__(self, future):
                pass

        async def in_comparisons():
            loop = asyncio.get_running_loop()
            wild = Wild()
            while True:
                future = loop.create_future()
                future.add_done_callback(wild)
                future.remove_done_callback(Wild)
                await asyncio.sleep(0)

        async def in_finalizers():
            loop = asyncio.get_running_loop()
            while True:
                loop.call_soon(Wild(), None)
                await asyncio.sleep(0)

        async def in_exception_handlers():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda *_: spin())
            while True:
                loop.call_soon(int, "x")
                await asyncio.sleep(0)

        async def in_debug_mode():
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            busy.set()
            while True:
                loop.call_soon(int)
                await asyncio.sleep(0)

        busy = threading.Event()
        loop = new_event_loop()
        threading.Thread(target=loop.run_until_complete, args=({work},), daemon=True).start()
        busy.wait()
        print("end")
        """,
    )
    assert (printed, complaints, status) == (["end"], "", 0)
