"""Tests of wsrelay.commands.check_config."""

import sys
import tempfile
import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.commands.support import command
from wsrelay import tap


class CheckConfigTests(SynchronousTestCase):
    """``wsrelay check-config``."""

    def setUp(self) -> None:
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(tap.Options, "command", None)
        self.patch(tap.Options, "environ", {})
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory()), "relay.toml")

    def test_file(self) -> None:
        """The first word is the file; all other words are the relay's."""
        self.file.write_text("max-rooms = 7\n")
        ended = command("check-config", str(self.file), "--max-fragments", "5")
        self.assertEqual((ended.code, ended.stderr), (0, ""))
        read = tomllib.loads(ended.stdout)
        self.assertEqual((read["max-rooms"], read["max-fragments"]), (7, 5))

    def test_no_file(self) -> None:
        """Without a file, the value of an option is not taken for one."""
        ended = command("check-config", "--max-rooms", "7")
        self.assertEqual((ended.code, tomllib.loads(ended.stdout)["max-rooms"]), (0, 7))

    def test_wrong(self) -> None:
        """All that is wrong is on stderr, and the exit code is 1."""
        self.file.write_text("max-roms = 7\n")
        ended = command("check-config", str(self.file))
        self.assertEqual((ended.code, ended.stdout), (1, ""))
        self.assertIn("relay.toml: max-roms: there is no such option; is it max-rooms?\n", ended.stderr)
