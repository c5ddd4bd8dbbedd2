"""Tests of wsrelay.connection.protocol: the promises, with real clients and a real relay in memory."""

import random
from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyClass

from tests.harness.strategies import payloads
from tests.harness.support import Answer, RelayTestCase, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.errors import Denied
from wsrelay.grant import Grant

CLOSE = b"\x88\x80\0\0\0\0"


def narrowed(**changes: Any) -> Answer:
    """Return a validator that narrows the grant."""
    return Answer(lambda request, grant: grant.narrowed(**changes))


def client_frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """Return a small frame as a client sends it, masked with zeros."""
    assert len(payload) < 126
    return bytes([fin << 7 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


class PromiseTests(RelayTestCase):
    """The promises to every user."""

    def test_others_only(self) -> None:
        """All other subscribers of the room get a message; the publisher and other rooms do not."""
        relay = self.relay()
        a, b, c, elsewhere = relay.client("/x"), relay.client("/x"), relay.client("/x"), relay.client("/y")
        a.say("hello")
        relay.settle()

        self.assertEqual([one.messages for one in (a, b, c, elsewhere)], [[], ["hello"], ["hello"], []])

    def test_echo(self) -> None:
        """With --echo the publisher gets it, too."""
        relay = self.relay(echo=True)
        a, b = relay.client(), relay.client()
        a.say("hello")
        relay.settle()

        self.assertEqual((a.messages, b.messages), (["hello"], ["hello"]))

    def test_messages_unchanged(self) -> None:
        """Type and bytes are kept, up to the largest message; empty messages are relayed, too."""
        for compress in (False, True):
            relay = self.relay(no_compress=not compress)
            a, b, c = relay.client(deflate=compress), relay.client(), relay.client(deflate=compress)
            sent = ["", b"", "héllo ☃", bytes(range(256)), "x" * 70_000, bytes(2**20), "\x00"]
            for message in sent:
                a.say(message)
                relay.settle()

            self.assertEqual((b.messages, c.messages, a.messages), (sent, sent, []))

    def test_fragments_joined(self) -> None:
        """One message in is one message out, whatever its fragments, with control frames between them."""
        relay = self.relay()
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes())
        wire.send(client_frame(1, b"h\xc3", fin=False) + client_frame(9, b"ping"))
        wire.send(client_frame(0, b"", fin=False) + client_frame(0, b"\xa9llo"))

        self.assertEqual(b.messages, ["héllo"])

    def test_same_order_for_all(self) -> None:
        """All subscribers get one sequence, each without its own messages."""
        relay = self.relay()
        members = [relay.client() for _ in range(4)]
        for turn in range(5):
            for number, member in enumerate(members):
                member.say(f"{turn}-{number}")
            relay.settle()
        sequences = [set(member.messages) for member in members]
        merged = members[0].messages

        self.assertEqual([len(sequence) for sequence in sequences], [15] * 4)
        for number, member in enumerate(members[1:], 1):
            common = [text for text in merged if not text.endswith(f"-{number}")]
            self.assertEqual([text for text in member.messages if not text.endswith("-0")], common)

    def test_coalesced_per_turn(self) -> None:
        """All messages of a turn are coalesced into one write per subscriber."""
        relay = self.relay()
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes())
        writes: list[bytes] = []
        self.patch(b.server_transport, "write", writes.append)
        wire.send(client_frame(1, b"1") + client_frame(1, b"2") + client_frame(1, b"3"))

        self.assertEqual([len(parse(data)) for data in writes], [3])

    def test_invalid_utf8_not_relayed(self) -> None:
        """Text with invalid UTF-8 is not relayed, not even its valid beginning."""
        relay = self.relay()
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes())
        wire.send(client_frame(1, b"good", fin=False) + client_frame(0, b"\xff"))

        self.assertEqual(b.messages, [])

    def test_message_counts(self) -> None:
        """Messages are counted in and out; behind a close they are counted as dropped."""
        relay = self.relay()
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes())
        wire.send(client_frame(1, b"12"))
        b.server.close(__import__("wsrelay.closecodes").closecodes.RESTARTING)
        b.server_transport.stalled = True
        b.say("too late")
        relay.settle()

        self.assertEqual((relay.stats.messages_in, relay.stats.bytes_in), (1, 4))
        self.assertEqual((relay.stats.deliveries, relay.stats.messages_dropped), (1, 1))

    @given(st.lists(st.tuples(st.integers(0, 2), payloads, st.booleans()), max_size=15))
    @hypothesis_settings(max_examples=50)
    def test_any_conversation(self, said: list[tuple[int, bytes, bool]]) -> None:
        """In any conversation, each subscriber gets exactly the others' messages, in one order."""
        relay = self.relay()
        members = [relay.client(deflate=False) for _ in range(3)]
        expected: list[list[Any]] = [[], [], []]
        for number, payload, binary in said:
            message = payload if binary else payload.hex()
            members[number].say(message)
            relay.settle()
            for other in {0, 1, 2} - {number}:
                expected[other].append(message)

        self.assertEqual([member.messages for member in members], expected)


class HandshakeTests(RelayTestCase):
    """The opening handshake."""

    def test_subprotocol(self) -> None:
        """The granted subprotocol is echoed; without one, none is."""
        relay = self.relay([narrowed(subprotocol="b")])
        wire = relay.wire()
        wire.send(request_bytes(fields={"Sec-WebSocket-Protocol": "a, b"}))
        self.assertIn(b"\r\nSec-WebSocket-Protocol: b\r\n", wire.received)

        wire = self.relay().wire()
        wire.send(request_bytes(fields={"Sec-WebSocket-Protocol": "a, b"}))
        self.assertTrue(wire.received.startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"Sec-WebSocket-Protocol", wire.received)

    def test_accept_key(self) -> None:
        """The answer to the sample key is that of RFC 6455 section 1.3; there is no Server field (TRAPS 14)."""
        wire = self.relay().wire()
        wire.send(request_bytes())

        self.assertIn(b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", wire.received)
        self.assertNotIn(b"Server:", wire.received)

    def test_validator_request(self) -> None:
        """Validators get the canonical room and the client's address, and choose the room."""
        validator = narrowed(room="elsewhere", identity="me")
        relay = self.relay([validator])
        address = IPv4Address("TCP", "198.51.100.7", 1234)
        relay.wire(address).send(request_bytes("/caf%C3%A9?a=b"))
        [request] = validator.requests

        self.assertEqual((request.room, request.peer, request.tls), ("café", address, None))
        self.assertEqual(list(relay.factory.hub), ["elsewhere"])

    def test_denied(self) -> None:
        """A refusal is answered with its status and reason, without a join."""
        relay = self.relay([Answer(Denied(403, "members only"))])
        client = relay.client()

        self.assertEqual(client.status, 403)
        self.assertEqual((len(relay.factory.hub), relay.stats.handshakes_denied), (0, {(403, "answer"): 1}))
        self.assertEqual(relay.factory.connections, set())

    def test_denied_cause(self) -> None:
        """The cause of a validator's refusal is counted cut, without characters that are no JSON."""
        for cause, counted in (("a\ud800\n", "a\\ud800\\n"), ("x" * 4000, "x" * 64), (None, "answer"), (7, "7")):
            relay = self.relay([Answer(Denied(403, "no", cause=cause))])  # type: ignore[arg-type]  # a wrong one
            relay.client()
            self.assertEqual(relay.stats.handshakes_denied, {(403, counted): 1})

    def test_request_in_pieces(self) -> None:
        """A request may come in pieces, also within the blank line."""
        wire = self.relay().wire()
        request = request_bytes()
        for byte in request[:-1]:
            self.assertEqual(wire.send(bytes([byte])), b"")

        self.assertTrue(wire.send(request[-1:]).startswith(b"HTTP/1.1 101 "))

    def test_early_data(self) -> None:
        """Data behind the request is refused, before and after the validators' answer (TRAPS 11)."""
        for answers in ([], [Answer(Deferred())]):
            for more in (client_frame(1, b"x"), request_bytes("/admin")):
                relay = self.relay(answers)
                wire = relay.wire()
                wire.send(request_bytes("/public") + more)
                self.assertEqual((wire.status, wire.ended), (400, True))
                self.assertEqual(len(relay.factory.hub), 0)

    def test_second_request_while_pending(self) -> None:
        """A second request during validation is refused; the validator's later answer is ignored."""
        answer: Deferred[Grant] = Deferred()
        relay = self.relay([Answer(answer)])
        wire = relay.wire()
        wire.send(request_bytes("/public"))
        wire.send(request_bytes("/admin"))
        self.assertEqual((wire.status, wire.ended), (400, True))
        answer.callback(Grant("public"))
        relay.settle()

        self.assertEqual((len(relay.factory.hub), relay.stats.connections_opened), (0, 0))

    def test_slow_validator(self) -> None:
        """Validation has its own deadline; the handshake's is suspended."""
        answer: Deferred[Grant] = Deferred()
        relay = self.relay([Answer(answer)], handshake_seconds=2, validate_seconds=60)
        client = relay.client()
        relay.wait(4)  # Autobahn's client gives up after 5
        answer.callback(Grant("x"))
        relay.settle()

        self.assertTrue(client.open)

    def test_validator_timeout(self) -> None:
        """Validators without an answer in time are a 504."""
        cancelled: list[Deferred[Grant]] = []
        relay = self.relay([Answer(Deferred(cancelled.append))], validate_seconds=2)
        client = relay.client()
        relay.wait(1.5)
        self.assertEqual((client.status, cancelled), (None, []))
        relay.wait(1)

        self.assertEqual((client.status, len(cancelled)), (504, 1))

    def test_validator_ignores_cancel(self) -> None:
        """After its cancellation, a validator's late grant or silence does not open the connection."""

        async def stubborn(_request: object, grant: Grant) -> Grant:
            try:
                await Deferred()
            except CancelledError:
                await answer
            return grant

        answer: Deferred[None] = Deferred()
        relay = self.relay([Answer(stubborn)], validate_seconds=2)
        client = relay.client()
        relay.wait(3)
        self.assertEqual(client.status, 504)
        answer.callback(None)
        relay.settle()

        self.assertEqual((len(relay.factory.hub), relay.stats.connections_opened), (0, 0))
        self.assertEqual(relay.factory.connections, set())

    def test_gone_while_validating(self) -> None:
        """A client that leaves during validation cancels the validator and leaves nothing behind (TRAPS 11)."""
        cancelled: list[Deferred[Grant]] = []
        relay = self.relay([Answer(Deferred(cancelled.append))])
        wire = relay.wire()
        wire.send(request_bytes())
        wire.hang_up()

        self.assertEqual(len(cancelled), 1)
        self.assertEqual((len(relay.factory.hub), relay.factory.connections), (0, set()))
        self.assertEqual(self.logged(), [])

    def test_room_limits(self) -> None:
        """A full room and one room above the limit are a 503, before the 101."""
        relay = self.relay(max_room_members=1, max_rooms=1)
        relay.client("/a")

        self.assertEqual([relay.client("/a").status, relay.client("/b").status], [503, 503])

    def test_autobahn_refuses(self) -> None:
        """If Autobahn refuses after the join, it is a 400 with a fixed text, and the join is undone."""
        relay = self.relay()
        self.patch(RelayProtocol, "open", lambda connection, *_: connection.failHandshake("secret\r\nX: y"))
        wire = relay.wire()
        wire.send(request_bytes())

        self.assertEqual((wire.status, len(relay.factory.hub)), (400, 0))
        self.assertNotIn(b"secret", wire.received)


class RightsTests(RelayTestCase):
    """Rights of the grant."""

    def test_last_ping_answered(self) -> None:
        """Of the pings of a peer that does not read, the last is answered later; none if it has closed."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        for closing in (False, True):
            connection.pauseProducing()
            wire.send(client_frame(9, b"1") + client_frame(9, b"2"))
            self.assertEqual(wire.received, b"")
            if closing:
                wire.send(CLOSE)
            connection.resumeProducing()
            answers = [(frame.opcode, bytes(frame.data)) for frame in parse(wire.send(b""))]
            self.assertEqual(answers, [] if closing else [(10, b"2")])

    def test_message_types(self) -> None:
        """A message of the wrong type is closed with 1003; the messages before it are relayed."""
        relay = self.relay(message_type=("text", "video/*=binary"))
        for room, fitting, wrong in (("/chat", 1, 2), ("/video/1", 2, 1)):
            wire, other = relay.wire(), relay.client(room)
            wire.send(request_bytes(room))
            wire.send(client_frame(fitting, b"a") * 2 + client_frame(wrong, b"b") + client_frame(fitting, b"c"))
            [close] = parse(wire.received)
            self.assertEqual(close.data[:2], (1003).to_bytes(2))
            self.assertEqual(close.data[2:], b"unsupported data: this room accepts only the other message type")
            self.assertEqual([bytes(m, "ascii") if isinstance(m, str) else m for m in other.messages], [b"a", b"a"])
            other.say("c" if fitting == 1 else b"c")
            relay.settle()
            self.assertTrue(other.open)

            wire = relay.wire()
            wire.send(request_bytes(room))
            wire.send(client_frame(wrong, b"b", fin=False) + client_frame(0, b""))
            self.assertEqual([close.data[:2] for close in parse(wire.received)], [(1003).to_bytes(2)])
            self.assertEqual(len(other.messages), 2)

    def test_read_only(self) -> None:
        """A read-only connection that publishes is closed with 1008 and a reason; nothing is relayed."""
        relay = self.relay([narrowed(can_publish=False)])
        a, b = relay.client(), relay.client()
        a.say("x")
        relay.settle()

        self.assertEqual(a.closed, (1008, "this connection may not publish"))
        self.assertEqual((b.messages, b.open, relay.stats.messages_in), ([], True, 0))

    def test_write_only(self) -> None:
        """A connection that may not subscribe publishes and receives nothing."""
        first = [True]

        def validate(_request: object, grant: Grant) -> Grant:
            return grant.narrowed(can_subscribe=not first.pop()) if first else grant

        relay = self.relay([Answer(validate)])
        a, b = relay.client(), relay.client()
        a.say("from a")
        b.say("from b")
        relay.settle()

        self.assertEqual((a.messages, b.messages, a.open), ([], ["from a"], True))

    def test_grant_expiry(self) -> None:
        """A connection is closed with 4401 when its grant expires, not before."""
        relay = self.relay([Answer(lambda _, grant: grant.narrowed(expires_at=1_000_000.0 + 100))], ping_seconds=7)
        client = relay.client()
        relay.wait(99)
        self.assertTrue(client.open)
        relay.wait(2)

        self.assertEqual(client.closed, (4401, "the grant has expired"))

    def test_grant_already_expired(self) -> None:
        """A grant that is already expired is a 401."""
        relay = self.relay([narrowed(expires_at=1_000_000.0)])

        self.assertEqual(relay.client().status, 401)


class FragmentTests(RelayTestCase):
    """Fragmented messages."""

    def test_max_message_bytes(self) -> None:
        """The largest message passes, with and without deflate; one byte more is 1009."""
        noise = random.Random(1).randbytes(100_001)
        for compress in (False, True):
            for filler in (bytes(100_001), noise):
                relay = self.relay(max_message_bytes=100_000, no_compress=not compress)
                a, b = relay.client(deflate=compress), relay.client()
                a.say(filler[:100_000])
                relay.settle()
                a.say(filler)
                relay.settle()
                self.assertEqual(b.messages, [filler[:100_000]])
                self.assertEqual(a.closed[0], 1009)

    def test_max_fragments_exceeded(self) -> None:
        """Fragments beyond the limit, empty ones included, are 1008, and nothing is kept (TRAPS 21)."""
        relay = self.relay(max_fragments=10)
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes())
        wire.send(client_frame(2, b"", fin=False))
        wire.send(client_frame(0, b"", fin=False) * 9)
        self.assertEqual(wire.received, b"")
        wire.send(client_frame(0, b"", fin=False) * 1000 + client_frame(0))
        [frame] = parse(wire.received)

        self.assertEqual(frame.data, (1008).to_bytes(2, "big") + b"too many fragments in one message")
        self.assertEqual(b.messages, [])

    def test_max_fragments(self) -> None:
        """The limit itself is allowed, message after message."""
        relay = self.relay(max_fragments=3)
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes())
        for _ in range(3):
            wire.send(client_frame(1, b"a", fin=False) + client_frame(0, b"b", fin=False) + client_frame(0, b"c"))

        self.assertEqual(b.messages, ["abc"] * 3)


class BackpressureTests(RelayTestCase):
    """Slow consumers."""

    def test_slow_consumer_recovers(self) -> None:
        """A peer that stalls for a while loses no message and delays no other."""
        relay = self.relay()
        slow, fast, a = relay.client(), relay.client(), relay.client()
        slow.server_transport.stalled = True
        sent = [f"{number}" * 10_000 for number in range(50)]
        for message in sent:
            a.say(message)
            relay.settle()
        self.assertEqual((len(slow.messages), fast.messages), (0, sent))
        self.assertTrue(slow.server.paused)
        slow.server_transport.stalled = False
        relay.settle()

        self.assertEqual(slow.messages, sent)
        self.assertFalse(slow.server.paused)

    def test_slow_consumer_evicted(self) -> None:
        """A peer that never reads fills its transport's buffer and is closed with 1013; others are unaffected."""
        relay = self.relay(max_message_bytes=20_000, room_log_bytes=200_000, close_seconds=2, max_bytes_per_second=0)
        slow, fast, a = relay.client(), relay.client(), relay.client()
        slow.server_transport.stalled = True
        for number in range(200):
            a.say(f"{number % 10}" * 10_000)
            relay.settle()
            self.assertLess(sum(map(len, slow.server_transport.stream)), 200_000)
        self.assertEqual((len(fast.messages), relay.stats.evictions), (200, {"disconnect": 1}))
        self.assertEqual(relay.factory.hub.member_count("room"), 2)
        slow.server_transport.stalled = False
        relay.settle()

        self.assertEqual(slow.closed, (1013, "too slow: read faster or ask for less"))

    def test_slow_consumer_aborted(self) -> None:
        """A peer that does not read its close frame is aborted after close_seconds."""
        relay = self.relay(max_message_bytes=20_000, room_log_bytes=100_000, close_seconds=2)
        slow, a = relay.client(), relay.client()
        slow.server_transport.stalled = True
        for _ in range(100):
            a.say("x" * 10_000)
            relay.settle()
        relay.wait(2.5)

        self.assertTrue(slow.server_transport.aborted)
        self.assertEqual(len(relay.factory.connections), 1)

    def test_unread_pongs(self) -> None:
        """Only the last ping of a peer that does not read is answered (RFC 6455 section 5.5.3)."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        connection.pauseProducing()
        self.assertEqual(wire.send(client_frame(9, b"x") * 100), b"")
        connection.resumeProducing()

        self.assertEqual([frame.opcode for frame in parse(wire.send(client_frame(9, b"x")))], [10, 10])

    def test_stop_producing(self) -> None:
        """A transport that calls stopProducing ends the subscription."""
        relay = self.relay()
        client = relay.client()
        client.server.stopProducing()

        self.assertEqual(len(relay.factory.hub), 0)


class StatusTests(RelayTestCase):
    """Status of a connection, and its log line."""

    def last_line(self) -> dict[str, Any]:
        records = [record for event in self.events for record in event.get("records", ())]
        return next(record for record in reversed(records) if record["event"] == "closed")

    def test_status(self) -> None:
        """The status has identity, state and traffic, at any time."""
        relay = self.relay([narrowed(identity="me")])
        a, b = relay.client("/chat"), relay.client("/chat")
        relay.wait(2)
        a.say("12345")
        relay.settle()

        status, other = a.server.status(), b.server.status()
        self.assertEqual((status.number, status.room, status.identity, status.state), (1, "chat", "me", "open"))
        self.assertEqual((status.seconds, status.paused, status.held), (2.0, False, False))
        self.assertEqual((status.messages_in, status.bytes_in, status.messages_out, status.bytes_out), (1, 7, 0, 0))
        self.assertEqual((other.messages_in, other.bytes_in, other.messages_out, other.bytes_out), (0, 0, 1, 7))

    def test_status_with_echo(self) -> None:
        """With --echo, a publisher's own messages count as sent to it."""
        relay = self.relay(echo=True)
        a, b = relay.client(), relay.client()
        a.say("12345")
        relay.settle()

        for client in (a, b):
            status = client.server.status()
            self.assertEqual((status.messages_out, status.bytes_out), (1, 7))

    def test_status_handshake(self) -> None:
        """An unfinished handshake has a status without a room."""
        relay = self.relay([Answer(Deferred())])
        relay.wire().send(request_bytes())
        [connection] = relay.factory.connections
        status = connection.status()

        self.assertEqual((status.number, status.room, status.state, status.seconds), (1, "", "handshake", 0.0))
        self.assertEqual((status.messages_out, status.bytes_out), (0, 0))

    def test_log_closed(self) -> None:
        """The log line has the traffic, messages published just before included, and the close."""
        relay = self.relay()
        a, b = relay.client(), relay.client()
        a.server.onMessage(b"12345", False)
        b.server.close(closecodes.TOO_FAST)
        relay.wait(1.5)
        line = self.last_line()

        self.assertEqual((line["by"], line["code"], line["reason"]), ("relay", 1008, closecodes.TOO_FAST.text))
        self.assertEqual((line["connection"], line["messages_out"], line["bytes_out"]), (2, 1, 7))
        self.assertEqual(relay.stats.connections_closed, {("relay", "1008"): 1})

    def test_closed_counts(self) -> None:
        """Ends are counted by side and code; private codes by their range."""
        ends = {
            ("client", "1000"): lambda client: client.sendClose(1000, "bye"),
            ("client", "1005"): lambda client: client.sendClose(),
            ("client", "4xxx"): lambda client: client.sendClose(4999),
            ("lost", "1006"): lambda client: client.transport.loseConnection(),
        }
        for counted, end in ends.items():
            relay = self.relay()
            client = relay.client()
            end(client)
            relay.settle()
            self.assertEqual(relay.stats.connections_closed, {counted: 1})
            self.assertEqual(self.last_line()["by"], counted[0])

    def test_refusal_not_counted_as_closed(self) -> None:
        """A refused handshake is not counted as a closed connection."""
        relay = self.relay([Answer(Denied(403, "no"))])
        relay.client()

        self.assertEqual(relay.stats.connections_closed, {})


class InterfaceTests(RelayTestCase):
    """Interfaces of the class."""

    def test_push_producer(self) -> None:
        """A connection is the push producer that it registers."""
        self.assertTrue(verifyClass(IPushProducer, RelayProtocol))


class FuzzTests(RelayTestCase):
    """Arbitrary bytes on an open connection."""

    @given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
    @hypothesis_settings(max_examples=150)
    def test_only_documented_closes(self, chunks: list[bytes], compress: bool) -> None:
        """For any bytes, the relay sends pongs and at most one close of the table, and raises nothing."""
        relay = self.relay(no_compress=not compress, max_message_bytes=1000)
        wire, b = relay.wire(), relay.client()
        wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": "permessage-deflate"}))
        self.assertIn(b" 101 ", wire.received[:20])
        answers = parse(b"".join(wire.send(chunk) for chunk in chunks))

        self.assertEqual(relay.stats.failures, 0)
        self.assertLessEqual({frame.opcode for frame in answers}, {8, 10})
        closes = [frame for frame in answers if frame.opcode == 8]
        self.assertLessEqual(len(closes), 1)
        if relay.stats.closes_sent:
            self.assertLessEqual(set(relay.stats.closes_sent), {1002, 1007, 1009})
        self.assertTrue(b.open)
