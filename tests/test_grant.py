"""Tests of wsrelay.grant."""

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.grant import HISTORY_RIGHTS, Grant, check_identity


class GrantTests(SynchronousTestCase):
    """The rights of a connection."""

    def test_defaults(self) -> None:
        """A new grant is anonymous, may publish and subscribe, gets all history, and never expires."""
        self.assertEqual(Grant("a"), Grant("a", None, None, True, True, None, "all"))

    def test_check_identity(self) -> None:
        """An identity has up to 255 bytes of UTF-8; a lone surrogate, which has none, is an error."""
        for identity in (None, "", "anna", "x" * 255, "\u00e9" * 127, "\U0001f40b" * 63, "a\x00\n"):
            check_identity(identity)
        for identity in ("x" * 256, "\u00e9" * 128, "x" * 4000, "\U0001f40b" * 64):
            self.assertRaisesRegex(ValueError, "^the identity is longer than 255 bytes$", check_identity, identity)
        for identity in ("\ud800", "anna\udfff", "\udc80" * 4000):
            self.assertRaisesRegex(ValueError, "^the identity has a lone surrogate$", check_identity, identity)

    def test_frozen(self) -> None:
        """Grants are immutable."""
        with self.assertRaises(FrozenInstanceError):
            Grant("a").room = "b"  # type: ignore[misc]

    def test_narrowed_fields(self) -> None:
        """Only the given fields change."""
        self.assertEqual(
            Grant("a", identity="me").narrowed(room="b", subprotocol="x"), Grant("b", identity="me", subprotocol="x")
        )
        self.assertEqual(Grant("a").narrowed(identity="you"), Grant("a", identity="you"))
        self.assertEqual(Grant("a").narrowed(), Grant("a"))

    def test_narrowed_rights(self) -> None:
        """No later validator restores a removed right."""
        narrow = Grant("a").narrowed(can_publish=False).narrowed(can_subscribe=False)

        self.assertEqual(narrow.narrowed(can_publish=True, can_subscribe=True), narrow)
        self.assertFalse(narrow.can_publish or narrow.can_subscribe)

    def test_narrowed_history(self) -> None:
        """The lesser of two histories holds, in either order."""
        for index, least in enumerate(HISTORY_RIGHTS):
            for more in HISTORY_RIGHTS[index:]:
                self.assertEqual(Grant("a", history=least).narrowed(history=more).history, least)
                self.assertEqual(Grant("a", history=more).narrowed(history=least).history, least)
            self.assertEqual(Grant("a", history=least).narrowed().history, least)

    def test_narrowed_expiry(self) -> None:
        """The earlier of two expiries holds, in either order."""
        self.assertEqual(Grant("a").narrowed(expires_at=5).expires_at, 5)
        self.assertEqual(Grant("a", expires_at=5).narrowed(expires_at=9).expires_at, 5)
        self.assertEqual(Grant("a", expires_at=9).narrowed(expires_at=5).expires_at, 5)
        self.assertEqual(Grant("a", expires_at=9).narrowed().expires_at, 9)
