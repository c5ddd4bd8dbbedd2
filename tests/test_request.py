"""Tests of wsrelay.request: what a request says of itself. Parsing is tested in tests/http/test_head.py."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import request_bytes
from wsrelay.http.head import parse_head
from wsrelay.request import HandshakeRequest, lists, split_host


def parsed(**fields: str) -> HandshakeRequest:
    """Return a request with some fields."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return parse_head(request_bytes(fields=named)[:-4], None)


class HandshakeRequestTests(SynchronousTestCase):
    """Questions about a request."""

    def test_wants_websocket(self) -> None:
        """An Upgrade field that lists websocket, in any case, makes a request a handshake."""
        for upgrade, wanted in (("websocket", True), ("h2c, WebSocket", True), ("h2c", False)):
            self.assertIs(parsed(Upgrade=upgrade).wants_websocket, wanted, upgrade)

    def test_accepts(self) -> None:
        """A media type is accepted where the Accept field names it; a wildcard does not."""
        for accept, accepted in (
            ("text/event-stream", True),
            ("text/html, TEXT/event-stream;q=0.5", True),
            ("*/*", False),
        ):
            self.assertIs(parsed(Accept=accept).accepts("text/event-stream"), accepted, accept)

    def test_lists(self) -> None:
        """An item is found between commas and spaces, and not as a part of another."""
        for value, found in (("a", True), ("b,\tA ", True), ("ab", False), ("", False)):
            self.assertIs(lists(value, "a"), found, value)


class SplitHostTests(SynchronousTestCase):
    """Host and port."""

    def test_split(self) -> None:
        """The host is lower-case; a port that is not named is None."""
        self.assertEqual(split_host("Relay.Example"), ("relay.example", None))
        self.assertEqual(split_host("relay.example:8080"), ("relay.example", 8080))
        self.assertEqual(split_host("[::1]:1"), ("[::1]", 1))
        self.assertIsNone(split_host("a:b:c"))
