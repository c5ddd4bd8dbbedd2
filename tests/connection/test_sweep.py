"""Tests of wsrelay.connection.sweep; deadlines of connections are in tests/test_factory.py and
tests/test_connection.py.
"""

from twisted.internet.task import Clock
from twisted.logger import LogLevel

from tests.harness.support import RelayTestCase
from wsrelay.connection.sweep import SWEEP_SECONDS, Sweep
from wsrelay.stats import Stats


class SweepTests(RelayTestCase):
    """What a sweep does beside looking at connections."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.stats = Stats()
        self.times: list[float] = []

    def sweep(self, *steps: object) -> Sweep:
        sweep = Sweep(set(), set(), [*steps, self.times.append], self.stats, self.clock)
        sweep.start()
        sweep.start()
        return sweep

    def test_steps(self) -> None:
        """Each step gets the time, twice a second, until it is stopped."""
        sweep = self.sweep()
        self.clock.pump([SWEEP_SECONDS] * 2)
        sweep.stop()
        sweep.stop()
        self.clock.pump([SWEEP_SECONDS] * 2)

        self.assertEqual(self.times, [SWEEP_SECONDS, 2 * SWEEP_SECONDS])

    def test_a_step_that_fails(self) -> None:
        """What a step raises is logged and counted, and the others are done all the same."""
        self.sweep(lambda now: 1 / 0)
        self.clock.advance(SWEEP_SECONDS)

        self.assertEqual((len(self.times), self.stats.failures), (1, 1))
        [line] = self.logged(LogLevel.critical)
        self.assertIn("a step of the sweep failed", line)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_how_late_the_reactor_is(self) -> None:
        """How late a sweep comes is observed; one that comes early, to make up for the last one, is not late."""
        self.sweep()
        self.clock.pump([SWEEP_SECONDS, SWEEP_SECONDS + 0.25, SWEEP_SECONDS - 0.25])

        self.assertEqual(len(self.times), 3)
        self.assertAlmostEqual(self.stats.reactor_lag_seconds.total, 0.25)
