"""Cases of sizes."""

from tests.harness.selftest import BOUNDS, SelftestCase, replacing
from wsrelay.selftest.lab import Bounds


class SizesTests(SelftestCase):
    """Servers with other limits, or none, are found."""

    def test_lengths(self) -> None:
        """A message of another length fails the case."""
        result = self.attempt("lengths", down=replacing(b"\x82\x7d" + b"\x80" * 125, b"\x82\x7c" + b"\x80" * 124))
        self.assert_result(result, "fails", "125 bytes were sent, others arrived: 124 bytes")

    def test_told(self) -> None:
        """Of the lengths those are tried that the limit lets pass, if it was told; one that was not told differs."""
        result = self.attempt("lengths", bounds=Bounds(max_message_bytes=1000))
        self.assert_result(result, "pass", "1, 125, 126, 127 bytes arrived")
        result = self.attempt("lengths", max_message_bytes=1000)
        self.assert_result(result, "differs", "the publisher was closed with 1009")

    def test_one_type(self) -> None:
        """A room that takes one type of messages differs, as it may."""
        result = self.attempt("lengths", message_type=("text",))
        self.assert_result(result, "differs", "the publisher was closed with 1003")
        self.assertIn("takes one type of messages only", result.means)

    def test_a_lower_limit(self) -> None:
        """A server with a lower limit differs."""
        result = self.attempt("largest", max_message_bytes=BOUNDS.max_message_bytes - 1)
        self.assert_result(result, "differs", "131072 bytes: closed with 1009 “message too big: 131071 bytes at most”")

    def test_the_largest_is_changed(self) -> None:
        """A message that arrives changed fails the case."""
        result = self.attempt("largest", down=replacing(b"xx", b"xy"))
        self.assert_result(result, "fails", "131072 bytes did not arrive as they were sent")

    def test_a_higher_limit(self) -> None:
        """A server with a higher limit differs, also if it delivers more than is read."""
        for name in ("too-big", "too-big-in-fragments"):
            result = self.attempt(name, max_message_bytes=2**19)
            self.assert_result(result, "differs", "131073 bytes: delivered")
        huge = replacing(b"\x82\x7f" + (2**17 + 1).to_bytes(8, "big"), b"\x82\x7f" + (2**40).to_bytes(8, "big"))
        self.assert_result(self.attempt("too-big", max_message_bytes=2**19, down=huge), "differs", "delivered")

    def test_another_code(self) -> None:
        """A server that closes with another code differs."""
        result = self.attempt("too-big", down=replacing(b"\x03\xf1message too big", b"\x03\xeamessage too big"))
        self.assert_result(result, "differs", "closed with 1002 “message too big: 131072 bytes at most”, not delivered")
