"""Tests of wsrelay.cli.option."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.option import Option


class OptionTests(SynchronousTestCase):
    """One row."""

    def test_field(self) -> None:
        """The setting has the option's name, as Python can write it."""
        self.assertEqual(Option("max-rooms", "Messages", "Most rooms.").field, "max_rooms")

    def test_spelling(self) -> None:
        """What stands for a value comes from the unit in the name, or from the row; flags and actions have none."""
        for name, more, spelling in [
            ("max-rooms", {}, "--max-rooms=NUMBER"),
            ("max-message-bytes", {}, "--max-message-bytes=BYTES"),
            ("memory-budget", {}, "--memory-budget=BYTES"),
            ("ping-seconds", {}, "--ping-seconds=SECONDS"),
            ("max-bytes-per-second", {}, "--max-bytes-per-second=NUMBER"),
            ("config", {"value": "FILE"}, "--config=FILE"),
            ("listen", {"kind": "repeatable", "value": "ENDPOINT"}, "--listen=ENDPOINT"),
            ("echo", {"kind": "flag"}, "--echo"),
            ("version", {"kind": "action"}, "--version"),
        ]:
            self.assertEqual(Option(name, "Messages", "It is.", **more).spelling, spelling)
