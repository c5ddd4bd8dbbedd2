"""Cases of handshakes."""

from tests.harness.selftest import SelftestCase, replacing
from tests.harness.support import Answer
from wsrelay.errors import Denied
from wsrelay.selftest.target import Target
from wsrelay.validators.subprotocol import SubprotocolValidator


class OpeningTests(SelftestCase):
    """What is wrong with a 101 is found."""

    def test_wrong_101(self) -> None:
        """A wrong field fails the case."""
        for old, new, seen in (
            (b"Upgrade: websocket", b"Upgrade: other", "no “Upgrade: websocket”"),
            (b"Connection: Upgrade", b"Connection: close", "no “Connection: Upgrade”"),
            (b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: a", "Sec-WebSocket-Accept is wrong"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: a\r\n\r\n", "the subprotocol 'a' was not offered"),
            (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: a\r\n\r\n", "an extension was agreed that was not offered"),
        ):
            self.assert_result(self.attempt("handshake", down=replacing(old, new)), "fails", seen)

    def test_subprotocol(self) -> None:
        """The chosen one is shown; one that was not offered fails the case."""
        target = Target.from_url("ws://relay.example/", subprotocol="chat")
        chosen = replacing(b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n")
        self.assert_result(self.attempt("handshake", target=target, down=chosen), "pass", "subprotocol chat")
        self.assert_result(
            self.attempt("subprotocol", target=target, down=chosen), "pass", "chat chosen of: chat, x-wsrelay-selftest"
        )
        self.assert_result(self.attempt("subprotocol"), "pass", "none chosen of: x-wsrelay-selftest")
        self.assert_result(self.attempt("subprotocol", down=chosen), "fails", "the subprotocol 'chat' was not offered")

    def test_extension(self) -> None:
        """An unknown extension that is agreed fails the case."""
        agreed = replacing(b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x-wsrelay-selftest\r\n\r\n")
        self.assert_result(
            self.attempt("unknown-extension", down=agreed), "fails", "'x-wsrelay-selftest', which nobody"
        )

    def test_refused(self) -> None:
        """A handshake that is refused fails the case; one that meets a limit is said to."""
        for status, verdict in ((401, "fails"), (429, "differs")):
            for name in ("handshake", "subprotocol"):
                for is_explained in (False, True):
                    validators = (Answer(Denied(status, "no")),)
                    if is_explained and name == "handshake":  # the probe and all other cases settle
                        continue
                    result = self.attempt(name, validators=validators, explain_refusals=is_explained)
                    self.assert_result(result, verdict, f"the handshake of the client got {status} no")

    def test_one_subprotocol(self) -> None:
        """A server that takes certain subprotocols only differs, as it may."""
        result = self.attempt("subprotocol", validators=(SubprotocolValidator("v1"),))
        self.assert_result(result, "differs", "none of the offered subprotocols is supported")
        self.assertIn("(--subprotocol)", result.means)

    def test_no_response(self) -> None:
        """A server that cannot read a request in pieces fails the case."""
        result = self.attempt("handshake-in-pieces", up=lambda data: data if data[:4] == b"GET " else b"")
        self.assert_result(result, "fails", "got 408")
