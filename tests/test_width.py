"""Rust comments are no wider than the code, where rustfmt does not look. Tables may be."""

import re
from pathlib import Path

CRATES = Path(__file__).parent.parent / "crates"
WIDTH = int(re.search(r"^max_width = (\d+)$", (CRATES.parent / "rustfmt.toml").read_text(), re.MULTILINE)[1])
COMMENT = re.compile(r"\s*//[/!]? (?!\|)")


def test_comments_are_no_wider_than_the_code():
    wide = [
        f"{path.relative_to(CRATES)}:{number}"
        for path in sorted(CRATES.glob("*/*/**/*.rs"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > WIDTH and COMMENT.match(line)
    ]
    assert not wide
