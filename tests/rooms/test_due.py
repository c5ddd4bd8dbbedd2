"""wsrelay.rooms.due: what is left to do at the end of a turn."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.rooms.due import Due


class DueTests(SynchronousTestCase):
    """The values."""

    def test_nothing(self) -> None:
        """Nothing to do is the only false value, which the hub tests."""
        self.assertEqual([due for due in Due if not due], [Due.NOTHING])
