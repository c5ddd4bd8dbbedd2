"""Tests of wsrelay.connection.event_stream: subscribers over HTTP. Encoding of messages: tests/wire/test_sse.py."""

import json
from collections.abc import Iterator, Sequence
from itertools import count, repeat
from typing import Any

from tests.harness.http import http_bytes
from tests.harness.support import Answer, Relay, RelayTestCase, Wire
from tests.wire.test_sse import read, unchunked
from wsrelay import closecodes
from wsrelay.connection.writer import Writer
from wsrelay.message_id import MessageId
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

    def kept(self, validators: Sequence[Any] = (), **settings: Any) -> Relay:
        """Return a relay whose rooms have history."""
        return self.relay(validators, http=True, **{"history": ("8",), **settings})

    def blocks(self, data: bytes) -> list[dict[str, str]]:
        """Return the blocks of a stream, each with its fields."""
        text = unchunked(data.rpartition(b"\r\n\r\n")[2] if data.startswith(b"HTTP") else data).decode()
        blocks = [block.split("\n") for block in text.split("\n\n")[:-1]]
        return [dict(line.split(": ", 1) for line in block) for block in blocks]

    def opened(self, relay: Relay, query: str = "", last_id: str | None = None) -> tuple[Wire, list[dict[str, str]]]:
        """Open a stream; return it with its first blocks, without the reconnect delay."""
        wire = relay.wire()
        fields = {"Accept": "text/event-stream", "Last-Event-ID": last_id}
        received = wire.send(http_bytes(f"GET /room{query}", None, fields))
        head, _, content = received.partition(b"\r\n\r\n")
        self.assertIn(b"HTTP/1.1 200 ", head)
        retry, *blocks = self.blocks(content)
        self.assertEqual(retry, {"retry": "5000"})
        return wire, blocks

    def test_event_stream_ids(self) -> None:
        """In a room with history, a stream begins with an id, and so does each event."""
        relay = self.kept()
        wire, [first] = self.opened(relay)
        self.assertEqual(first, {"id": str(relay.factory.hub.histories.at("room"))})
        a = relay.client()
        a.say("one")
        a.say(b"\0")
        relay.settle()
        one, two = self.blocks(wire.send(b""))

        self.assertEqual((one["data"], two["data"], two["event"]), ("one", "AA==", "binary"))
        self.assertEqual(two["id"], str(relay.factory.hub.histories.at("room")))
        self.assertLess(MessageId.parse(first["id"]), MessageId.parse(one["id"]))
        self.assertLess(MessageId.parse(one["id"]), MessageId.parse(two["id"]))

    def test_event_stream_without_history(self) -> None:
        """In a room without history nothing of this is heeded, and no byte is different."""
        for settings in ({}, {"history": ("other=8",)}):
            relay = self.relay(http=True, **settings)
            wire, blocks = self.opened(relay, "?last=x&since=%ff", "k3fj9a2q-1")
            relay.client().say("one")
            relay.settle()
            self.assertEqual((blocks, self.blocks(wire.send(b""))), ([], [{"data": "one"}]))

    def test_event_stream_resume(self) -> None:
        """A reader that reconnects with its last id gets exactly what it missed, then what comes."""
        relay = self.kept()
        a, (wire, [first]) = relay.client(), self.opened(relay)
        for text in ("1", "2", "3"):
            a.say(text)
            relay.settle()
        ids = [first["id"], *(block["id"] for block in self.blocks(wire.send(b"")))]
        for number, last_id in enumerate(ids):
            wire, [start, *blocks] = self.opened(relay, "?since=x&last=1", last_id)
            self.assertEqual(start, {"id": last_id})
            self.assertEqual([block["data"] for block in blocks], ["1", "2", "3"][number:])
        a.say("live")
        relay.settle()
        self.assertEqual([block["data"] for block in self.blocks(wire.send(b""))], ["live"])

    def test_event_stream_gone(self) -> None:
        """A reader whose last id is not known is told the gap; with last, the newest messages follow it."""
        relay = self.kept()
        a = relay.client()
        a.say("1")
        a.say("2")
        relay.settle()
        for query, texts in (("", []), ("?last=1", ["2"])):
            _, [start, gap, *blocks] = self.opened(relay, query, "00000000-7")
            told = {"after": "00000000-7", "at": start["id"], "why": "gone"}
            self.assertEqual((gap["event"], json.loads(gap["data"]), gap["id"]), ("gap", told, start["id"]))
            self.assertEqual([block["data"] for block in blocks], texts)

    def test_event_stream_history_none(self) -> None:
        """Without the right to history, there is no id, no gap, and a last id of before has no effect."""
        relay = self.kept([Answer(lambda _, grant: grant.narrowed(history="none"))])
        wire, blocks = self.opened(relay)
        a = relay.client()
        a.say("one")
        relay.settle()
        self.assertEqual((blocks, self.blocks(wire.send(b""))), ([], [{"data": "one"}]))
        wire.transport.protocol.member.skipped(relay.factory.hub.histories.at("room"), "lost")
        self.assertEqual(wire.send(b""), b"")
        other = relay.wire()
        other.send(http_bytes("GET /room", None, {"Accept": "text/event-stream", "Last-Event-ID": "x"}))

        self.assertEqual(other.status, 200)

    def test_event_stream_skipped(self) -> None:
        """A slow reader is told what it skips: once, behind the bytes that waited, before what follows."""
        relay = self.kept(
            slow_policy=("latest",),
            max_message_bytes=100_000,
            max_bytes_per_second=0,
            room_log_bytes=200_000,
            history_bytes=100_000,
        )
        wire, _ = self.opened(relay)
        wire.transport.stalled = True
        a = relay.client()
        for number in range(12):
            a.say(f"{number:2}" * 25_000)
            relay.settle()
        wire.transport.stalled = False
        received = b""
        while data := wire.send(b""):
            received += data
        blocks = self.blocks(received)
        [gap] = [block for block in blocks if "event" in block]
        place = blocks.index(gap)

        self.assertEqual(json.loads(gap["data"]), {"at": gap["id"], "why": "latest"})
        self.assertLess(MessageId.parse(blocks[place - 1]["id"]), MessageId.parse(gap["id"]))
        self.assertEqual(MessageId.parse(blocks[place + 1]["id"]), MessageId.parse(gap["id"]).plus(1))
        self.assertEqual(blocks[-1]["data"][:2], "11")

    def test_event_stream_lost(self) -> None:
        """A reader that is not paused is told at once that messages were lost."""
        relay = self.kept(slow_policy=("drop-oldest",))
        wire, _ = self.opened(relay)
        relay.factory.hub.miss(lambda room: True)
        [gap] = self.blocks(wire.send(b""))

        self.assertEqual((gap["event"], json.loads(gap["data"])["why"]), ("gap", "lost"))

    def test_event_stream_expiry(self) -> None:
        """An expired grant ends a stream, too."""
        validator = Answer(lambda _, grant: grant.narrowed(expires_at=1_000_005.0))
        relay = self.relay([validator], http=True)
        wire = self.tail(relay)
        relay.wait(6)
        [(kind, data)] = self.heard(wire)

        self.assertEqual((kind, json.loads(data)["code"]), ("close", 4401))
