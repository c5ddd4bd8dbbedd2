"""Cases of refusals."""

from tests.harness.selftest import SelftestCase, replacing
from tests.harness.support import Answer
from wsrelay.errors import Denied
from wsrelay.selftest.target import Target

TOKEN = Target.from_url("ws://relay.example/", token="secret")


class RefusalsTests(SelftestCase):
    """Servers that refuse otherwise, or not at all."""

    def test_accepted(self) -> None:
        """A wrong handshake that is accepted fails the case."""
        for name, old, new in (
            ("version", b"Version: 99", b"Version: 13"),
            ("no-key", b"Upgrade: websocket", b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
            ("method", b"PUT", b"GET"),
        ):
            self.assert_result(self.attempt(name, up=replacing(old, new)), "fails", "accepted: 101")

    def test_version_without_field(self) -> None:
        """A refusal that names no version fails the case."""
        result = self.attempt("version", down=replacing(b"Sec-WebSocket-Version", b"X"))
        self.assert_result(result, "fails", "426 without Sec-WebSocket-Version")

    def test_another_response(self) -> None:
        """A server error, and an end without a response, differ."""
        result = self.attempt("no-key", down=replacing(b"400 Bad Request", b"500 Internal Server Error"))
        self.assert_result(result, "differs", "answered with 500")
        self.assert_result(self.attempt("no-key", down=lambda _data: b""), "differs", "ended without a response")

    def test_origin(self) -> None:
        """A server for pages of all sites differs."""
        self.assert_result(self.attempt("foreign-origin", validators=()), "differs", "may connect")

    def test_token(self) -> None:
        """A server that needs no token differs; one that does passes."""
        self.assert_result(self.attempt("no-token", target=TOKEN), "differs", "accepted without the token")
        denying = Answer(Denied(401, "no token"))
        self.assert_result(self.attempt("no-token", target=TOKEN, validators=(denying,)), "pass", "401 no token")

    def test_explained(self) -> None:
        """A relay that explains its refusals (--explain-refusals) refuses; also the probe, and a member."""
        result = self.attempt("foreign-origin", explain_refusals=True)
        self.assert_result(result, "pass", "403 ")
        denying = Answer(Denied(401, "no token"))
        self.assert_result(
            self.attempt("no-token", target=TOKEN, validators=(denying,), explain_refusals=True), "pass", "401 no token"
        )

    def test_garbage(self) -> None:
        """The end of TCP, and another protocol, pass; silence differs."""
        for change, verdict, seen in (
            (lambda _data: b"", "pass", "TCP was ended"),
            (lambda _data: b"\x15\3\3\0\2\2F", "pass", "answered in another way"),
        ):
            self.assert_result(self.attempt("garbage", down=change), verdict, seen)
        self.assert_result(self.attempt("garbage", up=lambda _data: b"", handshake_seconds=60), "differs", "neither")

    def test_slow_request(self) -> None:
        """A server that waits for longer differs; the end of TCP without a response passes."""
        self.assert_result(self.attempt("slow-request", handshake_seconds=60), "differs", "still open after 20 s")
        result = self.attempt("slow-request", down=lambda data: b"" if b" 408 " in data else data)
        self.assert_result(result, "pass", "TCP was ended after 10 s")
