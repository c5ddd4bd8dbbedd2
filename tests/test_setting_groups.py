"""Tests of wsrelay.setting_groups."""

from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.errors import SettingsError
from wsrelay.option import GROUPS
from wsrelay.setting_groups import History, Nodes, Observability
from wsrelay.settings import OPTIONS, Settings


class GroupTests(SynchronousTestCase):
    """Fields declared elsewhere."""

    def test_groups(self) -> None:
        """The fields of a class are those of its group of options, and settings have them."""
        for cls, group in ((Observability, "Observability"), (Nodes, "Several nodes"), (History, "History")):
            self.assertIn(group, GROUPS)
            expected = [field for field, option in OPTIONS.items() if option.group == group]
            self.assertEqual([field.name for field in fields(cls)], expected)
            self.assertTrue(issubclass(Settings, cls))

    def test_node_name(self) -> None:
        """A node's name is a word of at most 64 characters, as it stands in log lines and in CLIENT LIST."""
        for name in ("", "a", "relay-1.example:8080", "x" * 64):
            self.assertEqual(Settings(node_name=name).node_name, name)
        for name in ("two words", "caf\u00e9", "a\n", "\x7f", "x" * 65):
            error = self.assertRaises(SettingsError, Settings, node_name=name)
            self.assertIn("node_name: ", str(error))

    def test_backplane_pause_publishers(self) -> None:
        """With a backplane, no room may hold its publishers: those of other nodes cannot be held."""
        for policies in (("pause-publishers",), ("latest", "a/**=pause-publishers")):
            Settings(slow_policy=policies)
            error = self.assertRaises(SettingsError, Settings, slow_policy=policies, backplane="redis://broker")
            self.assertIn("pause-publishers cannot hold the publishers of other nodes", str(error))
        Settings(slow_policy=("drop-oldest",), backplane="redis://broker")

    def test_history(self) -> None:
        """history and greet are numbers, for all rooms or by pattern; a wrong one is named."""
        for name in ("history", "greet"):
            self.assertEqual(getattr(Settings(**{name: ("a=5", "1")}), name), ("a=5", "1"))
            error = self.assertRaises(SettingsError, Settings, **{name: ("a=5", "b=x", "-1")})
            write = "write COUNT or PATTERN=COUNT with a whole number from 0 to 1000000"
            self.assertEqual(error.problems, (f"{name}: 'b=x': {write}; '-1': {write}",))

    def test_history_bytes(self) -> None:
        """History takes at most half of a room's log, if any room has history."""
        sizes = {"max_message_bytes": 1000, "room_log_bytes": 9_999}
        for rooms in ({}, {"history": ("0", "a=0")}, {"greet": ("0",)}):
            Settings(**sizes, **rooms, history_bytes=5_000)
        for rooms in ({"history": ("a=1",)}, {"greet": ("1",)}):
            Settings(**sizes, **rooms, history_bytes=4_999)
            error = self.assertRaises(SettingsError, Settings, **sizes, **rooms, history_bytes=5_000)
            problem = (
                "history_bytes: must be at most half of room_log_bytes; got 5000 and 9999: write"
                " history_bytes=4999 or less, or room_log_bytes=10000 or more"
            )
            self.assertEqual(error.problems, (problem,))
