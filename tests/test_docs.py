"""The pages: what they link to, and what they say there is.

Read as text; that they become a site without a warning is what ``tox -e docs`` shows.
"""

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.admin.metrics import Metrics
from wsrelay.closecodes import TABLE
from wsrelay.factory import RelayFactory
from wsrelay.logs.lines import TEXTS
from wsrelay.settings import Settings, check_value
from wsrelay.stats import ConnectionStatus, RoomStatus
from wsrelay.tap import Options

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

#: What is ours, of all that lies about in a checkout.
FOLDERS = ("docs", "bench", "conformance", "deploy", "examples", "fuzz", "soak", "tests")
NOT_OURS = {"node_modules", ".build", ".env", ".venv", "reports", "quick"}

#: Options that the pages name and that are other programs', or the Makefile's.
OTHERS = {
    *("--quick", "--guard", "--seconds", "--servers", "--rows", "--repeats", "--results", "--report", "--summary"),
    *("--write-limits", "--tool", "--instr-atstart", "--collect-atstart", "--callgrind-out-file", "--library"),
    *(
        "--policies",
        "--stalled",
        "--readers",
        "--list",
        "--include",
        "--logfile",
        "--pidfile",
        "--rundir",
        "--nodaemon",
    ),
    *("--log-file", "--syslog", "--logger", "--auth", "--backpressure", "--data", "--rate", "--help"),
}

#: A number that looks like a close code, where it is said to be one.
CLOSE_CODE = re.compile(r"\b(?:close|closes|closed with|close code|code) (1\d{3}|3\d{3}|4\d{3})\b")

#: Codes that the relay does not send, but pages tell about: clients' own, and what an API makes up.
CLIENTS_CODES = {1000, 1001, 1005, 1006, 1015, 3000, 4999, 3008}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text}"


def pages() -> list[Path]:
    """Return all markdown files of the project."""
    found = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*.md") if not NOT_OURS & set(path.parts)]
    return sorted(found)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for language, text in re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        yield Block(page, language, text)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts and MyST make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.*)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower().replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


def links(page: Path) -> list[str]:
    """Return where the links and images of a page lead, those to other sites left out."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match("[a-z]+:", target)]


def commands(block: Block) -> Iterator[list[str]]:
    """Yield what stands behind ``twistd … wsrelay`` in a block of shell, as words."""
    for line in block.text.replace("\\\n", " ").splitlines():
        match = re.search(r"\btwistd? (?:-\S+ |--nodaemon |--pidfile= )*wsrelay\b(.*)", line)
        if match:
            yield shlex.split(match[1], comments=True)


def options() -> set[str]:
    """Return the options of ``twistd wsrelay``, with their dashes."""
    return {f"--{name.rstrip('=')}" for name in Options().longOpt}


class LinkTests(SynchronousTestCase):
    """Nothing leads nowhere."""

    def test_links_lead_somewhere(self) -> None:
        """Each link between files leads to a file that is there, and its anchor to a heading."""
        for page in pages():
            for target in links(page):
                path, _, anchor = target.partition("#")
                file = (page.parent / path).resolve() if path else page
                self.assertTrue(file.exists(), f"{page.relative_to(ROOT)}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(file), f"{page.relative_to(ROOT)}: {target}")

    def test_pages_are_in_the_table_of_contents(self) -> None:
        """Each page of docs/ is in the table of contents of the site, once, and nothing else is but files."""
        index = DOCS / "index.md"
        listed = [
            re.sub(r".*<(.*)>", r"\1", line)
            for block in blocks(index)
            if block.language == "{toctree}"
            for line in block.text.splitlines()
            if line and not line.startswith(":")
        ]

        self.assertEqual(len(listed), len(set(listed)))
        self.assertEqual(
            {name for name in listed if "/" not in name}, {page.stem for page in DOCS.glob("*.md")} - {"index"}
        )
        for name in listed:
            self.assertTrue((DOCS / f"{name}.md").exists(), name)

    def test_readme_links_to_what_there_is_to_read(self) -> None:
        """The README links to the first page and to those that it promises."""
        self.assertIn("docs/index.md", links(ROOT / "README.md"))


class OptionTests(SynchronousTestCase):
    """Options that are named exist."""

    def test_command_lines(self) -> None:
        """Each command line of the relay has options that there are."""
        known, found = options(), 0
        for page in pages():
            for block in blocks(page):
                for words in commands(block):
                    found += 1
                    for word in words:
                        if word.startswith("--"):
                            self.assertIn(word.partition("=")[0], known, str(block))
        self.assertGreater(found, 10)

    def test_options_in_prose(self) -> None:
        """Each option that a page of docs/ or the README names is one of the relay's, or known to be another's."""
        known = options() | OTHERS
        for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
            text = re.sub(r"<!--.*?-->", "", prose(page), flags=re.DOTALL)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text):
                self.assertIn(option, known, f"{page.name}: {option}")

    def test_variables(self) -> None:
        """Each environment variable that is named is an option's."""
        names = {f"WSRELAY_{field.name.upper()}" for field in fields(Settings)} | {"WSRELAY_CONFIG"}
        for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
            self.assertLessEqual(
                set(re.findall(r"WSRELAY_[A-Z][A-Z_]*[A-Z]", page.read_text("utf-8"))), names, page.name
            )

    def test_files(self) -> None:
        """Each block of TOML is a configuration that is taken."""
        for page in DOCS.glob("*.md"):
            for block in blocks(page):
                if block.language == "toml":
                    for name, value in tomllib.loads(block.text).items():
                        self.assertIsNone(check_value(name.replace("-", "_"), value)[1], str(block))


class CodeTests(SynchronousTestCase):
    """Code that is shown is code."""

    def test_python(self) -> None:
        """Each block of Python can be parsed, and what it imports of ours is there."""
        for page in pages():
            for block in blocks(page):
                if block.language == "python":
                    for node in ast.walk(ast.parse(block.text)):
                        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "wsrelay":
                            module = importlib.import_module(str(node.module))
                            for alias in node.names:
                                self.assertTrue(hasattr(module, alias.name), str(block))

    def test_names(self) -> None:
        """Each dotted name of ours that a page of docs/ has in code exists."""
        for page in DOCS.glob("*.md"):
            for name in re.findall(r"`(wsrelay\.[\w.]*\w)`", page.read_text("utf-8")):
                module, _, attribute = name.rpartition(".")
                try:
                    importlib.import_module(name)
                except ModuleNotFoundError:
                    self.assertTrue(hasattr(importlib.import_module(module), attribute), f"{page.name}: {name}")


class ObservingTests(SynchronousTestCase):
    """What operators see is explained."""

    def test_metrics(self) -> None:
        """docs/metrics.md has each metric of ours, with its type, and no others; no page names another one."""
        exporter = Metrics(RelayFactory(Settings(), [], Clock()))
        exported = {
            f"{family.name}_total" if family.type == "counter" else family.name: family.type
            for family in exporter.collect()
        }
        rows = dict(
            re.findall(r"^\| `(wsrelay_\w+)` \| (\w+) \|", (DOCS / "metrics.md").read_text("utf-8"), re.MULTILINE)
        )

        self.assertEqual(rows, exported)
        for page in DOCS.glob("*.md"):
            for name in re.findall(r"(?<![\w/])wsrelay_[a-z_]+[a-z]\b(?!\.py)", page.read_text("utf-8")):
                self.assertIn(re.sub("_(bucket|sum|count)$", "", name), exported, page.name)

    def test_log(self) -> None:
        """docs/logs.md explains each thing that is logged about connections, and each of its fields."""
        explained = set(re.findall(r"`(\w+)`", (DOCS / "logs.md").read_text("utf-8")))
        for event, text in TEXTS.items():
            self.assertLessEqual({event, *re.findall(r"\{(\w+)", text)}, explained)

    def test_status(self) -> None:
        """docs/admin.md explains each field of a room and of a connection."""
        explained = set(re.findall(r"`(\w+)`", (DOCS / "admin.md").read_text("utf-8")))
        for status in (RoomStatus, ConnectionStatus):
            self.assertLessEqual({field.name for field in fields(status)}, explained)


class CloseCodeTests(SynchronousTestCase):
    """Close codes that are named exist."""

    def test_codes_in_prose(self) -> None:
        """Each number that is called a close code is in the table, or one that only clients see."""
        known = {row.code for row in TABLE} | CLIENTS_CODES
        for page in DOCS.glob("*.md"):
            for code in CLOSE_CODE.findall(prose(page)):
                self.assertIn(int(code), known, page.name)

    def test_final_codes(self) -> None:
        """docs/clients.md tells which codes are final as the table does."""
        text = (DOCS / "clients.md").read_text("utf-8")
        rows = dict(re.findall(r"^\| (\d{4}) \| ([^|]+) \|", text.partition("And these")[0], re.MULTILINE))

        self.assertEqual(set(rows), {str(row.code) for row in TABLE})
        for code, answer in rows.items():
            outcomes = {row.reconnect for row in TABLE if str(row.code) == code}
            expected = {frozenset([True]): "with", frozenset([False]): "no"}.get(
                frozenset(outcomes), "look at the reason"
            )
            self.assertTrue(answer.startswith(expected), code)
        final = re.search(r"FINAL = new Set\(\[([\d, ]+)\]\)", text)
        assert final is not None
        codes = {row.code for row in TABLE}
        sometimes = {row.code for row in TABLE if row.reconnect}
        self.assertEqual({int(code) for code in final[1].split(",")}, codes - sometimes)
