"""Tests of wsrelay.http.site: plain HTTP on the relay's ports, with real requests on connections in memory."""

from base64 import urlsafe_b64decode
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from tests.harness.backplane import BrokerTestCase
from tests.harness.http import Response, ask, http_bytes
from tests.harness.support import (
    Answer,
    RecordingSubscriber,
    Relay,
    RelayTestCase,
    Transport,
    Wire,
    request_bytes,
)
from wsrelay import closecodes
from wsrelay.connection.opening import KEPT_TIMES
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.validators.origin import OriginValidator
from wsrelay.validators.plugins import load


def narrowed(**grant: Any) -> Answer:
    """Return a validator that narrows the grant."""
    return Answer(lambda _, so_far: so_far.narrowed(**grant))


class PublishTests(RelayTestCase):
    """POST."""

    def post(self, relay: Any, body: bytes = b"hello", **fields: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return ask(relay, http_bytes("POST /room", body, named))

    def test_publish(self) -> None:
        """A body is a message to all members of the room; the answer counts them."""
        relay = self.relay(http=True)
        clients = [relay.client(), relay.client(), relay.client("/other")]
        response = self.post(relay)
        relay.settle()

        self.assertEqual((response.status, response.json), (202, {"room": "room", "members": 2}))
        self.assertEqual([client.messages for client in clients], [["hello"], ["hello"], []])
        self.assertEqual(response.headers["Connection"], "close")
        self.assertEqual((relay.stats.messages_in, relay.stats.bytes_in), (1, 7))
        self.assertEqual(relay.stats.http_requests, {("POST", 202): 1})

    def test_publish_empty_room(self) -> None:
        """A publish to a room without members is accepted, and says so."""
        self.assertEqual(self.post(self.relay(http=True)).json, {"room": "room", "members": 0})

    def test_publish_content_type(self) -> None:
        """Content-Type tells text from binary; without one, and with curl's default, a body is text."""
        relay = self.relay(http=True)
        client = relay.client()
        texts = (
            {},
            {"Content_Type": "text/plain; charset=UTF-8"},
            {"Content_Type": "application/json"},
            {"Content_Type": "application/vnd.api+json"},
            {"Content_Type": "application/x-www-form-urlencoded"},
        )
        for fields in texts:
            self.assertEqual(self.post(relay, **fields).status, 202, fields)
        for content_type in ("application/octet-stream", "image/png", "APPLICATION/ZIP", "nonsense"):
            self.assertEqual(self.post(relay, Content_Type=content_type).status, 202)
        relay.settle()

        self.assertEqual(client.messages, ["hello"] * len(texts) + [b"hello"] * 4)

    def test_publish_utf8(self) -> None:
        """Text in another encoding than UTF-8, and a compressed body, are refused and not relayed."""
        relay = self.relay(http=True)
        client = relay.client()
        statuses = [
            self.post(relay, b"\xff").status,
            self.post(relay, Content_Type="text/plain; charset=latin-1").status,
            self.post(relay, Content_Type="text/plain; charset*=utf-16''x").status,
            self.post(relay, Content_Encoding="gzip").status,
        ]
        relay.settle()

        self.assertEqual((statuses, client.messages), ([400, 415, 415, 415], []))

    def test_publish_message_type(self) -> None:
        """A room for binary messages refuses text."""
        relay = self.relay(http=True, message_type=("binary",))
        self.assertEqual(self.post(relay).status, 415)
        self.assertEqual(self.post(relay, Content_Type="image/png").status, 202)

    def test_publish_held_room(self) -> None:
        """A room with slow policy pause-publishers refuses while it is held, with Retry-After."""
        relay = self.relay(
            http=True, slow_policy=("pause-publishers",), max_message_bytes=100_000, room_log_bytes=150_000
        )
        slow = relay.client()
        slow.server_transport.stalled = True
        for _ in range(6):
            response = self.post(relay, b"x" * 40_000)
            relay.settle()

        self.assertEqual((response.status, response.headers["Retry-After"]), (503, "1"))

    def test_except(self) -> None:
        """Wsrelay-Except names the connection that does not receive the message, by the handle in its 101."""
        relay = self.relay(http=True)
        a, b = relay.client(), relay.client()
        self.post(relay, Wsrelay_Except=a.http_headers["wsrelay-connection"])
        relay.settle()
        self.assertEqual((a.messages, b.messages), ([], ["hello"]))
        self.assertEqual((a.server.status().messages_out, b.server.status().messages_out), (0, 1))

        self.post(relay, Wsrelay_Except="A" * 22)
        relay.settle()
        self.assertEqual((a.messages, b.messages), (["hello"], ["hello"] * 2))
        for wrong in ("", "1", str(b.server.number), "me", "1" * 21, "1" * 23, "é" * 22, "\N{SUPERSCRIPT TWO}" * 22):
            self.assertEqual(self.post(relay, Wsrelay_Except=wrong).status, 400, wrong)

    def test_handles(self) -> None:
        """A handle is random; it is not the number, not in the log, and means nothing in another room."""
        relay = self.relay(http=True)
        clients = [relay.client(), relay.client(), relay.client("/other")]
        handles = [client.http_headers["wsrelay-connection"] for client in clients]
        self.assertEqual(handles, [client.server.status().handle for client in clients])
        self.assertEqual([len(urlsafe_b64decode(f"{handle}==")) for handle in {*handles}], [16] * 3)
        relay.clock.advance(1)
        self.assertEqual([line for line in self.logged() if any(handle in line for handle in handles)], [])
        self.post(relay, Wsrelay_Except=handles[2])
        relay.settle()

        self.assertEqual([client.messages for client in clients], [["hello"], ["hello"], []])

    def test_handles_forgotten(self) -> None:
        """A handle ends with its connection, at the close frame, the end of TCP, or an eviction."""
        relay = self.relay(http=True, close_seconds=1)
        closed, lost, evicted, stays = [relay.client() for _ in range(4)]
        handle = evicted.http_headers["wsrelay-connection"]
        closed.sendClose(1000)
        lost.server.connectionLost()
        evicted.server.close(closecodes.TOO_SLOW)
        relay.settle()

        self.assertEqual([*relay.factory.web.handles], [stays.http_headers["wsrelay-connection"]])
        self.assertEqual(self.post(relay, Wsrelay_Except=handle).status, 202)

    def test_handles_without_http(self) -> None:
        """Without --http, nothing is named: the demo page alone needs no handles."""
        for settings in ({}, {"demo": True}):
            relay = self.relay(**settings)
            client = relay.client()
            self.assertNotIn("wsrelay-connection", client.http_headers)
            self.assertIsNone(client.server.status().handle)
            client.sendClose(1000)
            relay.settle()
            self.assertEqual(relay.factory.hub.member_count("room"), 0)

    def test_except_complexity(self) -> None:
        """A handle is looked up, not searched: no connection is visited."""
        relay = self.relay(http=True)
        handle = relay.client().http_headers["wsrelay-connection"]
        wire = relay.wire()
        relay.factory.connections = None  # a walk over it fails

        response = ask(relay, http_bytes("POST /room", b"hello", {"Wsrelay-Except": handle}), wire)
        self.assertEqual(response.status, 202)

    def test_max_message_bytes(self) -> None:
        """A body above the limit is a 413: by Content-Length, by size, and by its chunks."""
        relay = self.relay(http=True, max_message_bytes=10, room_log_bytes=1000)
        client = relay.client()
        self.assertEqual(self.post(relay, b"x" * 10).status, 202)
        self.assertEqual(self.post(relay, b"x" * 11).status, 413)
        chunked = {"Content_Length": None, "Transfer_Encoding": "chunked"}
        self.assertEqual(self.post(relay, b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", **chunked).status, 202)
        self.assertEqual(self.post(relay, b"5\r\nhello\r\n6\r\nworlds\r\n0\r\n\r\n", **chunked).status, 413)
        self.assertEqual(self.post(relay, b"1" * 70_000, **chunked).status, 413)
        relay.settle()

        self.assertEqual(client.messages, ["x" * 10, "helloworld"])
        self.assertEqual(relay.stats.handshakes_denied, {(413, "max_message_bytes"): 3})

    def test_framing_fields(self) -> None:
        """Bodies of unclear length are refused before the validators are asked: they allow smuggling."""
        validator = narrowed()
        relay = self.relay([validator], http=True)
        for status, fields in (
            (411, {"Content-Length": None}),
            (400, {"Transfer-Encoding": "chunked"}),
            (400, {"Content-Length": None, "Transfer-Encoding": "gzip, chunked"}),
            (400, {"Content-Length": "+5"}),
            (400, {"Content-Length": "5, 5"}),
            (400, {"Content-Length": "9" * 30}),
        ):
            self.assertEqual(ask(relay, http_bytes("POST /room", b"hello", fields)).status, status, fields)
        self.assertEqual(validator.requests, [])

    def test_malformed_chunks(self) -> None:
        """Malformed chunks are a 400, counted, and nothing is relayed."""
        relay = self.relay(http=True)
        client = relay.client()
        fields = {"Content-Length": None, "Transfer-Encoding": "chunked"}
        self.assertEqual(ask(relay, http_bytes("POST /room", b"zz\r\nhello\r\n", fields)).status, 400)
        relay.settle()

        self.assertEqual(client.messages, [])

    def test_byte_by_byte(self) -> None:
        """A request may come in pieces, cut anywhere."""
        relay = self.relay(http=True)
        client = relay.client()
        wire = relay.wire()
        request = http_bytes("POST /room", b"hello")
        answers = b"".join(wire.send(request[at : at + 1]) for at in range(len(request)))
        relay.settle()

        self.assertTrue(answers.startswith(b"HTTP/1.1 202 "))
        self.assertEqual(client.messages, ["hello"])

    def test_pipelining(self) -> None:
        """Bytes behind a request are not read as another one."""
        relay = self.relay(http=True)
        client = relay.client()
        wire = relay.wire()
        answer = wire.send(http_bytes("POST /room", b"one") + http_bytes("POST /room", b"two"))
        relay.settle()

        self.assertEqual((answer.count(b"HTTP/1.1"), client.messages), (1, ["one"]))
        self.assertTrue(wire.ended)

    def test_continue(self) -> None:
        """A client that expects 100 Continue gets it at the grant."""
        deferred: Deferred[Any] = Deferred()
        relay = self.relay([Answer(deferred)], http=True)
        wire = relay.wire()
        head = http_bytes("POST /room", None, {"Expect": "100-continue", "Content-Length": "5"})
        self.assertEqual(wire.send(head), b"")
        deferred.callback(Grant(room="room"))
        self.assertTrue(wire.send(b"").startswith(b"HTTP/1.1 100 Continue"))
        self.assertTrue(wire.send(b"hello").startswith(b"HTTP/1.1 202 "))

    def test_validators(self) -> None:
        """A publish needs a grant with can_publish; it goes to the room of the grant."""
        relay = self.relay([Answer(Denied(401, "who are you?"))], http=True)
        response = self.post(relay)
        self.assertEqual((response.status, response.body), (401, b"who are you?\n"))
        self.assertEqual(self.post(self.relay([narrowed(can_publish=False)], http=True)).status, 403)
        relay = self.relay([narrowed(room="elsewhere")], http=True)
        client = relay.client()
        self.assertEqual(self.post(relay).json, {"room": "elsewhere", "members": 1})
        relay.settle()
        self.assertEqual(client.messages, ["hello"])

    def test_validator_sees_method(self) -> None:
        """Validators see the method, to tell publishers from subscribers."""
        validator = narrowed()
        self.post(self.relay([validator], http=True))
        self.assertEqual(validator.requests[0].method, "POST")

    def test_body_while_validators_are_asked(self) -> None:
        """A body that comes before the grant waits, counts as memory, and is bounded."""
        deferred: Deferred[Any] = Deferred()
        relay = self.relay([Answer(deferred)], http=True, max_message_bytes=100, room_log_bytes=1000)
        wire = relay.wire()
        head = http_bytes("POST /room", None, {"Content-Length": "5"})
        wire.send(head + b"hel")
        [connection] = relay.factory.connections
        self.assertEqual(connection.incoming_bytes, KEPT_TIMES * (len(head) - 4) + 3)
        wire.send(b"lo")
        deferred.callback(Grant(room="room"))
        self.assertTrue(wire.send(b"").startswith(b"HTTP/1.1 202 "))

        wire = self.relay([Answer(Deferred())], http=True, max_message_bytes=100, room_log_bytes=1000).wire()
        wire.send(http_bytes("POST /room", None, {"Content-Length": "5"}))
        wire.send(b"x" * 70_000)
        self.assertEqual(wire.status, 413)


class PublishHistoryTests(RelayTestCase):
    """POST to rooms with history."""

    POST = http_bytes("POST /room", b"hello")

    def kept(self, **settings: Any) -> Relay:
        """Return a relay whose rooms have history."""
        return self.relay(http=True, **{"history": ("8",), **settings})

    def test_publish_id(self) -> None:
        """The answer has the id of the message; the room opens, and keeps it for clients that come."""
        relay = self.kept()
        first, second = ask(relay, self.POST).json, ask(relay, self.POST).json
        self.assertEqual(set(first), {"room", "members", "id"})
        self.assertLess(MessageId.parse(first["id"]), MessageId.parse(second["id"]))
        client = relay.client("/room?last=5")

        self.assertEqual(client.messages, ["hello", "hello"])

    def test_publish_too_many_rooms(self) -> None:
        """Where the relay has too many rooms, a publish that would open one is refused, and not counted."""
        relay = self.kept(max_rooms=1)
        relay.client("/other")
        response = ask(relay, self.POST)

        self.assertEqual((response.status, response.headers["Retry-After"]), (503, "10"))
        self.assertEqual((relay.stats.messages_in, relay.stats.handshakes_denied), (0, {(503, "max_rooms"): 1}))

    def waiting(self, **settings: Any) -> tuple[Relay, Wire, Callable[[], None]]:
        """Return a relay, the connection of a POST that waits for its id, and what gives it."""
        relay = self.kept(**settings)
        runs: list[tuple[str, Run]] = []
        relay.factory.backplane.publish = lambda room, run: runs.append((room, run))
        wire = relay.wire()
        self.assertEqual(wire.send(self.POST), b"")
        [(room, run)] = runs

        def place() -> None:
            relay.factory.hub.publish(room, run)
            relay.factory.hub.histories.placed(run)

        return relay, wire, place

    def test_publish_placed(self) -> None:
        """With a broker, the answer waits until the message has its id, also if the client ends its half."""
        for ends_half in (False, True):
            relay, wire, place = self.waiting()
            if ends_half:
                wire.transport.protocol.readConnectionLost()
            place()
            content = Response(wire.send(b"")).json
            self.assertEqual(MessageId.parse(content["id"]), relay.factory.hub.histories.at("room"))
            self.assertEqual(relay.stats.http_requests, {("POST", 202): 1})

    def test_publish_placed_late(self) -> None:
        """After two seconds the answer comes without the id; it comes once."""
        relay, wire, place = self.waiting()
        relay.wait(1)
        self.assertEqual(wire.send(b""), b"")
        relay.wait(1)
        self.assertEqual(Response(wire.send(b"")).json, {"room": "room", "members": 0})
        place()

        self.assertEqual((wire.send(b""), relay.stats.http_requests), (b"", {("POST", 202): 1}))
        self.assertEqual(relay.stats.handshakes_denied, {})

    def test_publish_placed_gone(self) -> None:
        """A client that has gone gets no answer."""
        relay, wire, place = self.waiting()
        wire.hang_up()
        place()

        self.assertEqual((len(relay.factory.connections), relay.stats.http_requests), (0, {}))

    def test_publish_placed_stopping(self) -> None:
        """A relay that stops confirms what it has published."""
        relay, wire, place = self.waiting()
        relay.factory.close_all(closecodes.RESTARTING, 5)
        self.assertEqual(Response(wire.send(b"")).json, {"room": "room", "members": 0})
        place()

        self.assertEqual(wire.send(b""), b"")


class DescribeTests(BrokerTestCase):
    """GET as JSON."""

    def get(self, relay: Any, accept: str = "application/json") -> Any:
        return ask(relay, http_bytes("GET /room", None, {"Accept": accept}))

    def test_room(self) -> None:
        """The number of members, and of publishers among them."""
        relay = self.relay(http=True)
        self.assertEqual(self.get(relay).json, {"room": "room", "members": 0, "publishers": 0})
        relay.client()
        response = self.get(relay, "text/plain, application/JSON;q=0.5")
        self.assertEqual(response.json, {"room": "room", "members": 1, "publishers": 1})
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, "application/json"))
        self.assertEqual(response.headers["Cache-Control"], "no-store")

    def test_node(self) -> None:
        """With a broker, a node counts its own members, and names itself."""
        one, two = self.nodes(2, http=True)
        two.client()
        for node, members in ((one, 0), (two, 1)):
            expected = {"room": "room", "members": members, "node": node.factory.settings.node_name}
            self.assertEqual(self.get(node).json, expected | {"publishers": members})
            self.assertEqual(ask(node, http_bytes("POST /room", b"hi")).json, expected)

    def test_validators(self) -> None:
        """The validators decide on it."""
        self.assertEqual(self.get(self.relay([Answer(Denied(403, "no"))], http=True)).status, 403)


class TailTests(RelayTestCase):
    """GET as server-sent events; the stream itself is tested in tests/connection/test_event_stream.py."""

    def get(self, relay: Any) -> Any:
        return ask(relay, http_bytes("GET /room", None, {"Accept": "text/event-stream"}))

    def test_response(self) -> None:
        """The response is a stream that nginx does not buffer, with the connection's handle."""
        relay = self.relay(http=True)
        response = self.get(relay)
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, "text/event-stream"))
        self.assertEqual(response.headers["X-Accel-Buffering"], "no")
        self.assertIn(response.headers["Wsrelay-Connection"], relay.factory.web.handles)
        self.assertEqual(relay.factory.hub.member_count("room"), 1)
        self.assertEqual(relay.stats.http_requests, {("GET", 200): 1})

    def test_refusals(self) -> None:
        """A stream needs a grant with can_subscribe, and a place in the room."""
        self.assertEqual(self.get(self.relay([Answer(Denied(401, "no"))], http=True)).status, 401)
        self.assertEqual(self.get(self.relay([narrowed(can_subscribe=False)], http=True)).status, 403)
        relay = self.relay(http=True, max_room_members=1)
        relay.client()
        self.assertEqual(self.get(relay).status, 503)


class HeadTests(RelayTestCase):
    """HEAD: the status and the fields of GET, without content."""

    GETS = (
        ("/room", {"Accept": "application/json"}, 200),
        ("/", {"Accept": "text/html"}, 200),
        ("/room", {}, 426),
        ("/room", {"Content-Length": "5"}, 400),
        ("/a/../b", {"Accept": "application/json"}, 400),
        ("/denied", {"Accept": "application/json"}, 403),
        ("/room", {"Host": None}, 400),
        ("/room", {"X-A": "a" * 70_000}, 431),
        ("/" + "a" * 70_000, {}, 414),
    )

    def pair(self, relay: Any, request: bytes) -> list[tuple[bytes, bytes]]:
        """Return head and content of the responses to GET and to HEAD."""
        parts = []
        for method in (b"GET", b"HEAD"):
            head, end, content = relay.wire().send(request.replace(b"GET", method, 1)).partition(b"\r\n\r\n")
            self.assertTrue(end)
            parts.append((head, content))
        return parts

    def test_head(self) -> None:
        """With --http and --demo, without, and for each refusal, HEAD has the same head as GET, and no content."""

        def validate(request: Any, grant: Grant) -> Grant:
            if request.room == "denied":
                raise Denied(403, "no")
            return grant

        for options, served in (
            ({"http": True, "demo": True}, (200, 400, 403, 414, 426, 431)),
            ({}, (400, 403, 414, 426, 431)),
        ):
            relay = self.relay([Answer(validate)], **options)
            statuses = set()
            for target, fields, status in self.GETS:
                request = http_bytes(f"GET {target}", None, fields)
                (head, content), (bare, nothing) = self.pair(relay, request)
                self.assertEqual((bare, nothing), (head, b""), request[:100])
                self.assertIn(b"\r\nContent-Length: %d\r\n" % len(content), head)
                statuses.add(int(head.split()[1]))
                self.assertIn(int(head.split()[1]), (status, 426))
            self.assertEqual(statuses, set(served))
        self.assertEqual(relay.stats.http_requests, {})

    def test_head_counted(self) -> None:
        """HEAD is a method of its own in the counters."""
        relay = self.relay(http=True, demo=True)
        for target, accept in (("/", "text/html"), ("/", "application/json"), ("/", "text/event-stream")):
            relay.wire().send(http_bytes(f"HEAD {target}", None, {"Accept": accept}))
        self.assertEqual(relay.stats.http_requests, {("HEAD", 200): 3})

    def test_head_of_stream(self) -> None:
        """HEAD of a stream gets the head of the stream and joins no room; a full room refuses it as it refuses GET."""
        relay = self.relay(http=True, max_room_members=1, max_rooms=1)
        tail = http_bytes("HEAD /room", None, {"Accept": "text/event-stream"})
        wire = relay.wire()
        head, end, content = wire.send(tail).partition(b"\r\n\r\n")
        self.assertEqual((wire.status, end, content, wire.ended), (200, b"\r\n\r\n", b"", True))
        self.assertIn(b"\r\nContent-Type: text/event-stream\r\n", head)
        self.assertIn(b"\r\nTransfer-Encoding: chunked\r\n", head)
        wire.hang_up()
        self.assertEqual((len(relay.factory.hub), relay.stats.connections_closed), (0, {}))

        relay.client()
        for target, text in (("/room", "this room is full"), ("/other", "too many rooms")):
            (head, content), (bare, nothing) = self.pair(relay, tail.replace(b"HEAD /room", f"GET {target}".encode()))
            self.assertIn(text, content.decode())
            self.assertEqual((bare, nothing), (head, b""))

    def test_head_of_handshake(self) -> None:
        """HEAD opens no WebSocket: 426."""
        for options in ({}, {"http": True}):
            relay = self.relay(**options)
            wire = relay.wire()
            answer = wire.send(request_bytes(line="HEAD /room HTTP/1.1"))
            self.assertEqual((wire.status, answer.partition(b"\r\n\r\n")[2]), (426, b""))
            self.assertEqual(relay.stats.connections_opened, 0)

    def test_head_while_it_is_received(self) -> None:
        """An incomplete HEAD that is late, or is refused at a stop, gets no content, either."""
        for options in ({}, {"http": True}):
            for late in (True, False):
                relay = self.relay(**options)
                wire = relay.wire()
                wire.send(b"HEAD /room HT")
                if late:
                    relay.wait(relay.factory.settings.handshake_seconds + 1)
                else:
                    relay.factory.close_all(closecodes.RESTARTING, 5)
                answer = wire.send(b"")
                self.assertEqual((wire.status, answer[-4:]), (408 if late else 503, b"\r\n\r\n"))

    def test_head_over_limit(self) -> None:
        """An over-limit client gets no content for HEAD."""
        relay = self.relay(max_connections_per_address=1)
        relay.client()
        wire = relay.wire()
        self.assertEqual((wire.send(http_bytes("HEAD /"))[-4:], wire.status), (b"\r\n\r\n", 429))

    def test_head_denied_later(self) -> None:
        """A grant without can_subscribe, late validators and a bug refuse HEAD without content."""
        tail = http_bytes("HEAD /room", None, {"Accept": "text/event-stream"})
        for answer, status in (
            (narrowed(can_subscribe=False), 403),
            (Answer(Deferred()), 504),
            (Answer(KeyError()), 500),
        ):
            relay = self.relay([answer], http=True)
            wire = relay.wire()
            head = wire.send(tail)
            if status == 504:
                relay.wait(relay.factory.settings.validate_seconds + 1)
                head = wire.send(b"")
            self.assertEqual((wire.status, head[-4:]), (status, b"\r\n\r\n"))
        self.flushLoggedErrors(KeyError)


class OptionsTests(RelayTestCase):
    """OPTIONS: the served methods, and CORS preflights."""

    PREFLIGHT = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }

    def options(self, relay: Any, target: str = "/room", **fields: str) -> Response:
        return ask(relay, http_bytes(f"OPTIONS {target}", None, fields))

    def test_options(self) -> None:
        """OPTIONS of a room, and of the server as a whole, lists the methods; the validators are not asked."""
        asked = Answer(Denied(401, "no"))
        relay = self.relay([asked], http=True)
        for target in ("/room", "/", "*"):
            response = self.options(relay, target)
            self.assertEqual((response.status, response.headers["Allow"]), (204, "GET, HEAD, POST, OPTIONS"))
            self.assertNotIn("Content-Length", response.headers)
            self.assertNotIn("Access-Control-Allow-Origin", response.headers)
        self.assertEqual((asked.requests, relay.stats.http_requests), ([], {("OPTIONS", 204): 3}))

    def test_options_wrong(self) -> None:
        """OPTIONS has no body, and no other target without a path; without --http it is a 405."""
        relay = self.relay(http=True)
        self.assertEqual(self.options(relay, **{"Content-Length": "1"}).status, 400)
        self.assertEqual(self.options(relay, "*x").status, 400)
        self.assertEqual(ask(relay, http_bytes("GET *")).status, 400)
        for options in ({}, {"demo": True}):
            response = self.options(self.relay(**options))
            self.assertEqual((response.status, response.headers["Allow"]), (405, "GET, HEAD"))

    def test_preflight(self) -> None:
        """A preflight of an allowed origin needs no credentials: it gets the methods and its fields."""
        for words in ("https://app.example", "same-host,https://app.example"):
            relay = self.relay([OriginValidator.from_arguments(words), Answer(Denied(401, "no"))], http=True)
            response = self.options(relay, **self.PREFLIGHT)
            self.assertEqual(response.status, 204)
            self.assertEqual(response.headers["Access-Control-Allow-Origin"], "https://app.example")
            self.assertEqual(response.headers["Access-Control-Allow-Credentials"], "true")
            self.assertEqual(response.headers["Access-Control-Allow-Methods"], "GET, HEAD, POST, OPTIONS")
            self.assertEqual(response.headers["Access-Control-Allow-Headers"], "authorization, content-type")

    def test_preflight_refused(self) -> None:
        """A preflight of another origin is a 403 without the fields of a preflight: the browser sends no request."""
        relay = self.relay(None, http=True)
        for method in ({}, {"Access-Control-Request-Method": "POST"}):
            response = self.options(relay, Origin="https://evil.example", **method)
            self.assertEqual(response.status, 403)
            self.assertNotIn("Access-Control-Allow-Methods", response.headers)
        self.assertEqual(relay.stats.handshakes_denied, {(403, "origin"): 2})


class SharingTests(RelayTestCase):
    """Answers and refusals to pages of other origins."""

    NAMED = "https://app.example"

    def relay_for(self, words: str, *others: Any, **settings: Any) -> Any:
        return self.relay([*others, OriginValidator.from_arguments(words)], http=True, **settings)

    SITE = {"Origin": "https://evil.example"}

    def shared(self, relay: Any, request: bytes, origin: str = NAMED) -> tuple[int, str | None, str | None]:
        """Return the status, and the fields that let a page read it."""
        response = ask(relay, request.replace(b"\r\n", f"\r\nOrigin: {origin}\r\n".encode(), 1))
        allowed, credentials = (response.headers.get(f"Access-Control-Allow-{it}") for it in ("Origin", "Credentials"))
        return response.status, allowed, credentials

    def test_sharing(self) -> None:
        """Answers and refusals are for pages of allowed origins; one by the origin validator is for every page."""
        post = http_bytes("POST /room", b"hello")
        relay = self.relay_for(f"{self.NAMED},null,same-host")
        client = relay.client(origin=self.NAMED)
        for origin, status, allowed, credentials in (
            (self.NAMED, 202, self.NAMED, "true"),
            ("null", 202, "null", None),
            ("http://relay.example:3000", 202, "http://relay.example:3000", "true"),
            ("https://evil.example", 403, "*", None),
            ("no origin", 403, "*", None),
        ):
            self.assertEqual(self.shared(relay, post, origin), (status, allowed, credentials))
        relay.settle()
        self.assertEqual(client.messages, ["hello"] * 3)

    def test_sharing_every_origin(self) -> None:
        """Where every origin is allowed, pages may read what they ask for without credentials."""
        post = http_bytes("POST /room", b"hello")
        for relay in (self.relay_for("*"), self.relay(http=True)):
            self.assertEqual(self.shared(relay, post), (202, "*", None))
        relay = self.relay([OriginValidator.from_arguments(words) for words in ("*", self.NAMED)], http=True)
        self.assertEqual(self.shared(relay, post), (202, self.NAMED, "true"))

    def test_sharing_without_origin(self) -> None:
        """A client without an Origin gets no such field."""
        headers = ask(self.relay(http=True), http_bytes("POST /room", b"hello")).headers
        self.assertEqual([name for name in headers if name.startswith("Access-Control") or name == "Vary"], [])

    def test_sharing_of_refusals(self) -> None:
        """A page may read each refusal whose request was read, or it would publish again."""
        tail, json = {"Accept": "text/event-stream"}, {"Accept": "application/json"}
        for status, request, settings in (
            (400, http_bytes("POST /room", b"\xff"), {}),
            (400, http_bytes("GET /room", b"x", json), {}),
            (403, http_bytes("POST /room", b"x"), {"can_publish": False}),
            (403, http_bytes("GET /room", None, tail), {"can_subscribe": False}),
            (411, http_bytes("POST /room"), {}),
            (413, http_bytes("POST /room", b"x" * 2000), {"max_message_bytes": 1000}),
            (
                413,
                http_bytes("POST /room", b"1" * 80_000, {"Transfer-Encoding": "chunked", "Content-Length": None}),
                {},
            ),
            (415, http_bytes("POST /room", b"x", {"Content-Encoding": "gzip"}), {}),
            (415, http_bytes("POST /room", b"x"), {"message_type": ("binary",)}),
            (426, http_bytes("GET /room"), {}),
            (503, http_bytes("GET /room", None, tail), {"max_room_members": 0}),
        ):
            rights = {name: settings.pop(name) for name in ("can_publish", "can_subscribe") if name in settings}
            if "max_room_members" in settings:
                relay = self.relay_for(self.NAMED, max_room_members=1)
                relay.client(origin=self.NAMED)
            else:
                relay = self.relay_for(self.NAMED, narrowed(**rights), **{"max_message_bytes": 5000, **settings})
            self.assertEqual(self.shared(relay, request), (status, self.NAMED, "true"), request[:100])
            self.assertEqual(self.shared(relay, request, "https://evil.example"), (403, "*", None))

    def test_sharing_of_validators_refusals(self) -> None:
        """A refusal by any other validator, before the origin validator or behind it, at once or late, is readable."""
        post = http_bytes("POST /room", b"hello")
        origin = OriginValidator.from_arguments(self.NAMED)
        for answer, status in ((Denied(401, "no"), 401), (Denied(404, "no"), 404), (KeyError(), 500)):
            for validators in ([origin, Answer(answer)], [Answer(answer), origin]):
                self.assertEqual(self.shared(self.relay(validators, http=True), post), (status, self.NAMED, "true"))
        late: Deferred[Any] = Deferred()
        late.errback(Denied(429, "later"))
        self.assertEqual(self.shared(self.relay([origin, Answer(late)], http=True), post), (429, self.NAMED, "true"))
        self.flushLoggedErrors(KeyError)

    def test_sharing_of_bad_rooms(self) -> None:
        """A page may read that its path names no room, with and without --http."""
        for settings in ({}, {"http": True}):
            for origin, told in ((self.NAMED, self.NAMED), ("https://evil.example", None)):
                relay = self.relay([OriginValidator.from_arguments(self.NAMED)], **settings)
                response = ask(relay, http_bytes("GET /a/", None, {"Origin": origin}))
                self.assertEqual((response.status, response.headers["Access-Control-Allow-Origin"]), (400, told))

    def test_sharing_of_handshakes(self) -> None:
        """A refused WebSocket handshake shares nothing: no page can read it."""
        relay = self.relay([OriginValidator.from_arguments(self.NAMED), Answer(Denied(403, "no"))])
        wire = relay.wire()
        wire.send(request_bytes(fields={"Origin": self.NAMED}))
        self.assertEqual(wire.status, 403)
        self.assertNotIn(b"Access-Control", wire.received)

    def test_sharing_with_foreign_pages(self) -> None:
        """A page of another origin may read that its origin is not allowed; no other validator is asked or quoted."""
        asked = Answer(Denied(401, "no"))
        for site, told in ((self.SITE, "*"), ({"Sec-Fetch-Site": "cross-site"}, "*"), ({}, None)):
            for settings in ({}, {"http": True}):
                relay = self.relay([asked, OriginValidator.from_arguments(self.NAMED)], **settings)
                response = ask(relay, http_bytes("GET /room", None, site))
                self.assertEqual(response.status, 401 if told is None else 403)
                self.assertEqual(response.headers["Access-Control-Allow-Origin"], told)
                self.assertNotIn("Access-Control-Allow-Credentials", response.headers)
        self.assertEqual(len(asked.requests), 2)
        self.assertEqual(asked.requests[0].headers.get("origin"), None)
        reason = ask(relay, http_bytes("GET /room", None, self.SITE)).body
        self.assertIn(b"the origin https://evil.example is not allowed; to allow it, add https://evil.example", reason)

    def test_sharing_over_limit_behind_proxy(self) -> None:
        """The same for a client whose address comes in a PROXY header, whether its request comes with it or later."""
        relay = self.relay_for(self.NAMED, max_connections_per_address=1)
        relay.client(origin=self.NAMED)
        wrapped, proxy = HAProxyWrappingFactory(relay.factory), IPv4Address("TCP", "10.0.0.1", 7)
        header = b"PROXY TCP4 192.0.2.1 10.0.0.1 5 80\r\n"
        request = http_bytes("GET /room", None, {"Origin": self.NAMED})
        for parts in ((header + request,), (header, request), (header + request[:9], request[9:])):
            protocol = wrapped.buildProtocol(proxy)
            transport = Transport(protocol, isServer=True, peerAddress=proxy)
            protocol.makeConnection(transport)
            for part in parts:
                transport.bufferReceived(part)
            response = Response(transport.getOutBuffer())
            self.assertEqual(response.status, 429)
            shared = None if parts[0].endswith(request[:9]) else self.NAMED  # its request was not awaited
            self.assertEqual(response.headers["Access-Control-Allow-Origin"], shared)

    def test_sharing_of_timeouts(self) -> None:
        """A page may read that its body, or the validators, were late."""
        origin = OriginValidator.from_arguments(self.NAMED)
        request = http_bytes("POST /room", None, {"Content-Length": "5", "Origin": self.NAMED})
        for validators, status in (([origin], 408), ([origin, Answer(Deferred())], 504)):
            relay = self.relay(validators, http=True, message_seconds=2, validate_seconds=2)
            wire = relay.wire()
            wire.send(request)
            relay.wait(3)
            response = Response(wire.send(b""))
            self.assertEqual((response.status, response.headers["Access-Control-Allow-Origin"]), (status, self.NAMED))

    def test_sharing_over_limit(self) -> None:
        """A page may read that it is over a limit, and when to try again; its request was not read before."""
        relay = self.relay_for(self.NAMED, max_connections_per_address=1)
        relay.client(origin=self.NAMED)
        response = ask(relay, http_bytes("POST /room", b"hello", {"Origin": self.NAMED}))
        self.assertEqual((response.status, response.headers["Retry-After"]), (429, "10"))
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], self.NAMED)
        self.assertIn("Retry-After", response.headers["Access-Control-Expose-Headers"])

    def test_sharing_incomplete_request(self) -> None:
        """A refused request that is malformed or incomplete is shared with none: its origin is not known."""
        for data, status in (
            (b"POST /room HTTP/1.1\r\nOrigin: https://app.example\r\nHost", 408),
            (b"POST /room HTTP/1.1\r\nOrigin: https://app.example\r\nHost :\r\n\r\n", 400),
            (b"PUT /room HTTP/1.1\r\nOrigin: https://app.example\r\nHost: relay.example\r\n\r\n", 405),
        ):
            relay = self.relay_for(self.NAMED)
            wire = relay.wire()
            answer = wire.send(data)
            if not answer:
                relay.wait(relay.factory.settings.handshake_seconds + 1)
                answer = wire.send(b"")
            self.assertEqual((wire.status, b"Access-Control" in answer), (status, False))

    def test_sharing_after_reload(self) -> None:
        """The validators of a reload decide on the next request."""
        relay = self.relay_for(self.NAMED)
        post = http_bytes("POST /room", b"hello")
        self.assertEqual(self.shared(relay, post, "https://new.example"), (403, "*", None))
        relay.factory.reload(relay.factory.settings, [OriginValidator.from_arguments("https://new.example")])
        self.assertEqual(self.shared(relay, post, "https://new.example"), (202, "https://new.example", "true"))


class PageTests(RelayTestCase):
    """The demo page."""

    BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

    def test_page(self) -> None:
        """It is at / with --demo; the validators are not asked, for it is public."""
        relay = self.relay([Answer(Denied(401, "no"))], demo=True)
        response = ask(relay, http_bytes("GET /", None, self.BROWSER))
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn(b"<!doctype html>", response.body)
        self.assertEqual(relay.stats.http_requests, {("GET", 200): 1})

    def test_page_for_every_site(self) -> None:
        """Also by its address alone, or a link on another site, where such requests may open no WebSocket."""
        relay = self.relay(load(["origin:https://app.example"]), demo=True)
        for site in ("none", "cross-site"):
            fields = {**self.BROWSER, "Sec-Fetch-Site": site}
            self.assertEqual(ask(relay, http_bytes("GET /", None, fields)).status, 200)
            self.assertEqual(ask(relay, http_bytes("GET /room", None, fields)).status, 403)

    def test_page_only_read(self) -> None:
        """A POST to / is a publish, whatever it accepts."""
        relay = self.relay(demo=True, http=True)
        self.assertEqual(ask(relay, http_bytes("POST /", b"hello", self.BROWSER)).status, 202)

    def test_nowhere_else(self) -> None:
        """It is at no other path, and only with --demo; a WebSocket on / joins a room."""
        relay = self.relay(demo=True)
        self.assertEqual(ask(relay, http_bytes("GET /room", None, self.BROWSER)).status, 426)
        self.assertEqual(ask(self.relay(http=True), http_bytes("GET /", None, self.BROWSER)).status, 426)
        self.assertTrue(relay.client("/").open)

    def test_demo_without_http(self) -> None:
        """--demo alone serves no rooms over HTTP."""
        relay = self.relay(demo=True)
        self.assertEqual(ask(relay, http_bytes("POST /room", b"hello")).status, 405)
        self.assertEqual(ask(relay, http_bytes("GET /", None, {"Accept": "application/json"})).status, 426)


class ExplanationTests(RelayTestCase):
    """A GET of a room's URL: what a handshake would get."""

    def explain(self, relay: Any, target: str = "/room", **fields: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return ask(relay, http_bytes(f"GET {target}", None, named))

    def test_refused_as_handshakes(self) -> None:
        """It gets status and reason of the handshake's refusal; with --http or without, at once or late."""
        late: Deferred[Any] = Deferred()
        late.errback(Denied(404, "no such room"))
        for validators, settings, target, status in (
            (load(["origin:https://app.example"]), {}, "/room", 403),
            ([Answer(Denied(401, "a token is needed"))], {}, "/room", 401),
            ([Answer(late)], {}, "/room", 404),
            ([Answer(Denied(429, "later", [("Retry-After", "7")]))], {}, "/room", 429),
            ([narrowed(expires_at=1.0)], {}, "/room", 401),
            ([], {"max_room_members": 2}, "/full", 503),
            ([], {"max_rooms": 1}, "/room", 503),
            ([], {"history": ("room=1",)}, "/room?last=x", 400),
            ([narrowed(history="none")], {"history": ("room=1",)}, "/room?since=x", 403),
        ):
            for http in (False, True):
                relay = self.relay(validators, http=http, **settings)
                for _ in range(2):
                    relay.factory.hub.join("full", RecordingSubscriber())
                handshake = ask(relay, request_bytes(target))
                answer = self.explain(relay, target)
                self.assertEqual((answer.status, answer.body), (handshake.status, handshake.body))
                self.assertEqual(
                    (answer.status, answer.headers["Retry-After"]), (status, handshake.headers["Retry-After"])
                )
                [(_, count)] = relay.stats.handshakes_denied.items()
                self.assertEqual(count, 2)

    def test_refused_late(self) -> None:
        """Validators that do not answer in time are a 504; they are cancelled when the client leaves."""
        cancelled: list[Any] = []
        relay = self.relay([Answer(lambda request, grant: Deferred(cancelled.append))])
        wires = [relay.wire(), relay.wire()]
        for wire in wires:
            self.assertEqual(wire.send(http_bytes("GET /room")), b"")
        wires[0].hang_up()
        self.assertEqual(len(cancelled), 1)
        relay.wait(relay.factory.settings.validate_seconds + 1)
        wires[1].send(b"")
        self.assertEqual((wires[1].status, len(cancelled)), (504, 2))

    def test_accepted(self) -> None:
        """Where a handshake would be accepted, the answer is 426, with what to write; no room is opened."""
        for settings in ({}, {"http": True}, {"demo": True}):
            relay = self.relay([], **settings)
            answer = self.explain(relay, "/chat/42?token=secret")
            self.assertEqual((answer.status, answer.headers["Upgrade"]), (426, "websocket"))
            expected = (
                'this is a WebSocket relay: it would accept new WebSocket("ws://relay.example/chat/42") from here\n'
            )
            self.assertEqual(answer.body.decode(), expected)
            self.assertEqual((len(relay.factory.hub), relay.stats.connections_opened), (0, 0))
            self.assertEqual(relay.stats.handshakes_denied, {(426, "not_websocket"): 1})

    def test_accepted_url(self) -> None:
        """The URL has wss where the page or its proxy has https, and no quote or other sign that is not a URL's."""
        relay = self.relay()
        for target, fields, url in (
            ("/room", {"Origin": "https://app.example"}, b'"wss://relay.example/room"'),
            ("/room", {"X-Forwarded-Proto": "https"}, b'"wss://relay.example/room"'),
            ("/room", {"X-Forwarded-Proto": "http", "Origin": "http://app.example"}, b'"ws://relay.example/room"'),
            ("/caf%C3%A9/%22%29%3B", {}, b'"ws://relay.example/caf%C3%A9/%22%29%3B"'),
            ("/" + "a" * 150, {}, b"it would accept a WebSocket client from here\n"),
        ):
            answer = self.explain(relay, target, **fields)
            self.assertEqual(answer.status, 426)
            self.assertIn(url, answer.body)

    def test_upgrade_dropped(self) -> None:
        """A handshake without its Upgrade or Connection field came through a proxy that drops it, which is said."""
        relay = self.relay()
        for missing in ("Upgrade", "Connection"):
            answer = ask(relay, request_bytes(fields={missing: None}))
            self.assertEqual(answer.status, 426)
            self.assertIn(b"a proxy in front must pass the fields Upgrade and Connection on", answer.body)

    def test_programs(self) -> None:
        """Without an Origin, an origin list says what allows programs; the default allows them."""
        listed = self.relay(load(["origin:https://app.example"]))
        for answer in (self.explain(listed), ask(listed, request_bytes())):
            self.assertEqual(answer.status, 403)
            self.assertIn(b"no Origin was sent; to allow programs, which need not send one, add none to", answer.body)
        self.assertEqual(self.explain(self.relay(None)).status, 426)

    def test_shared(self) -> None:
        """Without --http, too, a page of an allowed origin may read the answer."""
        origin = {"Origin": "https://app.example"}
        refusing = Answer(Denied(401, "no"))
        for validators, status in (([], 426), ([refusing], 401)):
            relay = self.relay([*load(["origin:https://app.example"]), *validators])
            answer = self.explain(relay, **origin)
            self.assertEqual(answer.status, status)
            self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://app.example")
            self.assertEqual(answer.headers["Access-Control-Allow-Credentials"], "true")


class GateTests(RelayTestCase):
    """The strict parser in front, and all other requests."""

    def test_off_by_default(self) -> None:
        """Without --http and --demo, only handshakes are served, and no 101 has a number."""
        relay = self.relay()
        for line, status in (("POST /room", 405), ("GET /room", 426)):
            self.assertEqual(ask(relay, http_bytes(line, None, {"Accept": "application/json"})).status, status)
        self.assertNotIn(b"Wsrelay", relay.wire().send(request_bytes()))

    def test_any_other_get(self) -> None:
        """A GET for any other media type is a 426."""
        relay = self.relay(http=True)
        for accept in ("*/*", "text/html", "application/json-not", ""):
            response = ask(relay, http_bytes("GET /room", None, {"Accept": accept}))
            self.assertEqual((response.status, response.headers["Upgrade"]), (426, "websocket"), accept)

    def test_wrong_handshakes(self) -> None:
        """A malformed handshake is refused as one, whatever it accepts."""
        relay = self.relay(http=True)
        accept = {"Accept": "application/json"}
        wrong = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Connection": "Upgrade", **accept}
        self.assertEqual(ask(relay, http_bytes("GET /room", None, wrong)).status, 400)
        self.assertEqual(ask(relay, http_bytes("GET /room", b"", {**wrong, "Content-Length": "1"})).status, 400)
        self.assertEqual(ask(relay, request_bytes() + b"early").status, 400)

    def test_methods(self) -> None:
        """Other methods are refused; Allow names the served ones."""
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW"):
            wire = self.relay(http=True).wire()
            self.assertIn(b"\r\nAllow: GET, HEAD, POST, OPTIONS\r\n", wire.send(http_bytes(f"{method} /room")), method)
            self.assertEqual(wire.status, 405)

    def test_bodies_of_gets(self) -> None:
        """A GET with a body is a 400."""
        relay = self.relay(http=True)
        for fields in ({"Content-Length": "5"}, {"Content-Length": None, "Transfer-Encoding": "chunked"}):
            request = http_bytes("GET /room", b"hello", {**fields, "Accept": "application/json"})
            self.assertEqual(ask(relay, request).status, 400)

    def test_the_same_gate(self) -> None:
        """The head of a POST passes the same parser as a handshake: no bare line feeds, folding, doubles, bad rooms."""
        relay = self.relay(http=True)
        good = http_bytes("POST /room", b"hello")
        for request in (
            good.replace(b"\r\nContent", b"\nContent"),
            good.replace(b"Host: ", b"Host:\r\n "),
            good.replace(b"\r\nContent", b"\r\nContent-Length: 5\r\nContent"),
            good.replace(b"/room", b"/a/../b"),
            good.replace(b"/room", b"/a#b"),
            good.replace(b"Host: relay.example", b"X-Other: \x85"),
            good.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ):
            self.assertIn(ask(relay, request).status, (400, 426), request)
        self.assertEqual(relay.stats.failures, 0)

    @given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=3))
    def test_any_body(self, body: bytes, cuts: list[int]) -> None:
        """Any body, in any pieces, is relayed unchanged."""
        relay = self.relay(http=True)
        client = relay.client()
        request = http_bytes("POST /room", body, {"Content-Type": "application/octet-stream"})
        wire = relay.wire()
        edges = [0, *sorted(cuts), len(request)]
        answer = b"".join(wire.send(request[start:end]) for start, end in pairwise(edges))
        relay.settle()

        self.assertTrue(answer.startswith(b"HTTP/1.1 202 "), answer)
        self.assertEqual((client.messages, relay.stats.failures), ([body], 0))
