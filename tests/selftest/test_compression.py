"""Cases of permessage-deflate."""

from tests.harness.selftest import SelftestCase, replacing
from wsrelay.selftest.compression import _TEXT
from wsrelay.selftest.lab import Bounds


class CompressionTests(SelftestCase):
    """Servers that decline, or do it wrong."""

    def test_declined(self) -> None:
        """A server that declines differs; what needs it is not tried."""
        declining = replacing(b"Sec-WebSocket-Extensions: permessage-deflate", b"X: ")
        self.assert_result(self.attempt("deflate", down=declining), "differs", "declined")
        for name in ("deflate-bomb", "deflate-damaged"):
            self.assert_result(self.attempt(name, down=declining), "skipped", "permessage-deflate was declined")

    def test_changed(self) -> None:
        """Another message fails the case."""
        result = self.attempt("deflate", down=replacing(_TEXT[:20], _TEXT[:20].upper()))
        self.assert_result(result, "fails", "the plain listener got another message")

    def test_a_low_limit(self) -> None:
        """The message is no longer than the limit that was told, and is text still."""
        for size in (500, 501):
            bounds = Bounds(max_message_bytes=len(b"wsrelay selftest, g") + size)
            self.assert_result(self.attempt("deflate", bounds=bounds), "pass", "arrived at a listener with")

    def test_bomb(self) -> None:
        """A server without a limit on what is inflated differs."""
        result = self.attempt("deflate-bomb", max_message_bytes=2**23, room_log_bytes=2**25)
        self.assert_result(result, "differs", "inflate to 8388608: delivered")

    def test_damaged(self) -> None:
        """Data that does not inflate must not be relayed, must end its sender, and should do so with a code."""
        damaged = b"\xff\xfe\xfd"
        relayed = self.attempt("deflate-damaged", up=_instead(b"\x82\x83\0\0\0\0" + damaged))
        self.assert_result(relayed, "fails", "it was relayed")
        ignored = self.attempt("deflate-damaged", up=_instead(b""))
        self.assert_result(ignored, "fails", "not closed")
        mute = self.attempt("deflate-damaged", up=_instead(b"\x88\x80\0\0\0\0"))
        self.assert_result(mute, "differs", "closed without a code")


def _instead(frame: bytes):  # type: ignore[no-untyped-def]
    """Return a change of the compressed binary message of three bytes."""
    return lambda data: frame if data[:2] == b"\xc2\x83" else data
