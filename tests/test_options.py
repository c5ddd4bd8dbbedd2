"""Tests of wsrelay.options."""

import re
from dataclasses import fields
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.options import FLAGS, PARAMETERS, REPEATABLE
from wsrelay.settings import Settings

REFERENCE = Path(__file__).parent.parent / "docs" / "options.md"


class TableTests(SynchronousTestCase):
    """Options, settings and the reference page are the same list."""

    def test_options_are_the_settings(self) -> None:
        """Every setting is an option and the other way round."""
        options = {*PARAMETERS, *FLAGS, *REPEATABLE}

        self.assertEqual({name.replace("-", "_") for name in options}, {field.name for field in fields(Settings)})

    def test_options_are_documented(self) -> None:
        """Every option has its row in docs/options.md, with the default; the page has no other rows."""
        rows = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]*) \|", REFERENCE.read_text("utf-8"), re.MULTILINE))
        defaults = {field.name.replace("_", "-"): field.default for field in fields(Settings)}

        self.assertEqual(set(rows), {*defaults, "config", "version", "help-validators"})
        for option in PARAMETERS:
            self.assertEqual(
                rows[option].strip(),
                f"{defaults[option]:g}" if isinstance(defaults[option], float) else str(defaults[option]),
            )
