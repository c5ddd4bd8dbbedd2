"""Tests of wsrelay.connection.event_stream: subscribers over HTTP. Encoding of messages: tests/wire/test_sse.py."""

import json
from collections.abc import Iterator
from itertools import count, repeat
from typing import Any

from tests.harness.http import http_bytes
from tests.harness.support import Answer, Relay, RelayTestCase, Wire
from tests.wire.test_sse import read
from wsrelay import closecodes
from wsrelay.connection.writer import Writer
from wsrelay.wire import sse

TAIL = http_bytes("GET /room", None, {"Accept": "text/event-stream"})


class EventStreamTests(RelayTestCase):
    """Event streams as subscribers."""

    def tail(self, relay: Relay) -> Wire:
        """Open a stream."""
        wire = relay.wire()
        wire.head = wire.send(TAIL)
        return wire

    def heard(self, wire: Wire) -> list[tuple[str, str]]:
        return read(wire.send(b""))

    def test_event_stream_messages(self) -> None:
        """A stream gets the room's messages from its beginning on."""
        relay = self.relay(http=True)
        a, wire = relay.client(), self.tail(relay)
        a.say("one")
        a.say(b"\x00")
        relay.settle()

        self.assertTrue(wire.head.endswith(b"\r\n\r\nd\r\nretry: 5000\n\n\r\n"), wire.head)
        self.assertEqual(self.heard(wire), [("message", "one"), ("binary", "AA==")])

    def test_event_stream_shared_encoding(self) -> None:
        """An event is encoded once for all streams."""
        relay = self.relay(http=True)
        a, wires = relay.client(), [self.tail(relay) for _ in range(3)]
        made: list[bytes] = []
        for connection in relay.factory.connections - {a.server}:
            self.assertIs(connection.member.encoding, sse.encode)
        a.say("one")
        relay.settle()
        made.extend(wire.send(b"") for wire in wires)

        self.assertEqual(len(set(made)), 1)

    def test_event_stream_logged(self) -> None:
        """Opening and closing are logged as for WebSockets; the end of TCP is a clean close."""
        relay = self.relay(http=True)
        wire = self.tail(relay)
        wire.hang_up()
        records = [record for event in self.events for record in event.get("records", ())]

        self.assertEqual([record["event"] for record in records], ["opened", "closed"])
        self.assertEqual((records[1]["by"], records[1]["code"]), ("client", 1005))
        self.assertEqual((len(relay.factory.hub), len(relay.factory.connections)), (0, 0))

    def test_event_stream_closed(self) -> None:
        """A stream closed by the relay gets the pending messages, the reason, and the end."""
        relay = self.relay(http=True)
        a, wire = relay.client(), self.tail(relay)
        a.server.onMessage(b"last", False)
        [connection] = relay.factory.connections - {a.server}
        connection.close(closecodes.RESTARTING)
        received = wire.send(b"")
        last, (kind, data) = read(received)

        self.assertEqual((last, kind), (("message", "last"), "close"))
        self.assertEqual(json.loads(data), {"code": 1012, "reason": closecodes.RESTARTING.text})
        self.assertTrue(received.endswith(sse.END))
        self.assertTrue(wire.ended)
        wire.hang_up()
        self.assertEqual(relay.stats.connections_closed, {("relay", "1012"): 1})

    def test_event_stream_input(self) -> None:
        """Input of the client is discarded; too much of it is rate-limited."""
        relay = self.relay(http=True, max_bytes_per_second=1000, burst_seconds=1, rate_grace_seconds=0)
        a, wire = relay.client(), self.tail(relay)
        self.assertEqual(wire.send(b"\x81\x85\0\0\0\0hello"), b"")
        self.assertEqual(a.messages, [])
        relay.wait(2)
        [(kind, data)] = read(wire.send(b"x" * 5000))

        self.assertEqual((kind, json.loads(data)["code"]), ("close", 1008))

    def test_event_stream_pings(self) -> None:
        """An idle stream gets comments as pings, and needs no pongs."""
        relay = self.relay(http=True, ping_seconds=10)
        wire = self.tail(relay)
        relay.wait(35)

        self.assertEqual(wire.send(b""), sse.ALIVE * 3)
        self.assertFalse(wire.ended)

    def test_event_stream_acknowledged(self) -> None:
        """On TCP, a stream whose comments are acknowledged goes on; one that takes no more is closed."""
        relay = self.relay(http=True, ping_seconds=10)
        wire = self.tail(relay)
        acknowledged: Iterator[int] = count()
        self.patch(Writer, "_tcp_info", lambda _: (next(acknowledged), 0, 1))
        relay.wait(65)
        self.assertEqual(wire.send(b""), sse.ALIVE * 6)
        acknowledged = repeat(99)
        relay.wait(25)

        self.assertEqual(relay.stats.closes_sent, {closecodes.PING_TIMEOUT.code: 1})

    def stalled(self, **settings: Any) -> tuple[Relay, Wire]:
        relay = self.relay(http=True, ping_seconds=10, slow_policy=("drop-oldest",), **settings)
        wire = self.tail(relay)
        wire.transport.stalled = True
        a = relay.client()
        a.say("x" * 100_000)
        relay.settle()
        return relay, wire

    def test_event_stream_dead(self) -> None:
        """A stream that takes nothing from one ping to the next is closed, whatever its slow policy."""
        relay, wire = self.stalled()
        relay.wait(25)

        self.assertEqual(relay.stats.closes_sent, {closecodes.PING_TIMEOUT.code: 1})
        self.assertTrue(wire.transport.aborted)

    def test_event_stream_slow(self) -> None:
        """A slow stream that takes some bytes is not dead."""
        relay, wire = self.stalled()
        relay.wait(12)
        wire.transport.stalled = False
        wire.send(b"")
        relay.wait(12)

        self.assertEqual((relay.stats.closes_sent, wire.ended), ({}, False))

    def test_event_stream_expiry(self) -> None:
        """An expired grant ends a stream, too."""
        validator = Answer(lambda _, grant: grant.narrowed(expires_at=1_000_005.0))
        relay = self.relay([validator], http=True)
        wire = self.tail(relay)
        relay.wait(6)
        [(kind, data)] = self.heard(wire)

        self.assertEqual((kind, json.loads(data)["code"]), ("close", 4401))
