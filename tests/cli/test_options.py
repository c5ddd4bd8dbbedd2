"""Tests of wsrelay.cli.options."""

from dataclasses import fields

from twisted.internet.endpoints import _parseServer
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.option import GROUPS
from wsrelay.cli.options import ENDPOINTS, FLAGS, OPTIONS, PARAMETERS, REPEATABLE
from wsrelay.settings import Settings


class TableTests(SynchronousTestCase):
    """The table."""

    def test_options_are_the_settings(self) -> None:
        """Every setting is an option and the other way round, but for the config file and what does something else."""
        settings = {field.name for field in fields(Settings)}

        self.assertEqual({name.replace("-", "_") for name in (*PARAMETERS, *FLAGS, *REPEATABLE)}, settings | {"config"})
        actions = {option.name for option in OPTIONS if option.kind == "action"}
        self.assertEqual(actions, {"check-config", "help", "help-validators", "version"})
        self.assertEqual(actions & settings, set())

    def test_kinds(self) -> None:
        """The kind of an option is that of its setting."""
        types = {field.name: type(field.default) for field in fields(Settings)}
        kinds = {bool: "flag", tuple: "repeatable", int: "value", float: "value", str: "value"}

        for option in OPTIONS:
            if option.field in types:
                self.assertEqual(option.kind, kinds[types[option.field]], option.name)

    def test_groups(self) -> None:
        """Each option stands under a heading, those of one heading stand together, and no heading is empty."""
        groups = list(dict.fromkeys(option.group for option in OPTIONS))

        self.assertEqual(groups, list(GROUPS))
        self.assertEqual([option.group for option in OPTIONS], sorted((o.group for o in OPTIONS), key=groups.index))
        self.assertEqual(len({option.name for option in OPTIONS}), len(OPTIONS))

    def test_texts(self) -> None:
        """Help and detail are sentences; what happens beyond a limit stands within one."""
        for option in OPTIONS:
            self.assertRegex(option.help, r"^[A-Z].*\.$")
            self.assertRegex(option.detail, r"^([A-Z`].*\.)?$")
            self.assertFalse(option.beyond.endswith("."), option.name)

    def test_repeatable_defaults(self) -> None:
        """An option that may be repeated says what an empty list means; others leave it to their setting."""
        for option in OPTIONS:
            self.assertEqual(
                bool(option.default), option.kind == "repeatable" or option.name in ("admin", "config"), option.name
            )

    def test_endpoints(self) -> None:
        """Twisted knows the endpoints that are offered."""
        for endpoint in ENDPOINTS:
            try:
                _parseServer(endpoint + "x", None)
            except Exception as error:  # noqa: BLE001 - some arguments are missing, which is all that may be
                self.assertNotIn("Unknown endpoint type", str(error))
