"""Cases of fragments and control frames."""

from tests.harness.selftest import SelftestCase, replacing, same


class ControlTests(SelftestCase):
    """Servers that do it otherwise are found."""

    def test_fragments(self) -> None:
        """A message that arrives changed fails the case; one that arrives in fragments passes."""
        whole = b"\x81\x0done two three"
        changed = self.attempt("fragments", down=replacing(whole, b"\x81\4one "))
        self.assert_result(changed, "fails", "arrived changed: b'one '")
        fragments = self.attempt("fragments", down=replacing(whole, b"\1\4one \x80\x09two three"))
        self.assert_result(fragments, "pass", "arrived as one message in 2 frames")

    def test_ping(self) -> None:
        """Another payload fails the case, and so does a close."""
        wrong = self.attempt("ping", down=replacing(b"\x8a\2\0\xff", b"\x8a\2\0\xfe"))
        self.assert_result(wrong, "fails", "a ping of 2 bytes got a pong of 2 other ones")
        closed = self.attempt("ping", down=replacing(b"\x8a\2\0\xff", b"\x88\0"))
        self.assert_result(closed, "fails", "the client was closed without a code")

    def test_pings_of_the_server(self) -> None:
        """Pings of the server do not matter."""
        result = self.attempt("ping", down=replacing(b"\x8a\2\0\xff", b"\x89\0\x8a\2\0\xff"))
        self.assert_result(result, "pass", "a pong with the same 0, 2 and 125 bytes")

    def test_close(self) -> None:
        """No answer, another code, no end: found."""
        echo = b"\x88\x02\x03\xe8"
        other = self.attempt("close", down=replacing(echo, b"\x88\x02\x03\xe9"))
        self.assert_result(other, "differs", "answered with 1001")
        mute = self.attempt("close", down=replacing(echo, b"\x88\0"))
        self.assert_result(mute, "differs", "answered with no code")
        silent = self.attempt("close", down=replacing(echo, b""))
        self.assert_result(silent, "fails", "TCP was ended without a close frame")

    def test_close_without_an_end(self) -> None:
        """A server that does not end TCP differs; one that does not answer at all fails the case."""

        def no_close(data: bytes) -> bytes:
            return b"" if data[:1] == b"\x88" else same(data)

        self.assert_result(self.attempt("close-without-code", up=no_close), "fails", "no close frame came back")
        answered = self.attempt(
            "close-without-code",
            up=lambda data: b"\x89\x80abcd" if data[:2] == b"\x88\x80" else data,
            down=replacing(b"\x8a\0", b"\x88\0"),
        )
        self.assert_result(answered, "differs", "answered, but TCP was not ended")
