"""Tests of wsrelay.rooms.invariants."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.rooms.invariants import require


class RequireTests(SynchronousTestCase):
    """Checking invariants."""

    def test_all_hold(self) -> None:
        """Nothing happens where all is well."""
        require({"a": True, "b": True})

    def test_broken(self) -> None:
        """All broken invariants are named."""
        error = self.assertRaises(AssertionError, require, {"a": False, "b": True, "c": False})

        self.assertEqual(str(error), "a; c")
