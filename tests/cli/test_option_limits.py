"""Tests of wsrelay.cli.option_limits."""

from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.cli.option_limits import LIMITS
from wsrelay.errors import SettingsError
from wsrelay.settings import Settings


class LimitTests(SynchronousTestCase):
    """The rows of options that are numbers."""

    def test_numbers(self) -> None:
        """They are all the settings that are numbers."""
        numbers = {field.name for field in fields(Settings) if type(field.default) in (int, float)}

        self.assertEqual({option.field for option in LIMITS}, numbers)
        self.assertEqual({option.kind for option in LIMITS}, {"value"})

    def test_beyond(self) -> None:
        """What limits clients says what happens beyond it: a status, a close code, or in words."""
        without = {option.name for option in LIMITS if not option.beyond}

        self.assertEqual(without, {"compress-min-bytes", "burst-seconds", "drain-seconds"})

    def test_off(self) -> None:
        """Whatever may be 0 says what that means."""
        for option in LIMITS:
            try:
                Settings(**{option.field: 0})
            except SettingsError:
                self.assertNotIn("0 is", option.help)
            else:
                self.assertTrue("0 is" in option.help or option.name == "compress-min-bytes", option.name)
