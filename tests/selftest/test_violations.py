"""Cases of broken rules."""

from tests.harness.selftest import SelftestCase
from wsrelay.selftest.violations import VIOLATIONS, Violation


class ViolationsTests(SelftestCase):
    """For each rule: a server that does not see it, one that relays it, and others that end it in another way."""

    def test_not_seen(self) -> None:
        """A server that does not close fails the case if the RFC says that it must, else it differs."""
        for violation in VIOLATIONS:
            result = self.attempt(violation.name, up=_instead(violation, b""))
            self.assert_result(result, "fails" if violation.must_fail else "differs", "not closed")

    def test_relayed(self) -> None:
        """The same for what is relayed."""
        for violation in VIOLATIONS:
            result = self.attempt(violation.name, up=_instead(violation, b"\x81\x82\0\0\0\0it"))
            self.assert_result(
                result, "fails" if violation.must_fail else "differs", "not closed; it was relayed: b'it'"
            )

    def test_another_end(self) -> None:
        """Another code, or none, differs."""
        violation = VIOLATIONS[0]
        for frame, seen in (
            (b"\x88\x82\0\0\0\0\x03\xe8", "closed with 1000, no reason"),
            (b"\x88\x80\0\0\0\0", "closed without a code"),
        ):
            self.assert_result(self.attempt(violation.name, up=_instead(violation, frame)), "differs", seen)

    def test_cut(self) -> None:
        """An end without a close frame differs."""
        result = self.attempt("unmasked", down=lambda data: b"" if data[:1] == b"\x88" and b"mask" in data else data)
        self.assert_result(result, "differs", "cut without a close frame")


def _instead(violation: Violation, frame: bytes):  # type: ignore[no-untyped-def]
    """Return a change of the frames of a violation."""
    return lambda data: frame if data == violation.data else data
