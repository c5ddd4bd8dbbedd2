"""Tests of wsrelay.connection.sweep. Deadlines: tests/connection/test_closing.py and test_pings.py."""

from twisted.internet.task import Clock
from twisted.logger import LogLevel

from tests.harness.support import RelayTestCase
from wsrelay.connection.context import SWEEP_SECONDS
from wsrelay.connection.sweep import Sweep
from wsrelay.stats import Stats


class SweepTests(RelayTestCase):
    """The housekeeping tick."""

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

    def test_sweep_steps(self) -> None:
        """Each step is called with the time, twice a second, until the sweep stops."""
        sweep = self.sweep()
        self.clock.pump([SWEEP_SECONDS] * 2)
        sweep.stop()
        sweep.stop()
        self.clock.pump([SWEEP_SECONDS] * 2)

        self.assertEqual(self.times, [SWEEP_SECONDS, 2 * SWEEP_SECONDS])

    def test_sweep_step_fails(self) -> None:
        """An exception of a step is logged and counted; the other steps run."""
        self.sweep(lambda now: 1 / 0)
        self.clock.advance(SWEEP_SECONDS)

        self.assertEqual((len(self.times), self.stats.failures), (1, 1))
        [line] = self.logged(LogLevel.critical)
        self.assertIn("a step of the sweep failed", line)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_reactor_lag(self) -> None:
        """The lag of a sweep is observed; an early one has none."""
        self.sweep()
        self.clock.pump([SWEEP_SECONDS, SWEEP_SECONDS + 0.25, SWEEP_SECONDS - 0.25])

        self.assertEqual(len(self.times), 3)
        self.assertAlmostEqual(self.stats.reactor_lag_seconds.total, 0.25)
