"""Tests of wsrelay.logs.limiter."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.logs.limiter import LINES_PER_TICK, Limiter


class LimiterTests(SynchronousTestCase):
    """Lines of kinds."""

    def admitted(self, limiter: Limiter[str], kind: str, lines: int) -> int:
        """Return how many of the lines pass."""
        return sum(limiter.admit(kind) for _ in range(lines))

    def test_burst(self) -> None:
        """The first lines of each kind pass; the rest is counted per kind."""
        limiter = Limiter[str](3, 2)

        self.assertEqual([self.admitted(limiter, kind, lines) for kind, lines in (("a", 5), ("b", 2))], [3, 2])
        self.assertEqual(limiter.tick(), {"a": 2})

    def test_refill(self) -> None:
        """A tick refills a bucket up to its burst; an idle kind is forgotten."""
        limiter = Limiter[str](3, 2)
        self.admitted(limiter, "a", 100)
        limiter.tick()

        self.assertEqual(self.admitted(limiter, "a", 100), 2)
        self.assertTrue(limiter)
        self.assertEqual(limiter.tick(), {"a": 98})
        self.assertEqual(limiter.tick(), {})
        self.assertFalse(limiter)
        self.assertEqual(self.admitted(limiter, "a", 100), 3)

    def test_default(self) -> None:
        """By default every tick allows the same number."""
        limiter = Limiter[str]()
        for _ in range(3):
            self.assertEqual(self.admitted(limiter, "a", 2 * LINES_PER_TICK), LINES_PER_TICK)
            limiter.tick()
