"""Tests of wsrelay.http.room_views: rooms with history over plain HTTP, with real requests in memory."""

from typing import Any

from tests.harness.http import Response, ask, http_bytes
from tests.harness.support import Answer, Relay, RelayTestCase
from wsrelay import closecodes
from wsrelay.grant import Grant
from wsrelay.http.room_views import first_events
from wsrelay.message_id import MessageId
from wsrelay.wanted import ALL_NEW, Start, Wanted
from wsrelay.wire import sse

JSON = {"Accept": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}
AT = MessageId("k3fj9a2q", (7,))


def narrowed(**grant: Any) -> Answer:
    """Return a validator that narrows the grant of all but publishers."""
    return Answer(lambda request, so_far: so_far if request.method == "POST" else so_far.narrowed(**grant))


class HistoryTests(RelayTestCase):
    """GET of a room as JSON."""

    def kept(self, *validators: Any, **settings: Any) -> Relay:
        """Return a relay whose rooms have history."""
        return self.relay(validators, http=True, **{"history": ("8",), **settings})

    def post(self, relay: Relay, *bodies: bytes, room: str = "room") -> list[str]:
        """Publish messages; return their ids."""
        return [
            ask(relay, http_bytes(f"POST /{room}", body, BINARY if b"\0" in body else {})).json["id"] for body in bodies
        ]

    def get(self, relay: Relay, query: str = "") -> Response:
        return ask(relay, http_bytes(f"GET /room{query}", None, JSON))

    def test_at(self) -> None:
        """A room says up to which id it is known: that of the last publish."""
        relay = self.kept()
        empty = self.get(relay).json
        [one] = self.post(relay, b"one")
        content = self.get(relay).json

        self.assertEqual(set(content), {"room", "members", "publishers", "at"})
        self.assertEqual((content["at"], content["members"]), (one, 0))
        self.assertLess(MessageId.parse(empty["at"]), MessageId.parse(one))

    def test_last(self) -> None:
        """The newest messages, oldest first: text, or base64; complete if there are as many, or all there ever were."""
        relay = self.kept()
        ids = self.post(relay, b"one", "zw\u00f6\n".encode(), b"\0")
        messages = [
            {"id": ids[0], "text": "one"},
            {"id": ids[1], "text": "zw\u00f6\n"},
            {"id": ids[2], "base64": "AA=="},
        ]
        for last in (0, 1, 2, 3, 5):
            content = self.get(relay, f"?last={last}").json
            self.assertEqual(content["messages"], messages[-last:] if last else [])
            self.assertEqual((content["at"], content["complete"]), (ids[2], True))

    def test_last_incomplete(self) -> None:
        """Where older messages were forgotten, fewer than wanted are not complete."""
        relay = self.kept(history=("2",))
        ids = self.post(relay, b"1", b"2", b"3", b"4")
        content = self.get(relay, "?last=4").json

        self.assertEqual([message["id"] for message in content["messages"]], ids[2:])
        self.assertFalse(content["complete"])
        self.assertTrue(self.get(relay, "?last=2").json["complete"])

    def test_since(self) -> None:
        """Exactly the messages behind an id; none behind the newest."""
        relay = self.kept()
        begin = self.get(relay).json["at"]
        ids = self.post(relay, b"1", b"2", b"3")
        for number, since in enumerate([begin, *ids]):
            content = self.get(relay, f"?since={since}").json
            self.assertEqual([message["id"] for message in content["messages"]], ids[number:])
            self.assertEqual((content["at"], content["complete"]), (ids[2], True))

    def test_since_gone(self) -> None:
        """An id that is not known is a 410, which says what to do; with last, the newest messages are the answer."""
        relay = self.kept(history=("2",))
        ids = self.post(relay, b"1", b"2", b"3", b"4", b"5")
        for since in (ids[0], "other", "00000000-1", ids[4] + "9"):
            response = self.get(relay, f"?since={since}")
            self.assertEqual((response.status, response.body.decode()), (410, f"{closecodes.HISTORY_GONE.text}\n"))
            content = self.get(relay, f"?since={since}&last=1").json
            self.assertEqual([message["id"] for message in content["messages"]], ids[4:])
        self.assertEqual(relay.stats.handshakes_denied[410, "history"], 4)

    def test_size(self) -> None:
        """The size of an answer is bounded by history_bytes."""
        relay = self.kept(history=("1000",), history_bytes=10_000)
        self.post(relay, *[b"x" * 1000] * 30)
        self.assertLess(len(self.get(relay, "?last=1000").body), 12_000)

    def test_head(self) -> None:
        """HEAD has the same fields."""
        relay = self.kept()
        self.post(relay, b"one")
        for query in ("", "?last=1"):
            requests = [http_bytes(f"{method} /room{query}", None, JSON) for method in ("GET", "HEAD")]
            whole, bare = [relay.wire().send(request) for request in requests]
            self.assertEqual(whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", bare)
            self.assertIn(b"HTTP/1.1 200 ", bare)
        wire = relay.wire()
        wire.send(http_bytes("HEAD /room?since=x", None, JSON))
        self.assertEqual(wire.status, 410)

    def test_wrong(self) -> None:
        """A parameter that is malformed, or given twice, is refused."""
        relay = self.kept()
        for query in ("?last=x", "?last=1&last=1", "?since=%ff"):
            self.assertEqual(self.get(relay, query).status, 400)

    def test_history_none(self) -> None:
        """Without the right to history, a room has no at, and asking for messages is refused."""
        for rights in ({"history": "none"}, {"can_subscribe": False}):
            relay = self.kept(narrowed(**rights))
            self.post(relay, b"one")
            self.assertNotIn("at", self.get(relay).json)
            self.assertEqual([self.get(relay, f"?{wanted}").status for wanted in ("last=1", "since=x")], [403, 403])

    def test_history_resume(self) -> None:
        """With the right to resume alone, there are messages behind an id only."""
        relay = self.kept(narrowed(history="resume"))
        ids = self.post(relay, b"1", b"2")
        self.assertEqual(self.get(relay, "?last=2").json["at"], ids[1])
        self.assertNotIn("messages", self.get(relay, "?last=2").json)
        self.assertEqual(self.get(relay, f"?since={ids[0]}").json["messages"], [{"id": ids[1], "text": "2"}])
        self.assertEqual(self.get(relay, "?since=x&last=2").status, 410)

    def test_without_history(self) -> None:
        """In a room without history, the parameters mean nothing, and are not even parsed."""
        for settings in ({}, {"history": ("other=8",)}):
            relay = self.relay(http=True, **settings)
            response = self.get(relay, "?last=x&since=%ff")
            self.assertEqual(response.json, {"room": "room", "members": 0, "publishers": 0})


class FirstEventsTests(RelayTestCase):
    """The begin of a stream."""

    def test_first_events(self) -> None:
        """A stream begins with its id, and a gap if what is wanted is gone; with neither in a room without history."""
        grant, wanted = Grant("room"), Wanted("x")
        self.assertEqual(first_events(Start(AT), grant, ALL_NEW), sse.identify(AT))
        self.assertEqual(first_events(Start(AT, True), grant, wanted), sse.identify(AT) + sse.gap(AT, "gone", "x"))
        self.assertEqual(first_events(Start(), grant, ALL_NEW), b"")
        self.assertEqual(first_events(Start(AT), Grant("room", history="none"), ALL_NEW), b"")
