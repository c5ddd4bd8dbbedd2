"""Tests of wsrelay.request: what a request says of itself. Parsing is tested in tests/http/test_head.py."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import request_bytes
from wsrelay.http.head import parse_head
from wsrelay.request import MAX_MEMBERS, HandshakeRequest, field_bytes, lists, members, split_host


def parsed(**fields: str) -> HandshakeRequest:
    """Return a request with some fields."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return parse_head(request_bytes(fields=named)[:-4], None)


class HandshakeRequestTests(SynchronousTestCase):
    """Questions about a request."""

    def test_wants_websocket(self) -> None:
        """An Upgrade field that lists websocket, in any case, makes a request a handshake."""
        for upgrade, wanted in (("websocket", True), ("h2c, WebSocket", True), (",websocket ,", True), ("h2c", False)):
            self.assertIs(parsed(Upgrade=upgrade).wants_websocket, wanted, upgrade)

    def test_accepts(self) -> None:
        """A media type is accepted where the Accept field names it; a wildcard does not."""
        for accept, accepted in (
            ("text/event-stream", True),
            ("text/html, TEXT/event-stream;q=0.5", True),
            (",,text/event-stream,", True),
            ("*/*", False),
            ("", False),
        ):
            self.assertIs(parsed(Accept=accept).accepts("text/event-stream"), accepted, accept)

    def test_lists(self) -> None:
        """An item is found between commas and spaces, and not as a part of another."""
        for value, found in (("a", True), ("b,\tA ", True), (",a,", True), ("ab", False), (",", False), ("", False)):
            self.assertIs(lists(value, "a"), found, value)

    def test_members(self) -> None:
        """Members keep their order and case; empty ones are ignored (RFC 9110 section 5.6.1.2)."""
        for value, found in (("B, a", ["B", "a"]), (" ,a;b=c\t,, d,", ["a;b=c", "d"]), ("", []), (" , \t", [])):
            self.assertEqual(members(value), found)

    def test_max_members(self) -> None:
        """Beyond the limit, empty members included, the rest is one member, which is no token."""
        self.assertEqual(members("," * (MAX_MEMBERS - 1) + "a"), ["a"])
        self.assertEqual(members("," * MAX_MEMBERS + "a, b,"), ["a, b,"])
        self.assertFalse(lists("," * MAX_MEMBERS + "b, a", "a"))

    def test_field_bytes(self) -> None:
        """The bytes of a value can be decoded by the character set that the sender used; real text is an error."""
        self.assertEqual(field_bytes("Jos\uf7c3\uf7a9").decode(), "José")
        self.assertEqual(field_bytes("Jos\uf7e9").decode("latin-1"), "José")
        for text in ("José", "\uf700", "\udce9"):
            self.assertRaises(ValueError, field_bytes, text)


class SplitHostTests(SynchronousTestCase):
    """Host and port."""

    def test_split(self) -> None:
        """The host is lower-case; a port that is not named is None."""
        self.assertEqual(split_host("Relay.Example"), ("relay.example", None))
        self.assertEqual(split_host("relay.example:8080"), ("relay.example", 8080))
        self.assertEqual(split_host("[::1]:1"), ("[::1]", 1))
        self.assertIsNone(split_host("a:b:c"))
