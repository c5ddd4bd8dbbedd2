"""Tests of wsrelay.http.exchange: one request and its response, alone and on a relay's connection."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.http import Response, ask, http_bytes
from tests.harness.support import Answer, RelayTestCase
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.body import MAX_FRAMING_BYTES, STRETCH_CHUNKS
from wsrelay.http.exchange import Exchange
from wsrelay.http.head import parse_head

#: The fields of a body in chunks.
CHUNKED: dict[str, str | None] = {"Content-Length": None, "Transfer-Encoding": "chunked"}


class Line:
    """Records what an exchange does to its connection."""

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[Any] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def end(self) -> None:
        self.calls.append("end")

    def deny(self, denied: Denied) -> None:
        self.calls.append(denied.status)

    def fail(self, error: Failure | Exception) -> None:
        self.calls.append(type(error))


def echo(exchange: Exchange) -> None:
    """Answer with the body."""
    exchange.respond(200, [("X-A", "b")], exchange.content)


class ExchangeTests(SynchronousTestCase):
    """An exchange alone."""

    def setUp(self) -> None:
        self.line = Line()

    def exchange(
        self,
        line: str = "POST /room",
        fields: dict[str, str | None] | None = None,
        answer: Callable[[Exchange], None] = echo,
        max_body_bytes: int = 10,
    ) -> Exchange:
        head = http_bytes(line, None, fields or {"Content-Length": "5"})[:-4]
        return Exchange(self.line, parse_head(head, None, methods=("GET", "HEAD", "POST")), answer, max_body_bytes)

    def test_late(self) -> None:
        """An answer that waits can be given at once, once."""
        calls: list[str] = []
        exchange = self.exchange(
            answer=lambda exchange: exchange.wait(lambda: calls.append("late"), lambda: calls.append("forget"))
        )
        self.assertEqual((exchange.give_up(), exchange.is_waiting), (False, False))
        exchange.begin(Grant(room="room"))
        exchange.receive(b"hello")
        self.assertTrue(exchange.is_waiting)
        self.assertEqual((exchange.give_up(), exchange.give_up(), calls), (True, False, ["late"]))
        exchange.discard()
        exchange.lost(Failure(ConnectionDone()))
        self.assertEqual(calls, ["late", "forget"])

    def test_respond_once(self) -> None:
        """Behind a response, and behind the end of TCP, an exchange responds no more, and waits for nothing."""
        for end in (Exchange.discard, lambda exchange: exchange.lost(Failure(ConnectionDone()))):
            exchange = self.exchange(answer=lambda _: None)
            exchange.wait(lambda: None, lambda: None)
            end(exchange)
            exchange.respond(200, [])
            self.assertEqual((self.line.written, exchange.is_waiting), (b"", False))

    def test_grant_first(self) -> None:
        """A complete body waits for the grant."""
        exchange = self.exchange()
        exchange.receive(b"hello")
        self.assertEqual((self.line.written, exchange.incoming_bytes), (b"", 5))
        exchange.begin(Grant(room="room"))

        self.assertEqual(Response(self.line.written).body, b"hello")
        self.assertEqual((self.line.calls, exchange.grant.room), (["end"], "room"))

    def test_body_later(self) -> None:
        """A granted request waits for its body; it is answered once."""
        exchange = self.exchange()
        exchange.begin(Grant(room="room"))
        for data in (b"hel", b"lo", b"more"):
            exchange.receive(data)

        self.assertEqual(self.line.written.count(b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n"), 1)
        self.assertEqual(self.line.calls, ["end"])

    def test_no_body(self) -> None:
        """A request without a body is answered at the grant; bytes behind it are discarded, up to a bound."""
        exchange = self.exchange("GET /room", {"X-A": "b"}, max_body_bytes=0)
        exchange.receive(b"POST / HTTP/1.1\r\n")
        exchange.begin()
        exchange.receive(b"x" * (MAX_FRAMING_BYTES - 17))

        self.assertEqual((self.line.written.count(b"HTTP/1.1"), self.line.calls), (1, ["end"]))
        self.assertEqual(self.assertRaises(Denied, exchange.receive, b"x").status, 413)

    def test_incoming_bytes(self) -> None:
        """Framing is bounded, too: a body of tiny chunks is a 413 in the end."""
        exchange = self.exchange(fields={"Content-Length": None, "Transfer-Encoding": "chunked"})
        exchange.receive(b"1;" + b"x" * (MAX_FRAMING_BYTES + 18))
        self.assertEqual(self.assertRaises(Denied, exchange.receive, b"x").status, 413)

    def test_chunks(self) -> None:
        """Many chunks are decoded in several calls, and counted."""
        exchange = self.exchange(fields=CHUNKED, max_body_bytes=1000)
        exchange.receive(b"1\r\nx\r\n" * (STRETCH_CHUNKS + 1) + b"0\r\n\r\n")
        exchange.begin()
        self.assertEqual((exchange.is_behind, exchange.chunks, self.line.calls), (True, STRETCH_CHUNKS, []))
        exchange.receive(b"")
        self.assertEqual((exchange.is_behind, exchange.chunks), (False, STRETCH_CHUNKS + 1))
        self.assertEqual(self.line.calls, ["end"])
        refused = self.exchange(fields=CHUNKED)
        refused.begin()
        refused.receive(b"1\r\nx\r\n1\r\nxy")
        self.assertEqual(self.line.calls, ["end", 400])

    def test_whole_in_chunks(self) -> None:
        """A body of many chunks counts as whole until all are decoded, a turn's at a time; then if all have come."""
        for end, is_whole in ((b"", False), (b"0\r\n\r\n", True)):
            exchange = self.exchange(fields=CHUNKED, max_body_bytes=1000)
            exchange.receive(b"1\r\nx\r\n" * (3 * STRETCH_CHUNKS - 1) + end)
            seen = [(exchange.is_whole(), exchange.chunks) for _ in range(3)]
            self.assertEqual(seen[:2], [(True, STRETCH_CHUNKS), (True, 2 * STRETCH_CHUNKS)])
            self.assertEqual(seen[2], (is_whole, 3 * STRETCH_CHUNKS - 1))

    def test_continue(self) -> None:
        """100 Continue is sent at the grant, unless the body has begun."""
        fields = {"Content-Length": "5", "Expect": "100-Continue"}
        self.exchange(fields=fields).begin()
        self.assertEqual(self.line.written, b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange = self.exchange(fields=fields)
        exchange.receive(b"h")
        self.line.written = b""
        exchange.begin()

        self.assertEqual(self.line.written, b"")

    def test_continue_without_body(self) -> None:
        """A request without a body gets no 100 Continue."""
        self.exchange("HEAD /", {"Expect": "100-continue"}, lambda exchange: None, 0).begin()

        self.assertEqual(self.line.written, b"")

    def test_refusal(self) -> None:
        """A refusal has the fields for pages of other origins, and no content for HEAD."""
        for method, content in (("GET", b"no\n"), ("HEAD", b"")):
            exchange = self.exchange(f"{method} /", {"X-A": "b"}, max_body_bytes=0)
            exchange.sharing = [("Vary", "Origin")]
            head, _, body = exchange.refusal(Denied(403, "no")).partition(b"\r\n\r\n")
            self.assertIn(b"\r\nVary: Origin\r\n", head)
            self.assertIn(b"\r\nContent-Length: 3\r\n", head)
            self.assertEqual(body, content)

    def test_head(self) -> None:
        """The response to HEAD has the length, and no body."""
        long = self.exchange("HEAD /", {"X-A": "b"}, lambda exchange: exchange.respond(200, [], b"12345"), 0)
        long.begin()

        self.assertTrue(self.line.written.endswith(b"\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"))

    def test_lost(self) -> None:
        """A response after the end of TCP goes nowhere."""
        exchange = self.exchange()
        exchange.lost(Failure(ConnectionDone()))
        exchange.respond(200, [])

        self.assertEqual((self.line.written, self.line.calls), (b"", []))

    def test_denied(self) -> None:
        """A refusal by the answer, and malformed chunks, are denied."""

        def deny(exchange: Exchange) -> None:
            raise Denied(418, "short and stout")

        self.exchange("GET /", {"X-A": "b"}, deny, 0).begin()
        chunked = self.exchange(fields={"Content-Length": None, "Transfer-Encoding": "chunked"})
        chunked.begin()
        chunked.receive(b"zz\r\n")

        self.assertEqual(self.line.calls, [418, 400])

    def test_failure(self) -> None:
        """Any other exception fails the connection."""
        self.exchange("GET /", {"X-A": "b"}, lambda exchange: exchange.respond(1 // 0, []), 0).begin()

        self.assertEqual(self.line.calls, [ZeroDivisionError])


class RelayTests(RelayTestCase):
    """An exchange on a relay's connection."""

    def test_failure(self) -> None:
        """An exception in an answer is a 500 with an id, and harms no other connection."""
        relay = self.relay(http=True)
        client = relay.client()
        self.patch(relay.factory.hub, "status", lambda name: 1 / 0)
        response = ask(relay, http_bytes("POST /room", b"hello"))

        self.assertEqual(response.status, 500)
        self.assertRegex(response.body.decode(), r"^internal error: [0-9a-f]{8}\n$")
        self.assertTrue(client.open)
        self.assertEqual(relay.stats.failures, 1)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_lost_connection(self) -> None:
        """A client that goes before its body is complete, or before its grant, leaves nothing behind."""
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

    def test_long_body(self) -> None:
        """A long body arrives whole."""
        relay = self.relay(http=True)
        self.assertEqual(ask(relay, http_bytes("POST /room", b"x" * 500_000)).status, 202)

        self.assertEqual(relay.stats.bytes_in, 500_010)
