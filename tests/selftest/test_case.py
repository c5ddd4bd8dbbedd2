"""A row of the tables."""

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.cases import CASES


class CaseTests(SynchronousTestCase):
    """A row."""

    def test_rows_are_constant(self) -> None:
        """A case cannot be changed."""
        with self.assertRaises(FrozenInstanceError):
            CASES[0].name = "other"  # type: ignore[misc]
