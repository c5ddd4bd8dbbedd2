"""Tests of wsrelay.commands.relay_toml."""

import re
import tomllib

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.commands.relay_toml import relay_toml
from wsrelay.settings import OPTIONS, Settings, check_value


class RelayTomlTests(SynchronousTestCase):
    """The config file that ``init`` writes."""

    def test_all_options(self) -> None:
        """Each option stands there once on a line of its own, with its help above; those in use without "# "."""
        text = relay_toml()
        lines = text.splitlines()
        words = " ".join(text.replace("\n# ", " ").split())
        for option in OPTIONS.values():
            self.assertEqual(len([line for line in lines if line.startswith(f"{option.name} = ")]) <= 1, True)
            self.assertTrue(any(re.match(f"(# )?{option.name} = ", line) for line in lines), option.name)
            self.assertIn(option.help, words)

    def test_defaults(self) -> None:
        """The lines in comments are valid, and the default; without them the file is right, too."""
        chosen = tomllib.loads(relay_toml())
        defaults = {}
        for line in relay_toml().splitlines():
            found = re.match("# (([a-z-]+) = .*)", line)
            if found and found[2] not in chosen:
                defaults |= tomllib.loads(found[1])
        self.assertEqual(sorted({*chosen, *defaults}), sorted(option.name for option in OPTIONS.values()))
        for name, value in defaults.items():
            self.assertIsNone(check_value(name.replace("-", "_"), value)[1], name)

    def test_uncommented(self) -> None:
        """Without the "# " of all lines in comments nothing changes, also for what follows other options."""
        chosen = tomllib.loads(relay_toml())
        lines = re.findall("^# ([a-z-]+ = .*)$", relay_toml(), re.MULTILINE)
        given = {
            name.replace("-", "_"): check_value(name.replace("-", "_"), value)[0]
            for line in lines
            for name, value in tomllib.loads(line).items()
            if name not in chosen
        }
        for more in ({}, {"max_message_bytes": 2**24}):
            self.assertEqual(Settings(**(given | more)), Settings(**more))

    def test_default_of_a_list(self) -> None:
        """What an empty list means is said."""
        self.assertRegex(relay_toml(), "Default: disconnect.\n# slow-policy = \\[\\]\n")

    def test_safe(self) -> None:
        """The relay is for this machine only, and wants a token."""
        chosen = tomllib.loads(relay_toml())
        self.assertEqual(chosen["listen"], ["127.0.0.1:8080"])
        self.assertTrue(any(each.startswith("token:") for each in chosen["validate"]))

    def test_alternatives(self) -> None:
        """Values that are offered in a comment are valid TOML, and comments fit a terminal."""
        offered = re.findall("^# ((?:listen|validate) = .*)$", relay_toml(), re.MULTILINE)
        self.assertEqual(len(offered), 2)
        for line in offered:
            tomllib.loads(line)
        long = [line for line in relay_toml().splitlines() if len(line) > 120 and " = " not in line]
        self.assertEqual(long, [])
