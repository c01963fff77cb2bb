"""Importing ferrio again, and where it does not load."""

import subprocess
import sys

import pytest

#: How to make an interpreter as web servers do: it shares the lock, and loads extensions that are not meant for it.
LEGACY = (
    "import _interpreters as interpreters; new = interpreters.create('legacy')"
    if sys.version_info >= (3, 13)
    else "import _xxsubinterpreters as interpreters; new = interpreters.create(isolated=False)"
)

WORK = """
async def work():
    async with ferrio.Lock(), ferrio.timeout(1):
        await ferrio.gather(ferrio.sleep(0), ferrio.to_thread(int))
    server = await ferrio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await ferrio.open_connection(*server.sockets[0].getsockname())
    received = await reader.read()
    writer.close()
    server.close()
    return received
"""


def printed_by(*parts):
    command = [sys.executable, "-X", "faulthandler", "-c", "\n".join(parts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_imported_again():
    """Test suites take out of sys.modules what they have loaded. The second import failed, and broke the first."""
    again = """
import sys
import ferrio
first = ferrio
for name in [name for name in sys.modules if name.partition(".")[0] == "ferrio"]:
    del sys.modules[name]
import ferrio
print(ferrio is first, ferrio.Lock is first.Lock, vars(ferrio._ferrio).keys() == vars(first._ferrio).keys())
print(ferrio.run(work()), first.run(work()), ferrio.run(work(), loop_factory=first.new_event_loop))
"""
    assert printed_by(WORK, again) == ["False True True", "b'' b'' b''"]


@pytest.mark.parametrize("before", ["import ferrio", "pass"], ids=["loaded before", "not loaded before"])
def test_subinterpreters_are_refused(before):
    """Cleanly, and with no harm to the main one: its classes were completed again, with objects of the other."""
    attempts = """
import gc
run = getattr(interpreters, "exec", None) or interpreters.run_string
for _ in range(2):
    run(new, "try: import ferrio\\nexcept ImportError as error: print(error, flush=True)")
interpreters.destroy(new)
gc.collect()
import ferrio
print(ferrio.run(work()))
"""
    refused, refused_again, worked = printed_by(before, LEGACY, WORK, attempts)
    assert "subinterpreters" in refused
    assert "subinterpreters" in refused_again
    assert worked == "b''"
