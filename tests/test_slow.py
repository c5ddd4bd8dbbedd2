"""Tests of wsrelay.slow; doing what the policies say is ``tests/rooms/test_room.py``'s."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.slow import DISCONNECT, SLOW_POLICIES


class TableTests(SynchronousTestCase):
    """The table."""

    def test_names(self) -> None:
        """Each is found by its name; the first is what is done where nothing was chosen."""
        self.assertEqual([*SLOW_POLICIES], ["disconnect", "drop-oldest", "latest", "pause-publishers"])
        self.assertEqual(
            {name: policy.name for name, policy in SLOW_POLICIES.items()}, {name: name for name in SLOW_POLICIES}
        )
        self.assertIs(SLOW_POLICIES["disconnect"], DISCONNECT)

    def test_who_is_evicted(self) -> None:
        """Those policies that let nobody miss a message in silence evict; the others keep less than all of the log."""
        self.assertEqual(
            [name for name, policy in SLOW_POLICIES.items() if policy.evicts], ["disconnect", "pause-publishers"]
        )
        for policy in SLOW_POLICIES.values():
            self.assertLess(policy.keep or 0, 1)
