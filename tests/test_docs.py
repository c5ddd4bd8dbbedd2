"""The pages: their links, and the names of options, metrics, codes and modules in them.

They are read as text; ``tox -e docs`` builds the site, and tests/pages/ run the commands.
"""

import argparse
import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.admin.metrics import Metrics
from wsrelay.backplane.state import State
from wsrelay.closecodes import TABLE, for_status
from wsrelay.commands.main import COMMANDS
from wsrelay.factory import RelayFactory
from wsrelay.logs.lines import OPTIONAL, TEXTS
from wsrelay.settings import Settings, check_value
from wsrelay.stats import ConnectionStatus, RoomStatus
from wsrelay.tap import Options

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

#: Pages about the relay: all names in them must exist. The changelog and the page on upgrading also name old ones.
ROOT_ABOUT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
ABOUT = [*sorted({*DOCS.glob("*.md")} - {DOCS / "upgrading.md"}), *ROOT_ABOUT]

#: The page with names that are wrong on purpose; a test runs each of its rows.
MISTAKES = DOCS / "mistakes.md"

#: The page with names that are wrong on purpose; a test runs each of its rows.
MISTAKES = DOCS / "mistakes.md"

#: Folders with pages of the project, and folders in them that are not.
FOLDERS = ("docs", "bench", "conformance", "deploy", "examples", "fuzz", "soak", "tests")
NOT_OURS = {"node_modules", ".build", ".env", ".venv", "reports", "quick"}

#: Folders with commands to copy.
COPIED = ("deploy", "docs", "examples", "man", "wsrelay")

#: Options with which no relay starts.
STARTS_NOTHING = re.compile(r" --(help|help-validators|version|check-config)\b")

#: Options in the pages that belong to other programs, or to the Makefile.
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
        "--chroot",
        "--reactor",
        "--uid",
        "--nodaemon",
        "--uid",
        "--umask",
    ),
    *("--log-opt", "--syslog", "--logger", "--auth", "--backpressure", "--data", "--rate", "--help"),
}

#: A number after words that call it a close code.
CLOSE_CODE = re.compile(r"\b(?:close|closes|closed with|close code|code) (1\d{3}|3\d{3}|4\d{3})\b")

#: Codes in the pages that the relay does not send: of clients, and of APIs.
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


def starts() -> Iterator[tuple[Path, str]]:
    """Yield each command that starts a relay with twistd, from all files that people copy from."""
    files = [path for folder in COPIED for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in [*files, *ROOT.glob("*.md"), ROOT / "Makefile"]:
        if path.suffix in {".png", ".svg", ".pyc", ".so"} or NOT_OURS & set(path.parts):
            continue
        text = path.read_text("utf-8").replace('", "', " ").replace("\\-", "-")  # a JSON array; a man page
        for line in re.sub(r"\\e?\n", " ", text).splitlines():
            for command in re.findall(r"\btwistd(?: [^`]*)", line):
                before, _, options = command.partition(" wsrelay")
                if re.search(r" (-[a-z]*n[a-z]*|--nodaemon)\b", before) or re.match(" +--", options):
                    yield path, command


def options() -> set[str]:
    """Return the options of ``twistd wsrelay``, with their dashes."""
    return {f"--{name.rstrip('=')}" for name in Options().longOpt}


def options_of(command: str) -> set[str]:
    """Return the options of a command of ``wsrelay``, with their dashes."""
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[command].module).configure(parser)
    return {*parser._option_string_actions, *(options() if COMMANDS[command].passes_on else ())}


class LinkTests(SynchronousTestCase):
    """Links and the table of contents."""

    def test_links_lead_somewhere(self) -> None:
        """Each link between files has a file and, if it has an anchor, a heading."""
        for page in pages():
            for target in links(page):
                path, _, anchor = target.partition("#")
                file = (page.parent / path).resolve() if path else page
                self.assertTrue(file.exists(), f"{page.relative_to(ROOT)}: {target}")
                if anchor:
                    self.assertIn(anchor, anchors(file), f"{page.relative_to(ROOT)}: {target}")

    def test_pages_are_in_the_table_of_contents(self) -> None:
        """Each page of docs/ is once in the table of contents; other entries are files."""
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

    def test_readme_links(self) -> None:
        """The README links to the first page, to the promises, and to the pages of the root."""
        wanted = {"docs/index.md", "docs/reliability.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"}
        self.assertLessEqual(wanted, set(links(ROOT / "README.md")))


class OptionTests(SynchronousTestCase):
    """Options in the pages exist."""

    def test_pid_file(self) -> None:
        """Each command that starts a relay says --pidfile=: the default may stop the next start (TRAPS 101)."""
        found = 0
        for path, command in starts():
            found += 1
            self.assertRegex(command, rf" --pidfile=|{STARTS_NOTHING.pattern}", str(path))
        self.assertGreater(found, 30)

    def test_options_in_prose(self) -> None:
        """Each option in a page about the relay is one of the relay, or a known one of another program."""
        known = options() | OTHERS | {option for name in COMMANDS for option in options_of(name)}
        for page in set(ABOUT) - {MISTAKES}:
            text = re.sub(r"<!--.*?-->", "", prose(page), flags=re.DOTALL)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text):
                self.assertIn(option, known, f"{page.name}: {option}")

    def test_variables(self) -> None:
        """Each environment variable in a page about the relay belongs to an option, or is one of three others."""
        names = {f"WSRELAY_{field.name.upper()}" for field in fields(Settings)}
        names |= {"WSRELAY_CONFIG", "WSRELAY_PURE", "WSRELAY_TOKEN"}
        for page in set(ABOUT) - {MISTAKES}:
            self.assertLessEqual(
                set(re.findall(r"WSRELAY_[A-Z][A-Z_]*[A-Z]", page.read_text("utf-8"))), names, page.name
            )

    def test_files(self) -> None:
        """Each block of TOML is a valid configuration."""
        for page in DOCS.glob("*.md"):
            for block in blocks(page):
                if block.language == "toml":
                    for name, value in tomllib.loads(block.text).items():
                        self.assertIsNone(check_value(name.replace("-", "_"), value)[1], str(block))


class CodeTests(SynchronousTestCase):
    """Code and names of code in the pages."""

    def test_python(self) -> None:
        """Each block of Python can be parsed, and its imports from wsrelay exist."""
        for page in pages():
            for block in blocks(page):
                if block.language == "python":
                    for node in ast.walk(ast.parse(block.text)):
                        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "wsrelay":
                            module = importlib.import_module(str(node.module))
                            for alias in node.names:
                                is_module = hasattr(module, "__path__") and find_spec(f"{module.__name__}.{alias.name}")
                                self.assertTrue(hasattr(module, alias.name) or is_module, str(block))

    def test_names(self) -> None:
        """Each dotted name of wsrelay in a page about the relay exists."""
        for page in ABOUT:
            for name in re.findall(r"`(wsrelay\.[\w.]*\w)`", page.read_text("utf-8")):
                module, _, attribute = name.rpartition(".")
                try:
                    importlib.import_module(name)
                except ModuleNotFoundError:
                    self.assertTrue(hasattr(importlib.import_module(module), attribute), f"{page.name}: {name}")

    def test_paths(self) -> None:
        """Each path of the package or its tests in a page about the relay exists."""
        for page in ABOUT:
            for path in re.findall(r"`((?:wsrelay|twisted|tests)/[\w./-]*)`", prose(page)):
                self.assertTrue((ROOT / path).exists(), f"{page.name}: {path}")


class GlossaryTests(SynchronousTestCase):
    """docs/glossary.md."""

    def test_rows(self) -> None:
        """Each word has one row with one meaning; no word has two."""
        rows = re.findall(
            r"^\| (?!word |---)([^|]+) \| ([^|]+) \|$", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE
        )
        words = [word for row, _ in rows for word in re.sub(r"\(.*?\)", "", row).split(", ")]

        self.assertGreater(len(rows), 50)
        self.assertEqual(sorted({word.strip() for word in words}), sorted(word.strip() for word in words))


class ObservingTests(SynchronousTestCase):
    """Metrics, log fields and admin fields are explained."""

    def test_metrics(self) -> None:
        """docs/metrics.md has exactly the exported metrics, with their types; no page names another one."""
        exporter = Metrics(RelayFactory(Settings(backplane="redis://broker"), [], Clock()))
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
        """docs/logs.md explains each event about connections, and each of its fields."""
        explained = set(re.findall(r"`(\w+)`", (DOCS / "logs.md").read_text("utf-8")))
        for event, text in TEXTS.items():
            forms = [text, *(form for _, form in OPTIONAL[event])]
            self.assertLessEqual({event, *re.findall(r"\{(\w+)", "".join(forms))}, explained)

    def test_broker(self) -> None:
        """docs/scaling.md explains each state and each reason of a failure, and has the rights of the ACL."""
        text = (DOCS / "scaling.md").read_text("utf-8")
        explained = set(re.findall(r"`(\w+)`", text))
        for path in (ROOT / "wsrelay" / "backplane").glob("*.py"):
            reasons = re.findall(r'\b(?:_Advice|NoBroker)\(\s*"(\w+)"', path.read_text("utf-8"))
            self.assertLessEqual(set(reasons), explained, path.name)
        self.assertLessEqual({state.value for state in State}, explained)
        user = (ROOT / "deploy" / "redis" / "users.acl").read_text("utf-8").splitlines()[1]
        self.assertIn(user.partition(" #PASSWORD_SHA256 ")[2], text)

    def test_status(self) -> None:
        """docs/admin.md explains each field of a room and of a connection."""
        explained = set(re.findall(r"`(\w+)`", (DOCS / "admin.md").read_text("utf-8")))
        for status in (RoomStatus, ConnectionStatus):
            self.assertLessEqual({field.name for field in fields(status)}, explained)


class CloseCodeTests(SynchronousTestCase):
    """Close codes in the pages exist."""

    def test_codes_in_prose(self) -> None:
        """Each number that is called a close code is in the table, or a known code of clients."""
        refused = {for_status(status, "").code for status in range(400, 600)}
        known = {row.code for row in TABLE} | CLIENTS_CODES | refused
        for page in DOCS.glob("*.md"):
            for code in CLOSE_CODE.findall(prose(page)):
                self.assertIn(int(code), known, page.name)

    def test_final_codes(self) -> None:
        """docs/clients.md has the same final codes as the table."""
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
