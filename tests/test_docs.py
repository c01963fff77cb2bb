"""The documents hold: their Python runs on ferrio and prints what they say, their links and commands lead somewhere.

A block that begins with ```python is a program of its own; ```python 3.14 is one for that Python and later ones. Where
the next block begins with ```output, that is what the program prints. (Rust is compiled by `cargo test`.)
"""

import asyncio
import itertools
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import ferrio

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benches/*.md")])
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    info: str
    body: str

    @property
    def id(self):
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    @property
    def since(self):
        """The first Python that has what the block needs."""
        _, _, version = self.info.partition(" ")
        return tuple(map(int, version.split("."))) if version else (3, 11)


def blocks(document):
    text = document.read_text()
    return [
        Block(document, text.count("\n", 0, match.start()) + 1, match["info"].strip(), match["body"])
        for match in FENCE.finditer(text)
    ]


def programs():
    """Each Python block, with what it prints if the document says so."""
    for document in DOCUMENTS:
        for block, successor in itertools.pairwise([*blocks(document), None]):
            if block.info.split(" ")[0] == "python":
                output = successor.body if successor and successor.info == "output" else None
                yield pytest.param(block, output, id=block.id)


@pytest.mark.parametrize(("block", "output"), list(programs()))
def test_programs_run_and_print_what_the_document_says(block, output, tmp_path):
    if sys.version_info < block.since:
        pytest.skip(f"needs Python {'.'.join(map(str, block.since))}")
    # Empty lines before it, so that a traceback names lines of the document.
    program = tmp_path / f"{block.document.stem}.py"
    program.write_text("\n" * block.line + block.body)
    command = [sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=15)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if output is not None:
        assert done.stdout == output


@pytest.mark.parametrize(
    "document", [pytest.param(document, id=str(document.relative_to(ROOT))) for document in DOCUMENTS]
)
def test_links_and_commands_lead_somewhere(document):
    text = document.read_text()
    prose = FENCE.sub("", text)
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]
    missing = [link for link in links if link and "://" not in link and not (document.parent / link).exists()]
    assert not missing
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(block.body for block in blocks(document) if block.info == "sh")
    commands = re.findall(r"\bmake ([a-z-]+)", shell) + re.findall(r"`(?:[A-Z]+=\S+ )*make ([a-z-]+)", prose)
    assert set(commands) <= targets


def test_what_is_missing_is_what_the_document_says():
    """The methods of asyncio's loop that ferrio's does not have yet, in docs/differences.md."""
    section = (ROOT / "docs/differences.md").read_text().partition("## Not there yet")[2].partition("\n## ")[0]
    said = set(re.findall(r"`loop\.(\w+)`", section))
    abstract = vars(asyncio.AbstractEventLoop)
    missing = {name for name in abstract if name[0] != "_" and getattr(ferrio.EventLoop, name) is abstract[name]}
    assert said == missing
