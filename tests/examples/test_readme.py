"""Tests of examples/README.md."""

import re
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: What somebody who has tried them leaves there, and the page itself.
LEFT_OVERS = {"README.md", "__pycache__", "node_modules", "package.json", "package-lock.json"}


def test_table() -> None:
    """The table has each example once, by its name, and no others."""
    rows = re.findall(r"^\| \[`(\S+?)/?`\]\((\S+)\)", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert all(name == link for name, link in rows)
    assert sorted(name for name, _ in rows) == sorted({path.name for path in EXAMPLES.iterdir()} - LEFT_OVERS)


def test_the_smallest_page_is_small() -> None:
    """The page that people copy is no longer than one looks at."""
    assert (EXAMPLES / "browser.html").read_text("utf-8").count("\n") <= 60
