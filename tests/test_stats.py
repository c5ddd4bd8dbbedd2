"""Tests of wsrelay.stats."""

import inspect
from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.stats import Stats


class StatsTests(SynchronousTestCase):
    """The counters."""

    def test_everything_starts_at_nothing(self) -> None:
        """A new relay has done nothing yet."""
        for field in fields(Stats):
            self.assertFalse(getattr(Stats(), field.name), field.name)

    def test_counters_are_not_shared(self) -> None:
        """Two relays in one process count apart."""
        one, other = Stats(), Stats()
        one.closes_sent[1001] += 1

        self.assertEqual(other.closes_sent, {})

    def test_every_counter_is_explained(self) -> None:
        """Each field has its line in the docstring."""
        for field in fields(Stats):
            self.assertIn(f"\n    {field.name}: ", inspect.getdoc(Stats) or "")
