"""The stubs say what the extension has: mypy's stubtest compares them."""

import subprocess
import sys
from pathlib import Path

import pytest

ALLOWLIST = Path(__file__).with_name("stubtest-allowlist.txt")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="mypy has the newest names for the newest Pythons only")
def test_stubs_and_extension_agree(tmp_path):
    pytest.importorskip("mypy.stubtest", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy.stubtest", "ferrio", "--concise", "--allowlist", str(ALLOWLIST)]
    # Elsewhere than in the checkout, whose python/ would be found twice.
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
