"""The bytes of clients that ask for no history: with one in their room, the same as without."""

from typing import Any

from tests.harness.framing import DEFLATE, wire_frame
from tests.harness.streams import chunks
from tests.harness.support import RelayTestCase, request_bytes

STREAM = b"GET /room HTTP/1.1\r\nHost: relay.example\r\nAccept: text/event-stream\r\n\r\n"


class HistoryBytesTests(RelayTestCase):
    """A mixed room of plain and deflated WebSockets and an event stream."""

    def heard(self, query: str = "", **settings: Any) -> list[bytes]:
        """Return all that each of four clients receives."""
        relay = self.relay(http=True, echo=False, **settings)
        wires = [relay.wire() for _ in range(4)]
        got = [b""] * 4
        requests = [
            request_bytes(f"/room{query}"),
            request_bytes(f"/room{query}"),
            request_bytes("/room", DEFLATE),
            STREAM,
        ]
        for number, request in enumerate(requests):
            got[number] += wires[number].send(request)
        for text in (b"a", b"b" * 300, b"c\nd", b"e\rf", b"", b"g" * 70_000):
            frames = wire_frame(0x81, text) + wire_frame(0x82, b"x" + text)
            for speaker in (0, 2):
                got[speaker] += wires[speaker].send(frames)
            for number, wire in enumerate(wires):
                got[number] += wire.send(b"")
        for number, wire in enumerate(wires):
            while more := wire.send(b""):
                got[number] += more
        return got

    def test_history_plain_bytes(self) -> None:
        """Handshakes and frames are the same to the byte, but for the random handle; a stream has its ids more."""
        plain, with_history = self.heard(), self.heard(history=("**=100",), greet=("other=1",))
        for number in range(3):
            heads, bodies = zip(*[got[number].split(b"\r\n\r\n", 1) for got in (plain, with_history)], strict=True)
            lines = [[one for one in head.split(b"\r\n") if b"-Connection: " not in one] for head in heads]
            self.assertEqual(lines[0], lines[1])
            self.assertEqual(bodies[0], bodies[1])
            self.assertGreater(len(bodies[0]), 200)
        streams = [chunks(got[3].partition(b"\r\n\r\n")[2])[0] for got in (plain, with_history)]
        events = [line for line in streams[1].split(b"\n") if not line.startswith((b"id:", b"retry:"))]
        self.assertEqual(streams[1].count(b"\nid:"), 25)
        self.assertEqual(
            b"".join(events), b"".join(line for line in streams[0].split(b"\n") if not line.startswith(b"retry:"))
        )

    def test_query_without_history(self) -> None:
        """In a room without history the parameters mean nothing, whatever they are."""
        bodies = [got.split(b"\r\n\r\n", 1)[1] for got in self.heard()]
        for query in ("?since=x", "?last=x", "?last=1&last=2", "?since=%FF"):
            other = self.heard(query, history=("other=1",))
            self.assertEqual([got.split(b"\r\n\r\n", 1)[1] for got in other][:3], bodies[:3])
