"""Runs an unmodified asyncio program on ferrio: the `python -m ferrio` and `ferrio` commands."""

import linecache
import marshal
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from types import ModuleType, TracebackType

import ferrio
from ferrio import _children, _install

HELP = """\
usage: {program} [FILE | -m MODULE | -c CODE] [ARGS ...]

Run an asyncio program on ferrio, as python itself would run it. Without arguments, open the asyncio REPL, where `await`
works at the prompt.

  FILE        a script, or a directory or zip file with a __main__.py
  -m MODULE   a module or package
  -c CODE     a program as text
  ARGS        what the program finds in sys.argv[1:]

  --version   print ferrio's version and leave
  --help, -h  print this and leave
"""


def main() -> None:
    """Run what the command line names; the program's exit status is the process's."""
    program, *arguments = sys.argv
    if os.path.basename(program) == "__main__.py":
        program = "python -m ferrio"
    match arguments:
        case []:
            run = as_module("asyncio", [])
        case ["--version" | "-V", *_]:
            print(f"ferrio {ferrio.__version__} (Python {sys.version.split()[0]})")
            return
        case ["--help" | "-h", *_]:
            print(HELP.format(program=os.path.basename(program)), end="")
            return
        case ["-m", name, *rest]:
            run = as_module(name, rest)
        case ["-c", code, *rest]:
            run = as_text(code, rest)
        case [option, *rest] if option[:2] == "-m" != option:  # Python takes -mMODULE as well.
            run = as_module(option[2:], rest)
        case [option, *rest] if option[:2] == "-c" != option:
            run = as_text(option[2:], rest)
        case [option, *_] if option.startswith("-") and option != "-":
            print(f"{program}: {option}: no such option, or it lacks its argument; try --help", file=sys.stderr)
            sys.exit(2)
        case [path, *rest]:
            run = as_file(path, rest)
    _install.install()
    _install.replace_selector_loops()
    _children.follow()
    try:
        run()
    except BaseException:
        hide_own_frames()
        raise


def as_module(name: str, arguments: list[str]) -> Callable[[], None]:
    def run() -> None:
        new_main()
        set_path(os.getcwd())
        # What `python -m` does, with a new __main__. It puts the module's path in the place of the first argument.
        runpy._run_module_as_main(name)  # type: ignore[attr-defined]

    sys.argv = ["-m", *arguments]
    return run


def as_text(code: str, arguments: list[str]) -> Callable[[], None]:
    def run() -> None:
        module = new_main()
        set_path("")
        if sys.version_info >= (3, 13):
            # Where python shows the lines of such a program in tracebacks.
            linecache.cache["<string>"] = (len(code), None, code.splitlines(keepends=True), "<string>")
        exec(compile(code, "<string>", "exec"), module.__dict__)

    sys.argv = ["-c", *arguments]
    return run


def as_file(path: str, arguments: list[str]) -> Callable[[], None]:
    def run() -> None:
        module = new_main()
        if path == "-":
            set_path("")
            module.__file__ = "<stdin>"
            exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), module.__dict__)
            return
        if pkgutil.get_importer(path) is not None:
            if not sys.flags.safe_path:
                del sys.path[0]  # Where this module was started.
            sys.path.insert(0, full_path)
            runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
            return
        set_path(os.path.dirname(os.path.realpath(path)))
        module.__file__ = full_path
        if sys.version_info < (3, 15):  # From then on modules have it no more.
            module.__dict__["__cached__"] = None
        # Once: what is behind the name may be a pipe.
        with open(path, "rb") as file:
            program = file.read()
        if program.startswith(MAGIC_NUMBER):
            module.__loader__ = SourcelessFileLoader("__main__", module.__file__)
            code = marshal.loads(program[16:])  # Behind a header.
        else:
            module.__loader__ = SourceFileLoader("__main__", module.__file__)
            code = compile(program, module.__file__, "exec")
        exec(code, module.__dict__)

    full_path = os.path.join(os.getcwd(), path)  # Not a tidy one: python leaves "." and ".." in it.
    if path != "-":
        try:
            os.stat(path)
        except OSError as error:
            reason = f"[Errno {error.errno}] {error.strerror}"
            print(f"{sys.executable}: can't open file {full_path!r}: {reason}", file=sys.stderr)
            sys.exit(2)
    sys.argv = [path, *arguments]
    return run


def new_main() -> ModuleType:
    """Put a module with nothing of ours in it in the place of this one."""
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return module


def set_path(first: str) -> None:
    """Make `first` what the program finds in sys.path[0], unless the interpreter runs in safe mode."""
    if not sys.flags.safe_path:
        sys.path[0] = first


def hide_own_frames() -> None:
    """Have the traceback printed begin where the program does, not here."""
    hook = sys.excepthook

    # It keeps nothing of the error: what the program's frames hold would live until the modules are gone.
    def print_rest(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        # First come the frames of who runs this module, then its own.
        for own in (False, True):
            while traceback is not None and (traceback.tb_frame.f_code.co_filename == __file__) is own:
                traceback = traceback.tb_next
        hook(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = print_rest


if __name__ == "__main__":
    main()
