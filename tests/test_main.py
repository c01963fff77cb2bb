"""The command line: a program runs as python itself would run it."""

import py_compile
import subprocess
import sys
import zipapp
import zipfile

import pytest

import ferrio

PROGRAM = """\
import asyncio
import sys

async def main():
    print(sys.argv[1:], __name__, type(asyncio.get_running_loop()).__module__, asyncio.Task.__module__)

asyncio.run(main())
"""
PRINTED = "['a', '-b'] __main__ ferrio ferrio\n"


def ferrio_command(*arguments, input=None, cwd=None):
    command = [sys.executable, "-m", "ferrio", *map(str, arguments)]
    return subprocess.run(command, input=input, cwd=cwd, capture_output=True, text=True, timeout=60)


def python_command(*arguments, input=None, cwd=None):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, input=input, cwd=cwd, capture_output=True, text=True, timeout=60)


def assert_like_python(*arguments, **keywords):
    ours, theirs = ferrio_command(*arguments, **keywords), python_command(*arguments, **keywords)
    assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode)
    assert ours.stderr == theirs.stderr
    return ours


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_a_file(script):
    assert ferrio_command(script, "a", "-b").stdout == PRINTED


def test_a_module(script):
    assert ferrio_command("-m", "program", "a", "-b", cwd=script.parent).stdout == PRINTED


def test_a_package(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PROGRAM)
    assert ferrio_command("-m", "package", "a", "-b", cwd=tmp_path).stdout == PRINTED


def test_code():
    assert ferrio_command("-c", PROGRAM, "a", "-b").stdout == PRINTED


def test_standard_input():
    assert ferrio_command("-", "a", "-b", input=PROGRAM).stdout == PRINTED


def test_a_directory(tmp_path):
    (tmp_path / "__main__.py").write_text(PROGRAM)
    assert ferrio_command(tmp_path, "a", "-b").stdout == PRINTED


def test_a_zip_file(tmp_path):
    archive = tmp_path / "program.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", PROGRAM)
    assert ferrio_command(archive, "a", "-b").stdout == PRINTED


def test_a_zip_file_that_can_be_executed(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(PROGRAM)
    zipapp.create_archive(tmp_path / "app", tmp_path / "program.pyz", interpreter="/usr/bin/env python3")
    assert ferrio_command(tmp_path / "program.pyz", "a", "-b").stdout == PRINTED


def test_a_compiled_file(script):
    compiled = py_compile.compile(str(script), str(script.with_name("compiled.pyc")))
    assert ferrio_command(compiled, "a", "-b").stdout == PRINTED


def test_a_file_that_is_a_pipe():
    # As a shell's <(...): what was read of it once is gone.
    assert ferrio_command("/dev/stdin", "a", "-b", input=PROGRAM).stdout == PRINTED


def test_options_with_their_value_attached(script):
    assert ferrio_command("-mprogram", "a", "-b", cwd=script.parent).stdout == PRINTED
    assert ferrio_command("-c" + PROGRAM, "a", "-b").stdout == PRINTED


LOOK = """\
import sys
print(sys.argv, sys.path[:2], __name__)
print(sorted(name for name in globals() if name not in ("__annotations__", "__conditional_annotations__")))
"""


def test_what_a_file_finds(tmp_path):
    path = tmp_path / "look.py"
    path.write_text(LOOK + "print(__file__, __spec__)")
    assert_like_python(path, "x")
    assert_like_python("look.py", "x", cwd=tmp_path)
    assert_like_python("./look.py", "x", cwd=tmp_path)


def test_what_a_directory_finds(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(LOOK + "print(__file__, __spec__.name)")
    assert_like_python("app", "x", cwd=tmp_path)
    assert_like_python("./app/", "x", cwd=tmp_path)


def test_what_a_module_finds(tmp_path):
    (tmp_path / "look.py").write_text(LOOK + "print(__file__, __spec__.name)")
    assert_like_python("-m", "look", "x", cwd=tmp_path)


def test_what_code_finds():
    assert_like_python("-c", LOOK, "x")


@pytest.mark.parametrize("leave", ["sys.exit()", "sys.exit(3)", "sys.exit('text')", "raise SystemExit", "os._exit(4)"])
def test_exit_status(leave):
    assert_like_python("-c", f"import os, sys; {leave}")


def test_traceback(tmp_path):
    path = tmp_path / "fails.py"
    path.write_text(
        "def f():\n    raise ValueError(1)\n\ntry:\n    f()\nexcept ValueError as e:\n    raise KeyError(2) from e\n"
    )
    assert assert_like_python(path).returncode == 1


def test_traceback_of_an_interrupt(tmp_path):
    path = tmp_path / "interrupted.py"
    path.write_text("raise KeyboardInterrupt\n")
    assert_like_python(path)


def test_a_syntax_error(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("x = = 1\n")
    assert_like_python(path)


def test_an_excepthook_of_the_program(tmp_path):
    path = tmp_path / "hook.py"
    path.write_text("import sys\nsys.excepthook = lambda *error: print('hook', error[0], error[2].tb_lineno)\n1 / 0\n")
    assert_like_python(path)


@pytest.mark.parametrize("leave", ["raise SystemExit(3)", "raise KeyboardInterrupt", "1 / 0"])
def test_what_a_failed_program_held_goes_in_time(tmp_path, leave):
    """The frames of its traceback were kept until the modules were gone, which a `__del__` then lacked."""
    path = tmp_path / "holds.py"
    path.write_text(
        "import string\n\nclass Held:\n    def __del__(self):\n        print(string.capwords('gone in time'))\n\n"
        f"def main():\n    held = Held()\n    {leave}\n\nmain()\n"
    )
    assert assert_like_python(path).stdout == "Gone In Time\n"


def test_a_file_that_is_not_there(tmp_path):
    assert assert_like_python(tmp_path / "nothing.py").returncode == 2
    assert_like_python("./nothing.py", cwd=tmp_path)


def test_the_main_module_can_be_pickled_from(tmp_path):
    path = tmp_path / "pickles.py"
    path.write_text(
        "import multiprocessing\n"
        "def double(x):\n    return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(double, [1, 2]))\n"
    )
    assert ferrio_command(path).stdout == "[2, 4]\n"


CHILDREN = """\
import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

async def module():
    return type(asyncio.get_running_loop()).__module__, asyncio.Task.__module__

def loop(_):
    return asyncio.run(module())

def loop_of_a_child(method):
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        return list(pool.map(loop, [None]))

if __name__ == "__main__":
    method = sys.argv[1]
    print(loop_of_a_child(method))
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        print(list(pool.map(loop_of_a_child, [method])))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(tmp_path, method):
    path = tmp_path / "children.py"
    path.write_text(CHILDREN)
    result = ferrio_command(path, method)
    assert result.stdout == "[('ferrio', 'ferrio')]\n[[('ferrio', 'ferrio')]]\n", result.stderr
    assert "asyncio.unix_events" in python_command(path, method).stdout


SELECTOR_LOOPS = """\
import asyncio
import multiprocessing
import selectors

class Own(asyncio.SelectorEventLoop):
    pass

def main(name=None):
    runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
    given = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loops = runner.get_loop(), asyncio.SelectorEventLoop(None), given, Own()
    print([type(loop).__module__ for loop in loops], flush=True)
    for loop in loops:
        loop.close()

if __name__ == "__main__":
    main()
    process = multiprocessing.get_context("spawn").Process(target=main)
    process.start()
    process.join()
"""


def test_a_program_that_names_the_selector_loop(tmp_path):
    """uvicorn does; who hands a selector to it, or derives from it, gets asyncio's."""
    path = tmp_path / "program.py"
    path.write_text(SELECTOR_LOOPS)
    result = ferrio_command(path)
    assert result.stdout.splitlines() == [
        "['ferrio', 'ferrio', 'asyncio.unix_events', '__main__']",
        "['ferrio', 'ferrio', 'asyncio.unix_events', '__mp_main__']",
    ], result.stderr


def test_version():
    assert ferrio_command("--version").stdout.startswith(f"ferrio {ferrio.__version__} (Python 3.")


def test_help():
    result = ferrio_command("--help")
    assert result.stdout.startswith("usage: python -m ferrio [FILE | -m MODULE | -c CODE] [ARGS ...]\n")


@pytest.mark.parametrize("arguments", [["-m"], ["-c"], ["--nothing"]])
def test_a_wrong_option(arguments):
    result = ferrio_command(*arguments)
    assert result.returncode == 2
    assert "try --help" in result.stderr


def test_the_prompt():
    program = "import sys\nawait asyncio.sleep(0, 7)\ntype(asyncio.get_running_loop())\n"
    result = ferrio_command(input=program)
    assert "7\n" in result.stdout
    assert "<class 'ferrio.EventLoop'>" in result.stdout
