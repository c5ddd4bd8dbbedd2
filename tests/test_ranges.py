"""Tests of wsrelay.ranges; that settings are checked: tests/test_settings.py."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from wsrelay import ranges


class RangeTests(SynchronousTestCase):
    """Ranges."""

    def test_bounds(self) -> None:
        """Each range has the value 0 only if that means something else, and no value below it or above its maximum."""
        for name in set(ranges.__all__) - {"MOST_BYTES"}:
            range_: Any = getattr(ranges, name)
            for value, is_allowed in [(1, True), (0, name.endswith(("Off", "Derived"))), (-1, False), (2**63, False)]:
                with self.subTest(name, value=value):
                    self.assertEqual(self.allows(range_, value), is_allowed)

    def allows(self, range_: Any, value: int) -> bool:
        """Return whether a value is in a range."""
        try:
            msgspec.convert(value, range_)
        except msgspec.ValidationError:
            return False
        return True
