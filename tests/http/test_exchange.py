"""Tests of wsrelay.http.exchange: one request and its response; what is served is tested in test_public."""

from typing import Any

from twisted.internet.defer import Deferred

from tests.harness.http import ask, http_bytes
from tests.harness.support import Answer, RelayTestCase
from wsrelay.http.exchange import Exchange


class ExchangeTests(RelayTestCase):
    """The guard, and the end."""

    def test_a_bug_in_an_answer(self) -> None:
        """What an answer raises is a 500 with an id, and harms no other connection."""
        relay = self.relay(http=True)
        client = relay.client()
        self.patch(relay.factory.hub, "status", lambda name: 1 / 0)
        response = ask(relay, http_bytes("POST /room", b"hello"))

        self.assertEqual(response.status, 500)
        self.assertRegex(response.body.decode(), r"^internal error: [0-9a-f]{8}\n$")
        self.assertTrue(client.open)
        self.assertEqual(relay.stats.failures, 1)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_client_leaves_early(self) -> None:
        """A client that goes before its body has come leaves nothing behind."""
        relay = self.relay(http=True)
        wire = relay.wire()
        wire.send(http_bytes("POST /room", None, {"Content-Length": "5"}))
        wire.hang_up()

        other = self.relay([Answer(Deferred())], http=True)
        wire = other.wire()
        wire.send(http_bytes("POST /room", b"hello"))
        wire.hang_up()

        self.assertEqual(relay.factory.connections | other.factory.connections, set())
        self.assertEqual((relay.factory.admission.connections, relay.factory.admission.handshakes), (0, 0))

    def test_body_on_the_disk(self) -> None:
        """A long body stays in memory, where it is bounded and counted: Twisted's own request would make a file."""
        seen: list[Any] = []
        answer = Exchange.answer
        self.patch(Exchange, "answer", lambda exchange, request: (seen.append(request), answer(exchange, request)))
        relay = self.relay(http=True)
        ask(relay, http_bytes("POST /room", b"x" * 500_000))

        self.assertEqual(len(seen), 1)
        self.assertEqual(relay.stats.bytes_in, 500_010)
