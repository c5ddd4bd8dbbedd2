"""Tests of wsrelay.tally."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.tally import NOTHING, minus, plus


class TallyTests(SynchronousTestCase):
    """Adding and subtracting."""

    def test_plus_and_minus(self) -> None:
        """What is added can be taken off."""
        self.assertEqual(plus((1, 20), (3, 5)), (4, 25))
        self.assertEqual(minus((4, 25), (3, 5)), (1, 20))

    def test_marks_and_what_was_given(self) -> None:
        """A mark becomes what was given, and the other way round, by one and the same step."""
        given, flushed = (1, 20), (9, 90)
        self.assertEqual(minus(flushed, minus(flushed, given)), given)

    def test_who_comes_new_shares(self) -> None:
        """The marks of all who join an idle room are one object: thousands cost no memory."""
        flushed = (9, 90)
        self.assertIs(minus(flushed, NOTHING), flushed)
