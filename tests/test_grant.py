"""Tests of wsrelay.grant."""

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.grant import Grant


class GrantTests(SynchronousTestCase):
    """What a handshake is granted."""

    def test_everything_by_default(self) -> None:
        """A fresh grant lets an anonymous client publish and subscribe for ever."""
        self.assertEqual(Grant("a"), Grant("a", None, None, True, True, None))

    def test_frozen(self) -> None:
        """Nobody changes a grant behind the chain's back."""
        with self.assertRaises(FrozenInstanceError):
            Grant("a").room = "b"  # type: ignore[misc]

    def test_narrowed_changes_what_is_given(self) -> None:
        """Only the named fields change."""
        self.assertEqual(
            Grant("a", identity="me").narrowed(room="b", subprotocol="x"), Grant("b", identity="me", subprotocol="x")
        )
        self.assertEqual(Grant("a").narrowed(identity="you"), Grant("a", identity="you"))
        self.assertEqual(Grant("a").narrowed(), Grant("a"))

    def test_rights_do_not_come_back(self) -> None:
        """What one validator took, a later one cannot give."""
        narrow = Grant("a").narrowed(can_publish=False).narrowed(can_subscribe=False)

        self.assertEqual(narrow.narrowed(can_publish=True, can_subscribe=True), narrow)
        self.assertFalse(narrow.can_publish or narrow.can_subscribe)

    def test_earlier_expiry_wins(self) -> None:
        """Of two expiries the earlier holds, whichever comes first."""
        self.assertEqual(Grant("a").narrowed(expires_at=5).expires_at, 5)
        self.assertEqual(Grant("a", expires_at=5).narrowed(expires_at=9).expires_at, 5)
        self.assertEqual(Grant("a", expires_at=9).narrowed(expires_at=5).expires_at, 5)
        self.assertEqual(Grant("a", expires_at=9).narrowed().expires_at, 9)
