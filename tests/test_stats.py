"""Tests of wsrelay.stats."""

import inspect
from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.stats import BackplaneStats, ConnectionStatus, Histogram, RoomStatus, Stats


class StatsTests(SynchronousTestCase):
    """The counters."""

    def test_everything_starts_at_nothing(self) -> None:
        """A new relay has done nothing yet."""
        for stats in (Stats(), BackplaneStats()):
            for field in fields(stats):
                if field.name != "backplane":
                    self.assertFalse(getattr(stats, field.name), field.name)

    def test_counters_are_not_shared(self) -> None:
        """Two relays in one process count apart."""
        one, other = Stats(), Stats()
        one.closes_sent[1001] += 1

        self.assertEqual(other.closes_sent, {})

    def test_every_counter_is_explained(self) -> None:
        """Each field has its line in the docstring."""
        for field in fields(Stats):
            self.assertIn(f"\n    {field.name}: ", inspect.getdoc(Stats) or "")


class HistogramTests(SynchronousTestCase):
    """Counting by size."""

    def test_bounds_are_included(self) -> None:
        """A value that equals a bound falls under it, as Prometheus' "less or equal" wants; a larger one beyond."""
        histogram = Histogram((1, 10))
        for value in (0, 1, 1.5, 10, 11, 1e9):
            histogram.observe(value)

        self.assertEqual(histogram.counts, [2, 2, 2])
        self.assertEqual(histogram.total, 0 + 1 + 1.5 + 10 + 11 + 1e9)

    def test_empty(self) -> None:
        """Nothing observed is false; a single 0 is something."""
        histogram = Histogram((1,))
        self.assertFalse(histogram)
        histogram.observe(0)
        self.assertTrue(histogram)


class StatusTests(SynchronousTestCase):
    """Plain data."""

    def test_every_field_is_explained(self) -> None:
        """Each field has its line in the docstring."""
        for status in (RoomStatus, ConnectionStatus):
            for field in fields(status):
                self.assertIn(f"\n    {field.name}: ", inspect.getdoc(status) or "")
