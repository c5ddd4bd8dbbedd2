"""Tests of wsrelay.cli.options."""

from dataclasses import fields

from twisted.internet.endpoints import _parseServer
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.options import FLAGS, OPTIONS, PARAMETERS, REPEATABLE
from wsrelay.errors import SettingsError
from wsrelay.option import GROUPS
from wsrelay.settings import ENDPOINTS, Settings


class TableTests(SynchronousTestCase):
    """The table."""

    def test_options_are_the_settings(self) -> None:
        """Every setting is an option; the others are the config file and actions."""
        settings = {field.name for field in fields(Settings)}

        self.assertEqual({name.replace("-", "_") for name in (*PARAMETERS, *FLAGS, *REPEATABLE)}, settings | {"config"})
        actions = {option.name for option in OPTIONS if option.kind == "action"}
        self.assertEqual(actions, {"check-config", "help", "help-validators", "version"})
        self.assertEqual(actions & settings, set())

    def test_groups(self) -> None:
        """Each option stands under a heading, those of one heading stand together, and no heading is empty."""
        groups = list(dict.fromkeys(option.group for option in OPTIONS))

        self.assertEqual(groups, list(GROUPS))
        self.assertEqual([option.group for option in OPTIONS], sorted((o.group for o in OPTIONS), key=groups.index))
        self.assertEqual(len({option.name for option in OPTIONS}), len(OPTIONS))

    def test_texts(self) -> None:
        """Help and detail are sentences; the consequence of a limit stands within a sentence."""
        for option in OPTIONS:
            self.assertRegex(option.help, r"^[A-Z][^`]*\.$")
            self.assertRegex(option.detail, r"^([A-Z`].*\.)?$")
            self.assertFalse(option.exceeded.endswith("."), option.name)

    def test_defaults(self) -> None:
        """Every option but actions shows a default, also where the default is empty."""
        for option in OPTIONS:
            self.assertEqual(bool(option.default), option.kind != "action", option.name)

    def test_limits(self) -> None:
        """Every number but one is a limit, and says what happens when it is exceeded."""
        numbers = {field.name.replace("_", "-") for field in fields(Settings) if type(field.default) in (int, float)}

        self.assertEqual({option.name for option in OPTIONS if option.exceeded}, numbers - {"compress-min-bytes"})

    def test_off(self) -> None:
        """Every limit that may be 0 says what 0 means."""
        for option in OPTIONS:
            if option.exceeded:
                try:
                    Settings(**{option.name.replace("-", "_"): 0})  # type: ignore[arg-type]
                except SettingsError:
                    self.assertNotIn("0 is", option.help)
                else:
                    self.assertIn("0 is", option.help)

    def test_endpoints(self) -> None:
        """Twisted knows the endpoints that are offered."""
        for endpoint in ENDPOINTS:
            try:
                _parseServer(endpoint + "x", None)
            except Exception as error:  # noqa: BLE001 - missing arguments are fine
                self.assertNotIn("Unknown endpoint type", str(error))
