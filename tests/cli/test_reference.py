"""Tests of wsrelay.cli.reference, and of the files with its texts."""

import os
import re
from dataclasses import fields
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import require, run
from wsrelay.cli import reference
from wsrelay.cli.options import OPTIONS, PARAMETERS
from wsrelay.http.fields import MAX_FIELDS
from wsrelay.http.target import MAX_QUERY_FIELDS
from wsrelay.net.endpoints import BACKLOG
from wsrelay.option import GROUPS, Option
from wsrelay.rooms.log import SLICE_BYTES
from wsrelay.settings import Settings

ROOT = Path(__file__).parents[2]
ABOUT = "What it is all about, in a paragraph of more than forty, and more than eighty columns, which may be broken."
MAN_PAGE = ROOT / "man" / "twistd-wsrelay.1"


def environ(**more: str) -> dict[str, str]:
    """Return an environment in which man and groff behave the same everywhere."""
    return {**os.environ, "MANROFFSEQ": "", "LC_ALL": "C.UTF-8", **more}


class HelpTests(SynchronousTestCase):
    """--help."""

    def test_width(self) -> None:
        """Lines have at most the width of the terminal, and at most 80 columns."""
        for width, most in ((40, 40), (60, 60), (79, 79), (80, 80), (200, 80)):
            lines = reference.help_text(ABOUT, width).splitlines()
            names = [line for line in lines if len(line) > most]
            # In a narrow terminal, only long names.
            self.assertEqual([line for line in names if not re.fullmatch(r"  --\S+", line)], [], width)
        self.assertLessEqual(max(map(len, reference.help_text(ABOUT, 80).splitlines())), 80)

    def test_groups(self) -> None:
        """The options stand under their headings, each with its default, which is not split over lines."""
        text = reference.help_text(ABOUT, 80)

        self.assertTrue(text.startswith("What it is all about, in a paragraph"))
        self.assertEqual(re.findall(r"^(\S.*):$", text, re.MULTILINE), list(GROUPS))
        self.assertEqual(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE), [option.name for option in OPTIONS])
        self.assertIn("Exceeded: close 1009. [default: 1048576]", " ".join(text.split()))
        self.assertEqual(text.count("[default: "), sum(option.kind in ("value", "repeatable") for option in OPTIONS))
        self.assertNotIn("`", text)

    def test_short_and_long_names(self) -> None:
        """A text begins beside a short name and below a long one."""
        text = reference.help_text(ABOUT, 80)

        self.assertIn(f"  --echo{'':16}Send messages to their publisher, too.\n", text)
        self.assertIn(f"  --max-fragments=NUMBER\n{'':24}Most frames", text)


class MarkdownTests(SynchronousTestCase):
    """docs/options.md."""

    def test_checked_in(self) -> None:
        """The page has the current tables; if not: make reference."""
        page = (ROOT / "docs" / "options.md").read_text("utf-8")

        self.assertEqual(page, reference.spliced(page, reference.markdown()))

    def test_rows(self) -> None:
        """Each option has one row with its default and what happens when it is exceeded."""
        rows = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]*) \|", reference.markdown(), re.MULTILINE))
        defaults = {field.name.replace("_", "-"): field.default for field in fields(Settings)}

        self.assertEqual(list(rows), [option.name for option in OPTIONS])
        for name in set(PARAMETERS) - {"config", *(name for name in defaults if defaults[name] == "")}:
            self.assertEqual(
                rows[name], f"{defaults[name]:g}" if isinstance(defaults[name], float) else str(defaults[name])
            )
        self.assertIn("| close 1009 |\n", reference.markdown())

    def test_bars(self) -> None:
        """A bar in a text does not end its cell."""
        self.patch(reference, "OPTIONS", (Option("echo", "Messages", "Either|or.", kind="flag"),))
        self.assertIn("| Either\\|or. |", reference.markdown())


class LimitsTests(SynchronousTestCase):
    """The limits in docs/reliability.md."""

    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")

    def test_checked_in(self) -> None:
        """The page has the current table; if not: make reference."""
        self.assertEqual(self.page, reference.spliced(self.page, reference.limits()))

    def test_rows(self) -> None:
        """Each limit has one row, below its heading; a heading without limits is left out."""
        text = reference.limits()

        self.assertEqual(
            re.findall(r"\| `--([a-z-]+)` \|", text), [option.name for option in OPTIONS if option.exceeded]
        )
        self.assertIn("| **Timeouts** |  |  | |\n| Time from accept to the complete request. | `--handshake", text)
        self.assertNotIn("**Process**", text)

    def test_limits_without_option(self) -> None:
        """The table of limits without an option has the numbers of the code."""
        for text, number in [
            ("Header fields of a request", MAX_FIELDS),
            ("Fields of a query that a validator reads", MAX_QUERY_FIELDS),
            ("Connections waiting to be accepted, unless `--listen` has a `backlog=`", BACKLOG),
            ("Bytes written at a time to a subscriber that is behind", SLICE_BYTES),
        ]:
            self.assertIn(f"| {text} | {number} |", self.page)


@pytest.mark.deploy
class ShownTests(SynchronousTestCase):
    """The man page as shown by man."""

    def test_no_warnings(self) -> None:
        """groff and man print no warnings."""
        for program, *options in (["groff", "-man", "-ww", "-Tutf8", "-z"], ["man", "--warnings", "-l"]):
            ended = run(require(program), *options, MAN_PAGE, env=environ(), stdout=DEVNULL, stderr=PIPE)
            self.assertEqual((ended.returncode, ended.stderr), (0, ""), program)

    def test_rendered(self) -> None:
        """Each option is shown as it is typed, in 80 columns."""
        text = run(require("man"), "-l", MAN_PAGE, env=environ(MANWIDTH="80")).stdout

        for option in OPTIONS:
            self.assertRegex(text, rf"(?m)^ +{re.escape(option.spelling)}( |$)")
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        for section in ("SYNOPSIS", "SIGNALS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"):
            self.assertIn(f"\n{section}\n", text)


class ManPageTests(SynchronousTestCase):
    """The man page."""

    def test_checked_in(self) -> None:
        """It has the current options; if not: make reference."""
        page = MAN_PAGE.read_text("utf-8")

        self.assertEqual(page, reference.spliced(page, reference.man_page()))

    def test_roff(self) -> None:
        """Characters that are special to roff are escaped; code is bold; links become their text."""
        detail = "'Tis `c-d`; see [this](there.md). A\\b."
        option = Option("a-b", "Messages", ".It is.", "x-y", detail, default="1", reloadable=True)
        self.patch(reference, "OPTIONS", (option,))

        self.assertIn(
            ".TP\n\\fB\\-\\-a\\-b\\fR=\\fINUMBER\\fR\n\\&.It is.\n\\&'Tis \\fBc\\-d\\fR;\nsee this.\nA\\eb.\n"
            "Exceeded: x\\-y.\nReloaded by SIGHUP.\nDefault: 1.\n",
            reference.man_page(),
        )


class SplicedTests(SynchronousTestCase):
    """Replacing the generated part of a page."""

    def test_spliced(self) -> None:
        """The text between the markers is replaced; the rest stays."""
        begin, end = (
            "<!-- generated from wsrelay/settings.py by make reference -->",
            "<!-- end of the generated part -->",
        )

        self.assertEqual(
            reference.spliced(f"before\n{begin}\nold\nold\n{end}\nafter\n", "new\n"),
            f"before\n{begin}\nnew\n{end}\nafter\n",
        )

    def test_no_markers(self) -> None:
        """A page without markers is refused."""
        self.assertRaises(ValueError, reference.spliced, "a page\n", "new\n")
