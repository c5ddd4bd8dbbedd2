"""Tests of wsrelay.connection.report."""

from typing import Any
from unittest import mock

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from tests.harness.http import http_bytes
from tests.harness.support import Answer, RelayTestCase, request_bytes
from wsrelay.errors import Denied
from wsrelay.stats import ConnectionStatus
from wsrelay.validators.plugins import load


class StatusTests(RelayTestCase):
    """The status of a connection."""

    def status(self, *sent: bytes) -> ConnectionStatus:
        relay = self.relay()
        wire = relay.wire()
        for data in sent:
            wire.send(data)
        [connection] = relay.factory.connections
        return connection.status()

    def test_status_handshake(self) -> None:
        """Before it opens, a connection has no room and no time."""
        status = self.status(b"GET")
        self.assertEqual((status.state, status.room, status.seconds, status.held), ("handshake", "", 0.0, False))

    def test_status_state(self) -> None:
        """An open connection is "open"; one whose refusal is written is "closed"."""
        self.assertEqual(self.status(request_bytes()).state, "open")
        self.assertEqual(self.status(request_bytes("//")).state, "closed")

    def test_status_counts(self) -> None:
        """Messages are counted with their bytes as plain frames."""
        status = self.status(request_bytes(), b"\x81\x82\0\0\0\0hi")
        self.assertEqual((status.messages_in, status.bytes_in, status.messages_out), (1, 4, 0))


class OpenedTests(RelayTestCase):
    """The log line of an opened connection."""

    def opened(self, *validators: str, **fields: str) -> dict[str, object]:
        """Return the record of a connection with these request fields, in which "_" stands for "-"."""
        relay = self.relay(load(["origin:*", *validators]))
        relay.wire().send(request_bytes(fields={name.replace("_", "-"): value for name, value in fields.items()}))
        relay.settle()
        [record] = self.events[-1]["records"]
        assert record["event"] == "opened"
        return record

    def test_subprotocol_unchosen(self) -> None:
        """Subprotocols of which none was chosen are named; a token is not."""
        record = self.opened(Sec_WebSocket_Protocol="chat, v2, base64url.bearer.authorization.c2VjcmV0")
        self.assertEqual(record["subprotocol_none_of"], "chat, v2, base64url.bearer....")
        self.assertIn("(connection 1); subprotocol: none of chat, v2, base64url", self.logged()[-1])
        self.assertNotIn("c2VjcmV0", str(self.events))

    def test_subprotocol_only_token(self) -> None:
        """A client that offers only a token is named, too: it fails in the same way."""
        record = self.opened(Sec_WebSocket_Protocol="base64url.bearer.authorization.c2VjcmV0")
        self.assertEqual(record["subprotocol_none_of"], "base64url.bearer....")

    def test_subprotocol_chosen(self) -> None:
        """Without offers, or with a chosen one, nothing is said."""
        self.assertNotIn("subprotocol_none_of", self.opened())
        self.events.clear()
        self.assertNotIn("subprotocol_none_of", self.opened("subprotocol:v2", Sec_WebSocket_Protocol="chat, v2"))


class DeniedTests(RelayTestCase):
    """The log line of a refused request."""

    def denied(self, data: bytes, **settings: Any) -> dict[str, Any]:
        """Return the record of a refused request."""
        relay = self.relay([Answer(Denied(403, "no"))], **settings)
        for wire in [relay.wire() for _ in range(2)]:  # with a limit of one, the second is over it
            wire.send(data)
        relay.wait(relay.factory.settings.handshake_seconds + 1)
        record: dict[str, Any] = self.events[-1]["records"][-1]
        assert record["event"] == "denied"
        return record

    def asked(self, data: bytes, **settings: Any) -> tuple[Any, ...]:
        record = self.denied(data, **settings)
        return record["status"], record["room"], record["origin"], record["user_agent"]

    def test_asked(self) -> None:
        """It says what was asked for, from which page, and by what; also of plain HTTP and of an over-limit client."""
        fields = {"Origin": "https://app.example", "User-Agent": "Firefox/140"}
        shown = ("chat/é", "https://app.example", "Firefox/140")
        for data, settings, status in (
            (request_bytes("/chat/%C3%A9", fields), {}, 403),
            (http_bytes("GET /chat/%C3%A9", None, fields), {}, 403),
            (http_bytes("POST /chat/%C3%A9", b"x", fields), {"http": True}, 403),
            (http_bytes("POST /chat/%C3%A9", None, fields), {"http": True}, 411),
            (request_bytes("/chat/%C3%A9", {**fields, "Sec-WebSocket-Version": "8"}), {}, 426),
            (request_bytes("/chat/%C3%A9", fields), {"max_connections_per_address": 1}, 429),
        ):
            self.assertEqual(self.asked(data, **settings), (status, *shown))
        self.assertIn("; room 'chat/é'; origin 'https://app.example'; user agent 'Firefox/140'", self.logged()[-1])

    def test_unknown(self) -> None:
        """What was not sent is left out; of a malformed or incomplete request nothing is known."""
        for data, known in (
            (request_bytes(), (403, "room", None, None)),
            (request_bytes(fields={"Host": None}), (400, None, None, None)),
            (request_bytes()[:-1], (408, None, None, None)),
        ):
            self.assertEqual(self.asked(data), known)
            self.assertEqual("; room" in self.logged()[-1], known[1] is not None)

    def test_no_secrets(self) -> None:
        """Neither the query nor a token is in it."""
        fields = {"Authorization": "Bearer secret", "Cookie": "a=secret", "User-Agent": "x"}
        offered = {"Sec-WebSocket-Protocol": "base64url.bearer.x.secret"}
        self.denied(request_bytes("/room?token=secret", {**fields, **offered}), explain_refusals=True)
        self.assertNotIn("secret", str(self.events))

    def test_long(self) -> None:
        """Long texts are cut, and unprintable bytes escaped."""
        fields = {"Origin": "https://" + "o" * 200, "User-Agent": "\xe9" + "u" * 200}
        record = self.denied(request_bytes("/" + "r" * 120, fields))
        self.assertEqual([len(record[name]) for name in ("room", "origin", "user_agent")], [80, 80, 80])
        self.assertIn(r"user agent '\uf7e9uuu", self.logged()[-1])


class AddressTests(RelayTestCase):
    """The address for which a log line is counted."""

    def test_addresses(self) -> None:
        """It is the client's IPv4 address or IPv6 /64, also behind a proxy on a unix socket."""
        for peer, forwarded_for, address in (
            (IPv4Address("TCP", "192.0.2.1", 5), "", "192.0.2.1"),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 5), "", "192.0.2.1"),
            (IPv6Address("TCP", "2001:db8::1:2:3:4", 5), "", "2001:db8::/64"),
            (UNIXAddress(None), "", "unix"),
            (UNIXAddress(None), "192.0.2.1", "192.0.2.1"),
            (UNIXAddress(None), "2001:db8::1:2:3:4", "2001:db8::/64"),
            (IPv4Address("TCP", "10.0.0.1", 5), "192.0.2.1", "192.0.2.1"),
        ):
            relay = self.relay(trusted_proxies=("unix", "10.0.0.1"))
            with mock.patch.object(relay.factory.lines, "add") as add:
                wire = relay.wire(peer)
                wire.send(request_bytes(fields={"X-Forwarded-For": forwarded_for} if forwarded_for else {}))
                wire.hang_up()
            self.assertEqual([call.args for call in add.mock_calls], [("opened", address), ("closed", address)])
