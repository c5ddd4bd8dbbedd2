"""Tests of wsrelay.http.wants: requests as bytes, through the strict parser."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http import http_bytes
from tests.harness.support import request_bytes
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.head import parse_head
from wsrelay.http.wants import wanted
from wsrelay.message_id import MessageId
from wsrelay.wanted import ALL_NEW, Wanted

SINCE = "k3fj9a2q-129"
ID = MessageId("k3fj9a2q", (129,))
STREAM = {"Accept": "text/event-stream"}


def read(query: str = "", fields: Mapping[str, str] | None = None, **rights: Any) -> Wanted:
    """Return what a handshake wants, or a GET with fields."""
    target = f"/room?{query}"
    data = request_bytes(target) if fields is None else http_bytes(f"GET {target}", None, fields)
    return wanted(parse_head(data.partition(b"\r\n\r\n")[0], None), Grant(room="room", **rights))


class WantedTests(SynchronousTestCase):
    """Parameters and fields."""

    def refused(self, query: str, fields: Mapping[str, str] | None = None, **rights: Any) -> tuple[int, str]:
        denied = self.assertRaises(Denied, read, query, fields, **rights)
        return denied.status, denied.reason

    def test_wanted_nothing(self) -> None:
        """Without parameters, and with an empty since, a client wants nothing."""
        for query in ("", "since=", "token=x"):
            self.assertIs(read(query), ALL_NEW)

    def test_wanted_since(self) -> None:
        """An id is read; one of another version stays a text."""
        self.assertEqual(read(f"since={SINCE}"), Wanted(SINCE, ID))
        self.assertEqual(read("since=v2:x"), Wanted("v2:x", None))

    def test_wanted_last(self) -> None:
        """A number of messages, with an id or without."""
        self.assertEqual(read("last=0"), Wanted(last=0))
        self.assertEqual(read("last=1000000"), Wanted(last=1_000_000))
        self.assertEqual(read(f"last=05&since={SINCE}"), Wanted(SINCE, ID, 5))

    def test_wanted_malformed(self) -> None:
        """A wrong number is refused, and the text says what to write; so is a parameter given twice."""
        for wrong in ("", "-1", "1000001", "1.5", "all", "10000000", "%D9%A1", "1%20"):
            status, reason = self.refused(f"last={wrong}")
            self.assertEqual(status, 400)
            self.assertIn("a whole number from 0 to 1000000", reason)
        for name in ("since", "last"):
            self.assertEqual(self.refused(f"{name}=1&{name}=1"), (400, f"write {name} once in the query"))

    def test_wanted_last_event_id(self) -> None:
        """Last-Event-ID wins over since, for event streams only; an empty one does not count."""
        fields = {**STREAM, "Last-Event-ID": SINCE}
        self.assertEqual(read("", fields), Wanted(SINCE, ID))
        self.assertEqual(read("since=other&last=3", fields), Wanted(SINCE, ID, 3))
        self.assertEqual(read("since=other", {**STREAM, "Last-Event-ID": ""}), Wanted("other", None))
        self.assertIs(read("", {"Accept": "application/json", "Last-Event-ID": SINCE}), ALL_NEW)

    def test_wanted_last_event_id_websocket(self) -> None:
        """A WebSocket handshake has no Last-Event-ID."""
        head = request_bytes("/room", {**STREAM, "Last-Event-ID": SINCE}).partition(b"\r\n\r\n")[0]
        self.assertIs(wanted(parse_head(head, None), Grant(room="room")), ALL_NEW)

    def test_wanted_history_none(self) -> None:
        """Without the right to the history, asking is refused, and there is no greeting."""
        for rights in ({"history": "none"}, {"can_subscribe": False}):
            for query in (f"since={SINCE}", "last=1", "last=0"):
                self.assertEqual(self.refused(query, **rights)[0], 403)
            self.assertEqual(read("", {**STREAM, "Last-Event-ID": SINCE}, **rights).since, None)
        self.assertEqual(read("", history="none"), Wanted(may_greet=False))

    def test_wanted_history_resume(self) -> None:
        """With the right to resume alone, last has no effect, and there is no greeting."""
        self.assertEqual(read("last=5", history="resume"), Wanted(may_greet=False))
        self.assertEqual(read(f"since={SINCE}&last=5", history="resume"), Wanted(SINCE, ID, may_greet=False))
        self.assertEqual(self.refused("last=x", history="resume")[0], 400)

    @given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&#%+;"), min_size=1))
    def test_wanted_any_since(self, text: str) -> None:
        """Any text is an id, or one that cannot be read."""
        found = read(f"since={text}")
        self.assertEqual(found.since, text)
        self.assertTrue(found.id is None or found.id.epoch == text[:8])
