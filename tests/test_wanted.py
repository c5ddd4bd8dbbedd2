"""wsrelay.wanted: what is wanted where nothing is said."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.wanted import ALL_NEW, Start


class WantedTests(SynchronousTestCase):
    """Defaults."""

    def test_nothing(self) -> None:
        """Nothing is asked for; the room may greet."""
        self.assertEqual(ALL_NEW, (None, None, None, True))

    def test_start(self) -> None:
        """A member of a room without history starts without an id, and nothing is gone."""
        self.assertEqual(Start(), (None, False))
