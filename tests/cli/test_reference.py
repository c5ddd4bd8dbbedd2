"""Tests of wsrelay.cli.reference, and of the files that have what it makes."""

import os
import re
from dataclasses import fields
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import require, run
from wsrelay.cli import reference
from wsrelay.cli.option import GROUPS, Option
from wsrelay.cli.options import OPTIONS, PARAMETERS
from wsrelay.settings import Settings

ROOT = Path(__file__).parents[2]
ABOUT = "What it is all about, in a paragraph of more than forty, and more than eighty columns, which may be broken."
MAN_PAGE = ROOT / "man" / "twistd-wsrelay.1"


def environ(**more: str) -> dict[str, str]:
    """Return an environment in which man and groff behave the same everywhere."""
    return {**os.environ, "MANROFFSEQ": "", "LC_ALL": "C.UTF-8", **more}


class DefaultTests(SynchronousTestCase):
    """What is said of defaults."""

    def test_defaults(self) -> None:
        """Numbers are as short as they can be, flags are off, actions have none, and a row may say something else."""
        said = {option.name: reference.default(option) for option in OPTIONS}

        self.assertEqual(
            [
                said[name]
                for name in ("max-rooms", "ping-seconds", "log-level", "echo", "version", "validate", "config")
            ],
            ["10000", "20", "info", "off", "", "origin:same-host", "none"],
        )

    def test_flag_that_is_on(self) -> None:
        """A flag whose setting is on says so."""
        self.patch(reference, "fields", lambda _: [field])
        (field,) = (field for field in fields(Settings) if field.name == "echo")
        self.patch(field, "default", True)
        self.assertEqual(reference.default(Option("echo", "Messages", "It is.", kind="flag")), "on")


class HelpTests(SynchronousTestCase):
    """--help."""

    def test_width(self) -> None:
        """No line is longer than the terminal, nor than 80 columns where that is wider."""
        for width, most in ((40, 40), (60, 60), (79, 79), (80, 80), (200, 80)):
            lines = reference.help_text(ABOUT, width).splitlines()
            names = [line for line in lines if len(line) > most]
            # In a narrow one, only names that are longer themselves.
            self.assertEqual([line for line in names if not re.fullmatch(r"  --\S+", line)], [], width)
        self.assertLessEqual(max(map(len, reference.help_text(ABOUT, 80).splitlines())), 80)

    def test_groups(self) -> None:
        """The options stand under their headings, each with its limit and default, which no line break parts."""
        text = reference.help_text(ABOUT, 80)

        self.assertTrue(text.startswith("What it is all about, in a paragraph"))
        self.assertEqual(re.findall(r"^(\S.*):$", text, re.MULTILINE), list(GROUPS))
        self.assertEqual(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE), [option.name for option in OPTIONS])
        self.assertIn("Beyond: close 1009. [default: 1048576]", " ".join(text.split()))
        self.assertEqual(text.count("[default: "), sum(option.kind in ("value", "repeatable") for option in OPTIONS))
        self.assertNotIn("`", text)

    def test_short_and_long_names(self) -> None:
        """A text begins beside its name where there is room, and below it where there is none."""
        text = reference.help_text(ABOUT, 80)

        self.assertIn(f"  --echo{'':16}Send messages to their publisher, too.\n", text)
        self.assertIn(f"  --max-fragments=NUMBER\n{'':24}Most frames", text)


class MarkdownTests(SynchronousTestCase):
    """docs/options.md."""

    def test_checked_in(self) -> None:
        """The page has what is made now; if not: make reference."""
        page = (ROOT / "docs" / "options.md").read_text("utf-8")

        self.assertEqual(page, reference.spliced(page, reference.markdown()))

    def test_rows(self) -> None:
        """Each option has one row with its default and what happens beyond it."""
        rows = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]*) \|", reference.markdown(), re.MULTILINE))
        defaults = {field.name.replace("_", "-"): field.default for field in fields(Settings)}

        self.assertEqual(list(rows), [option.name for option in OPTIONS])
        for name in set(PARAMETERS) - {"admin", "config"}:
            self.assertEqual(
                rows[name], f"{defaults[name]:g}" if isinstance(defaults[name], float) else str(defaults[name])
            )
        self.assertIn("| close 1009 |\n", reference.markdown())

    def test_bars(self) -> None:
        """A bar in a text does not end its cell."""
        self.patch(reference, "OPTIONS", (Option("echo", "Messages", "Either|or.", kind="flag"),))
        self.assertIn("| Either\\|or. |", reference.markdown())


@pytest.mark.interop
class ShownTests(SynchronousTestCase):
    """The man page, as it is shown."""

    def test_no_warnings(self) -> None:
        """Neither groff nor man has anything to complain about."""
        for program, *options in (["groff", "-man", "-ww", "-Tutf8", "-z"], ["man", "--warnings", "-l"]):
            ended = run(require(program), *options, MAN_PAGE, env=environ(), stdout=DEVNULL, stderr=PIPE)
            self.assertEqual((ended.returncode, ended.stderr), (0, ""), program)

    def test_rendered(self) -> None:
        """Each option is there as it is typed, in 80 columns."""
        text = run(require("man"), "-l", MAN_PAGE, env=environ(MANWIDTH="80")).stdout

        for option in OPTIONS:
            self.assertRegex(text, rf"(?m)^ +{re.escape(option.spelling)}( |$)")
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        for section in ("SYNOPSIS", "SIGNALS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"):
            self.assertIn(f"\n{section}\n", text)


class ManPageTests(SynchronousTestCase):
    """The man page."""

    def test_checked_in(self) -> None:
        """It has what is made now; if not: make reference."""
        page = MAN_PAGE.read_text("utf-8")

        self.assertEqual(page, reference.spliced(page, reference.man_page()))

    def test_roff(self) -> None:
        """What roff would take for commands or for other characters is escaped; code is bold; links are their text."""
        option = Option(
            "a-b", "Messages", ".It is.", beyond="x-y", detail="'Tis `c-d`; see [this](there.md). A\\b.", default="1"
        )
        self.patch(reference, "OPTIONS", (option,))

        self.assertIn(
            ".TP\n\\fB\\-\\-a\\-b\\fR=\\fINUMBER\\fR\n\\&.It is.\n\\&'Tis \\fBc\\-d\\fR;\nsee this.\nA\\eb.\n"
            "Beyond: x\\-y.\nDefault: 1.\n",
            reference.man_page(),
        )


class SplicedTests(SynchronousTestCase):
    """Putting it into a page."""

    def test_spliced(self) -> None:
        """What stands between the markers is made anew; the rest stays."""
        begin, end = "<!-- made from wsrelay/cli/options.py by make reference -->", "<!-- end of what is made -->"

        self.assertEqual(
            reference.spliced(f"before\n{begin}\nold\nold\n{end}\nafter\n", "new\n"),
            f"before\n{begin}\nnew\n{end}\nafter\n",
        )

    def test_no_markers(self) -> None:
        """A page without them is refused."""
        self.assertRaises(ValueError, reference.spliced, "a page\n", "new\n")
