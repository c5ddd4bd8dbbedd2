"""Tests of wsrelay.histogram."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.histogram import Histogram


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
