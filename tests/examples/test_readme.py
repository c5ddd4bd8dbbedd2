"""Tests of examples/README.md, and of what all pages have in common."""

import re
import textwrap
from pathlib import Path

import wsrelay.http

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"

#: README.md, and files made by trying the examples.
LEFT_OVERS = {"README.md", "__pycache__", "node_modules", "package.json", "package-lock.json"}


def test_examples_readme() -> None:
    """The table has each example once."""
    rows = re.findall(r"^\| \[`(\S+?)/?`\]\((\S+)\)", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert all(name == link for name, link in rows)
    assert sorted(name for name, _ in rows) == sorted({path.name for path in EXAMPLES.iterdir()} - LEFT_OVERS)


def test_browser_page_size() -> None:
    """The script of browser.html has at most 80 lines."""
    script = (EXAMPLES / "browser.html").read_text("utf-8").partition("<script>")[2].partition("</script>")[0]
    assert script.count("\n") <= 80


def style_of(page: Path) -> str:
    """Return the first style of a page, without indentation."""
    return textwrap.dedent(page.read_text("utf-8").partition("<style>\n")[2].partition("</style>")[0]).strip()


def test_pages_style() -> None:
    """All pages begin with the same style, of at most 40 lines, and load nothing else."""
    styles = {page.name: style_of(page) for page in EXAMPLES.glob("*.html")}
    assert set(styles.values()) == {styles["browser.html"]}
    assert styles["browser.html"].count("\n") < 40
    for page in EXAMPLES.glob("*.html"):
        assert re.findall(r'\s(?:src|href)="(.*?)"|@import|url\(', page.read_text("utf-8")) == ["data:,"]


def test_pages_colours() -> None:
    """Their colours are those of the demo page, whose contrast is tested."""
    demo = Path(wsrelay.http.__file__).with_name("demo.html").read_text("utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", demo, re.DOTALL)
    )
    found = re.findall(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)", style_of(EXAMPLES / "browser.html"))
    assert {name: (bright, dim) for name, bright, dim in found} == {name: (light[name], dark[name]) for name in light}
