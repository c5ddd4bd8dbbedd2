"""Tests of wsrelay.commands.main."""

import io
import sys
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.commands.support import command
from wsrelay import __version__
from wsrelay.commands import main


class MainTests(SynchronousTestCase):
    """The first word."""

    def setUp(self) -> None:
        self.patch(sys, "argv", ["/usr/bin/wsrelay"])

    def test_help(self) -> None:
        """Without a word, and with those that ask for help, all commands are listed; within 80 columns."""
        texts = [command(*words) for words in ([], ["--help"], ["-h"], ["help"])]
        self.assertEqual({(text.code, text.stderr) for text in texts}, {(0, "")})
        [said] = {text.stdout for text in texts}
        self.assertTrue(said.startswith("Usage: wsrelay COMMAND"))
        for name, row in main.COMMANDS.items():
            self.assertRegex(said, rf"\n  {name} +{row.help}\n")
        self.assertEqual([line for line in said.splitlines() if len(line) > 80], [])

    def test_version(self) -> None:
        """The version is printed."""
        self.assertEqual(command("--version"), (0, f"wsrelay {__version__}\n", ""))

    def test_unknown(self) -> None:
        """An unknown command is wrong usage; a near one is named."""
        self.assertEqual(command("serv"), (2, "", "wsrelay: there is no command 'serv'; is it serve?\n"))
        self.assertEqual(command("help", "xyz"), (2, "", "wsrelay: there is no command 'xyz'; wsrelay lists all\n"))

    def test_forgotten_serve(self) -> None:
        """Options without a command: the whole line that runs the relay is shown."""
        ended = command("--listen", "a b")
        self.assertEqual((ended.code, ended.stdout), (2, ""))
        self.assertIn("if the relay is to run, write: wsrelay serve --listen 'a b'\n", ended.stderr)

    def test_modules(self) -> None:
        """Each command has its module, with what the table needs, and help of its own with its summary."""
        for name, row in main.COMMANDS.items():
            module = import_module(row.module)
            self.assertTrue(module.SUMMARY.endswith("."), name)
            if not row.passes_on:
                said = command("help", name)
                self.assertEqual((said.code, said.stderr), (0, ""))
                self.assertTrue(said.stdout.startswith(f"usage: wsrelay {name} "), said.stdout)
                self.assertIn(" ".join(module.SUMMARY.split()[:5]), " ".join(said.stdout.split()))

    def test_unknown_argument(self) -> None:
        """A wrong argument of a command is one line, and exit code 2; an option is never shortened."""
        for words in (["init", "--hots=x"], ["init", "a", "b"], ["init", "--hos=x"]):
            ended = command(*words)
            self.assertEqual((ended.code, ended.stdout), (2, ""))
            self.assertRegex(ended.stderr, r"^wsrelay init: unknown: .*; see wsrelay init --help\n$")

    def test_interrupted(self) -> None:
        """Ctrl-C in a command that does not handle it ends it with 130, without a traceback."""

        def run(arguments: object) -> int:
            raise KeyboardInterrupt

        module = SimpleNamespace(SUMMARY="It waits.", configure=lambda parser: None, run=run)
        self.patch(main, "import_module", lambda name: module)
        self.assertEqual(command("init"), (130, "", ""))

    def test_output_fails(self) -> None:
        """An output that cannot be written is one line and 1; that nobody reads it, no line."""
        for error, said in (
            (OSError(28, "No space left"), "cannot read or write: No space left\n"),
            (BrokenPipeError(), ""),
        ):
            stdout = mock.Mock(wraps=io.StringIO(), encoding="utf-8")
            stdout.flush.side_effect = error
            stdout.fileno.side_effect = io.UnsupportedOperation
            for words, name in ((["--help"], "wsrelay"), (["token", "--help"], "wsrelay token")):
                self.patch(sys, "stdout", stdout)
                with redirect_stderr(io.StringIO()) as stderr:
                    self.assertEqual(main.main(words), 1)
                self.assertEqual(stderr.getvalue(), f"{name}: {said}" if said else "")

    def test_man_page(self) -> None:
        """The man page, and the page of the documentation, have each command."""
        root = Path(__file__).parents[2]
        pages = [
            (root / "man" / "wsrelay.1").read_text("utf-8").replace("\\-", "-"),
            (root / "docs" / "commands.md").read_text("utf-8"),
        ]
        for name, row in main.COMMANDS.items():
            self.assertIn(f"\n{row.help}", pages[0])
            self.assertRegex(pages[0], rf"\n\.B[IR]? {name}\b")
            self.assertIn(f"`wsrelay {name}", pages[1])
