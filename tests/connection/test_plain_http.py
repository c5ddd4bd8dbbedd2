"""Tests of wsrelay.connection.plain_http: exchanges on connections. Requests and responses: tests/http/."""

from collections import Counter
from typing import Any
from unittest.mock import Mock

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from zope.interface import directlyProvides

from tests.harness.http import http_bytes
from tests.harness.support import Answer, RelayTestCase, Wire, request_bytes
from wsrelay import closecodes
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.stage import Stage
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.body import STRETCH_CHUNKS

#: The body "hello", chunked.
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


#: The head of a POST, and chunks for several turns.
MANY_CHUNKS = http_bytes("POST /room", None, {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n" * 3 * STRETCH_CHUNKS


class PlainHTTPTests(RelayTestCase):
    """Deadlines, admission and the end."""

    POST = http_bytes("POST /room", None, {"Content-Length": "5"})

    def test_body_timeout(self) -> None:
        """A body that is not complete in time is a 408."""
        relay = self.relay(http=True, message_seconds=2)
        wire = relay.wire()
        wire.send(self.POST)
        relay.wait(3)
        wire.send(b"")

        self.assertEqual(wire.status, 408)
        self.assertEqual(relay.stats.handshakes_denied, {(408, "message_seconds"): 1})

    def test_body_timeout_off(self) -> None:
        """Without --message-seconds, bodies have no deadline."""
        relay = self.relay(http=True, message_seconds=0)
        wire = relay.wire()
        wire.send(self.POST)
        relay.wait(1000)
        wire.send(b"hello")

        self.assertEqual(wire.status, 202)

    def test_validator_timeout(self) -> None:
        """The validators' deadline is the same as for a handshake."""
        relay = self.relay([Answer(Deferred())], http=True, validate_seconds=1)
        wire = relay.wire()
        wire.send(self.POST)
        relay.wait(2)
        wire.send(b"")

        self.assertEqual(wire.status, 504)

    def test_exchange_counts_as_handshake(self) -> None:
        """Until it is answered, an exchange counts as an unfinished handshake."""
        relay = self.relay(http=True, max_handshakes_per_address=1)
        wire, other = relay.wire(), relay.wire()
        wire.send(self.POST)
        self.assertEqual((other.send(self.POST), other.status), (other.received, 429))
        wire.send(b"hello")
        wire.hang_up()
        other.hang_up()

        self.assertEqual(relay.factory.admission.connections, 0)

    def test_exchange_while_stopping(self) -> None:
        """A relay that stops answers an exchange with 503."""
        relay = self.relay(http=True)
        wire = relay.wire()
        wire.send(self.POST)
        relay.factory.close_all(closecodes.RESTARTING, 5)
        wire.send(b"")

        self.assertEqual(wire.status, 503)

    def test_refused_body_linger(self) -> None:
        """A refusal half-closes TCP and reads on, to avoid a reset, until the deadline."""
        relay = self.relay(http=True, max_message_bytes=3, room_log_bytes=1000, close_seconds=1)
        wire = relay.wire()
        wire.send(http_bytes("POST /room", None, {"Content-Length": "500"}) + b"x" * 100)
        self.assertEqual((wire.status, wire.ended), (413, False))
        self.assertEqual(wire.send(b"x" * 400), b"")
        relay.wait(2)

        self.assertTrue(wire.transport.aborted)

    def test_no_half_close_with_tls(self) -> None:
        """TLS is closed in both directions."""
        relay = self.relay(http=True)
        wire = relay.wire()
        directlyProvides(wire.transport, ISSLTransport)
        wire.transport.getPeerCertificate = lambda: None
        wire.transport.getHandle = lambda: Mock(get_peer_finished=lambda: b"peer")
        wire.send(http_bytes("GET /room"))

        self.assertEqual((wire.status, wire.ended), (426, True))

    def test_tls_handshake_timeout(self) -> None:
        """Within the TLS handshake, the deadline aborts TCP at once, with and without --http."""
        for http in (False, True):
            relay = self.relay(http=http, handshake_seconds=4, close_seconds=100)
            wire = relay.wire()
            directlyProvides(wire.transport, ISSLTransport)
            wire.transport.getHandle = lambda: Mock(get_peer_finished=lambda: None)
            relay.wait(5)
            self.assertTrue(wire.transport.aborted)

    def test_half_closed(self) -> None:
        """A whole POST is answered, although its client has ended its half while the validators are asked."""
        for framing, body in (({}, b"hello"), ({"Content-Length": None, "Transfer-Encoding": "chunked"}, CHUNKS)):
            for answer, status in ((Grant(room="room"), 202), (Denied(403, "no"), 403)):
                pending: Deferred[Any] = Deferred()
                relay = self.relay([Answer(lambda _, __, pending=pending: pending)], http=True, close_seconds=1)
                wire = relay.wire()
                wire.send(http_bytes("POST /room", body, framing))
                wire.transport.protocol.readConnectionLost()
                (pending.callback if status == 202 else pending.errback)(answer)
                self.assertIn(b"HTTP/1.1 %d " % status, wire.send(b""))
                self.assertEqual(relay.stats.messages_in, int(status == 202))
                relay.wait(2)
                self.assertTrue(wire.ended)

    def test_half_closed_many_chunks(self) -> None:
        """At the end of the peer's half, no more chunks are decoded than in a turn; incomplete ones end TCP later."""
        for end, messages in ((b"0\r\n\r\n", 1), (b"", 0)):
            pending: Deferred[Any] = Deferred()
            relay = self.relay([Answer(pending)], http=True)
            wire = relay.wire()
            connection = wire.transport.protocol
            wire.transport.connectionLost = connection.connectionLost
            wire.send(MANY_CHUNKS + end)
            connection.readConnectionLost()
            self.assertEqual(connection.phase._exchange.chunks, STRETCH_CHUNKS)
            pending.callback(Grant(room="room"))
            relay.settle()
            connection.readConnectionLost()  # it is read again, and ends again
            self.assertEqual((relay.stats.messages_in, b"HTTP/1.1 202 " in wire.send(b"")), (messages, bool(messages)))
            self.assertEqual((wire.ended, connection.stage), (bool(messages), Stage.ENDING if messages else Stage.LOST))

    def test_half_closed_refused(self) -> None:
        """A refusal that waits in the transport is written, although its client has ended its half."""
        for http in (True, False):
            relay = self.relay(http=http)
            wire = relay.wire()
            wire.transport.stalled = True
            wire.send(http_bytes("GET /room", None))
            wire.transport.protocol.readConnectionLost()
            wire.transport.stalled = False
            self.assertTrue(wire.ended)
            self.assertIn(b"HTTP/1.1 426 ", wire.send(b""))

    def test_half_closed_incomplete(self) -> None:
        """Any other peer that ends its half has left: its validators are cancelled."""
        for request in (
            http_bytes("POST /room", b"hello")[:-1],
            http_bytes("POST /room", b"x\r\n", {"Content-Length": None, "Transfer-Encoding": "chunked"}),
            http_bytes("GET /room", None, {"Accept": "text/event-stream"}),
            request_bytes(),
            request_bytes()[:-1],
        ):
            pending: Deferred[Any] = Deferred(lambda deferred: None)
            relay = self.relay([Answer(lambda _, __, pending=pending: pending)], http=True)
            wire = relay.wire()
            wire.send(request)
            wire.transport.connectionLost = wire.transport.protocol.connectionLost
            wire.transport.protocol.readConnectionLost()
            self.assertEqual(len(relay.factory.connections), 0, request)
            wire.transport.protocol.writeConnectionLost()

    def test_body_too_long(self) -> None:
        """A body that grows too long is a 413, before and after the validators' answer."""
        for answer in (Answer(lambda _, grant: grant), Answer(Deferred())):
            relay = self.relay([answer], http=True, max_message_bytes=10)
            wire = relay.wire()
            wire.send(http_bytes("POST /room", None, {"Transfer-Encoding": "chunked"}))
            wire.send(b"100000\r\n" + bytes(2**17))

            self.assertEqual(wire.status, 413)

    def reads(self, wire: Wire) -> list[str]:
        """Return a list to which pauses and resumes of reading are added."""
        seen: list[str] = []
        wire.transport.pauseProducing = lambda: seen.append("paused")
        wire.transport.resumeProducing = lambda: seen.append("resumed")
        return seen

    def test_many_chunks(self) -> None:
        """Many chunks are decoded in turns, between which nothing is read, with and without waiting for validators."""
        for pending in (None, Deferred()):
            relay = self.relay([Answer(pending)] if pending else (), http=True)
            wire = relay.wire()
            seen = self.reads(wire)
            wire.transport.protocol.dataReceived(MANY_CHUNKS)
            if pending:
                self.assertEqual(seen, [])
                pending.callback(Grant(room="room"))
            self.assertEqual(seen, ["paused"])
            wire.transport.protocol.dataReceived(b"0\r\n")  # TLS may still deliver
            self.assertEqual((set(seen), relay.stats.messages_in), ({"paused"}, 0))
            wire.send(b"\r\n")
            self.assertEqual((wire.status, seen[-1]), (202, "resumed"))
            wire.hang_up()

    def test_many_chunks_refused(self) -> None:
        """Too many small chunks are a 400 that says what to do; the rest is read and discarded."""
        relay = self.relay(http=True, close_seconds=1)
        wire = relay.wire()
        seen = self.reads(wire)
        wire.send(MANY_CHUNKS + b"1\r\nx\r\n" * 5000)
        self.assertIn(b"too many small chunks; send larger ones, or a Content-Length", wire.received)
        self.assertEqual((wire.status, seen[-1]), (400, "resumed"))
        relay.wait(2)

    def test_rate_limit_address(self) -> None:
        """Messages over HTTP count for their address: above its rates it gets 429, and nothing is published."""
        relay = self.relay(
            http=True, max_messages_per_second=1, max_bytes_per_second=0, burst_seconds=1, address_rate_factor=2
        )
        subscriber = relay.client()
        statuses = []
        for _ in range(5):
            wire = relay.wire()
            wire.send(http_bytes("POST /room", b"hello"))
            statuses.append((wire.status, b"Retry-After: 1" in wire.received))
        self.assertEqual(statuses, [(202, False)] * 3 + [(429, True)] * 2)
        self.assertEqual((subscriber.messages, relay.stats.slowdowns), (["hello"] * 3, 2))
        relay.wait(3)
        wire = relay.wire()

        self.assertEqual(wire.send(http_bytes("POST /room", b"hello")).split()[1], b"202")

    def test_many_chunks_lost(self) -> None:
        """A client that leaves between two turns leaves nothing behind."""
        relay = self.relay(http=True)
        wire = relay.wire()
        wire.transport.protocol.dataReceived(MANY_CHUNKS)
        wire.transport.protocol.connectionLost()
        relay.settle()

        self.assertEqual((len(relay.factory.connections), relay.stats.messages_in), (0, 0))

    def test_rate_limit_of_address(self) -> None:
        """Messages beyond the rate of an address are a 429, and not charged: neighbours go on, and so do its own."""
        limits = {"max_messages_per_second": 10, "burst_seconds": 1, "address_rate_factor": 1, "ping_seconds": 0}
        relay = self.relay(http=True, **limits)
        neighbour = relay.client()
        statuses = Counter[int]()
        for number in range(100):
            neighbour.say(str(number))
            relay.wait(0.25)
            for _ in range(10):
                wire = relay.wire()
                wire.send(http_bytes("POST /room", b"hello"))
                statuses[wire.status] += 1
                wire.hang_up()
        relay.wait(1)

        self.assertEqual((relay.stats.closes_sent, neighbour.server.flow.held), ({}, 0))
        self.assertEqual(relay.stats.messages_in - statuses[202], 100)
        self.assertIn(statuses[202], range(100, 200))
        self.assertEqual(sum(statuses.values()), statuses[202] + statuses[429])

    def test_bug_before_event_stream(self) -> None:
        """A bug between the join and the first event is a 500; no connection is counted."""
        self.patch(RelayProtocol, "stream_begun", lambda connection: 1 / 0)
        relay = self.relay(http=True)
        wire = relay.wire()
        wire.send(http_bytes("GET /room", fields={"Accept": "text/event-stream"}))
        wire.hang_up()
        self.flushLoggedErrors(ZeroDivisionError)

        self.assertEqual((relay.stats.connections_opened, relay.stats.connections_closed), (0, {}))
        self.assertEqual(len(relay.factory.hub), 0)
