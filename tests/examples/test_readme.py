"""Tests of examples/README.md."""

import re
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: README.md, and files made by trying the examples.
LEFT_OVERS = {"README.md", "__pycache__", "node_modules", "package.json", "package-lock.json"}


def test_examples_readme() -> None:
    """The table has each example once."""
    rows = re.findall(r"^\| \[`(\S+?)/?`\]\((\S+)\)", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert all(name == link for name, link in rows)
    assert sorted(name for name, _ in rows) == sorted({path.name for path in EXAMPLES.iterdir()} - LEFT_OVERS)


def test_browser_page_size() -> None:
    """browser.html has at most 60 lines."""
    assert (EXAMPLES / "browser.html").read_text("utf-8").count("\n") <= 60
