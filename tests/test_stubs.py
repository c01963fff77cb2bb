"""The stubs say what the extension has, as mypy's stubtest finds. Programs that use it pass the type checkers."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ALLOWLIST = TESTS / "stubtest-allowlist.txt"
TYPED = [TESTS / "typed" / "usage.py", *sorted((TESTS.parent / "examples").glob("*.py"))]


@pytest.mark.skipif(sys.version_info[:2] != (3, 14), reason="what mypy knows of asyncio differs by the Python")
def test_stubs_and_extension_agree(tmp_path):
    pytest.importorskip("mypy.stubtest", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy.stubtest", "ferrio", "--concise", "--allowlist", str(ALLOWLIST)]
    # Elsewhere than in the checkout, whose python/ would be found twice.
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 14), reason="what mypy knows of asyncio differs by the Python")
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_programs_pass_the_type_checkers(checker):
    pytest.importorskip(checker, reason=f"{checker} is not installed")
    options = ["--strict-equality"] if checker == "mypy" else ["--pythonpath", sys.executable]
    command = [sys.executable, "-m", checker, *options, *map(str, TYPED)]
    result = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
