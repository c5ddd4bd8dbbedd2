"""Tests of wsrelay.commands.serve; signals and exit codes are tested with processes, in tests/interop."""

import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.commands.support import command
from wsrelay import tap
from wsrelay.commands import serve


class ServeTests(SynchronousTestCase):
    """The command line that twistd gets."""

    def setUp(self) -> None:
        self.patch(sys, "argv", ["wsrelay"])
        self.patch(tap.Options, "command", None)
        #: twistd's options, as they were when the relay would have run.
        self.ran: list[Any] = []
        self.patch(serve, "runApp", self.ran.append)
        self.patch(tap.Options, "environ", {})

    def test_serve(self) -> None:
        """Options are the relay's; twistd stays in the foreground, and writes no PID file."""
        self.assertEqual(command("serve", "--listen", "tcp:0", "--max-rooms", "7")[0], 0)
        [config] = self.ran
        self.assertEqual((config["nodaemon"], config["pidfile"], config.subCommand), (1, "", "wsrelay"))
        self.assertEqual((config.subOptions.settings.listen, config.subOptions.settings.max_rooms), (("tcp:0",), 7))

    def test_reactor(self) -> None:
        """``--reactor`` is twistd's."""
        ended = command("serve", "--reactor", "nosuch", "--listen", "tcp:0")
        self.assertEqual(ended.code, 1)
        self.assertIn("nosuch", ended.stderr)

    def test_wrong(self) -> None:
        """Wrong options are said on stderr, under the name that was typed, and the exit code is twistd's: 1."""
        ended = command("serve", "--max-roms", "3")
        self.assertEqual(ended, (1, "", "wsrelay serve: --max-roms: there is no such option; is it --max-rooms?\n"))
        self.assertEqual(self.ran, [])

    def test_help(self) -> None:
        """The help is the relay's, and its first line has the command that was typed."""
        ended = command("serve", "--help")
        self.assertEqual(ended.code, 0)
        self.assertTrue(
            ended.stdout.startswith("Usage: wsrelay serve [--reactor NAME] [options]\n\nA WebSocket relay: "),
            ended.stdout,
        )
        self.assertEqual(command("help", "serve"), ended)
