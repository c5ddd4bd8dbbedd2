"""Tests of wsrelay.commands.rule."""

import argparse
import os
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.commands.rule import add_arguments, rule, rule_arguments


class RuleTests(SynchronousTestCase):
    """Which validator is meant."""

    def setUp(self) -> None:
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory()), "relay.toml")
        self.patch(os, "environ", {})

    def parsed(self, *words: str) -> argparse.Namespace:
        """Return parsed arguments."""
        parser = argparse.ArgumentParser("wsrelay token")
        add_arguments(parser)
        arguments = parser.parse_args(words)
        arguments.parser = parser
        return arguments

    def refused(self, *words: str) -> str:
        """Return what is said about wrong usage."""
        with redirect_stderr(StringIO()) as said:
            end = self.assertRaises(SystemExit, rule_arguments, self.parsed(*words))
        self.assertEqual(end.code, 2)
        return said.getvalue()

    def test_none(self) -> None:
        """None is named: there is none."""
        self.assertEqual(rule(self.parsed()), "")
        self.assertEqual(rule_arguments(self.parsed()).options, {})

    def test_validate(self) -> None:
        """``--validate`` names it, above all others; it must be a token: validator."""
        self.assertEqual(rule(self.parsed("--validate=token:key=a", "--config=/nowhere")), "key=a")
        self.assertIn("--validate: it must begin with token:", self.refused("--validate=rooms:a"))

    def test_config(self) -> None:
        """The first one in the config file, which the environment may name; {here} is filled in."""
        self.file.write_text('validate = ["rooms:a", "token:key={here}/k", "token:key=b"]')
        key = f"key={self.file.parent}/k"
        self.assertEqual(rule(self.parsed("--config", str(self.file))), key)
        os.environ["WSRELAY_CONFIG"] = str(self.file)
        self.assertEqual(rule(self.parsed()), key)

    def test_environment(self) -> None:
        """WSRELAY_VALIDATE names it, and wins over a file, as it does for the relay."""
        self.file.write_text('validate = ["token:key=b"]')
        os.environ["WSRELAY_VALIDATE"] = "rooms:a 'token:key=a b'"
        for words in ((), ("--config", str(self.file))):
            self.assertEqual(rule(self.parsed(*words)), "key=a b")
        os.environ["WSRELAY_VALIDATE"] = "'token:key=a"
        self.assertIn("WSRELAY_VALIDATE: No closing quotation", self.refused())

    def test_wrong_config(self) -> None:
        """A file that cannot be read, and one without such a validator, are named."""
        self.assertIn("/nowhere: ", self.refused("--config=/nowhere"))
        for content in ("", "validate = 'token:key=a'", "validate = ['rooms:a']"):
            self.file.write_text(content)
            self.assertIn("validate has no token: validator", self.refused("--config", str(self.file)))

    def test_wrong_arguments(self) -> None:
        """Wrong arguments are wrong usage."""
        self.assertIn("token: there is an empty value", self.refused("--validate=token:key="))
