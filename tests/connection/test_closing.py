"""Tests of wsrelay.connection.closing: deadlines, closes, refusals, the guard; and canaries on Autobahn."""

import inspect
import tracemalloc

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate
from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.protocol import WebSocketServerProtocol as ServerBase
from twisted.logger import LogLevel

from tests.harness.support import Relay, RelayTestCase, Wire, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.connection import protocol
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.message import Message
from wsrelay.wire import frames

#: Client frames, masked with zeros.
PING = b"\x89\x80\0\0\0\0"
BAD_OPCODE = b"\x83\x80\0\0\0\0"


class HandshakeDeadlineTests(RelayTestCase):
    """Clients that do not get done."""

    def test_silent(self) -> None:
        """A client that sends nothing is told 408 and dropped."""
        relay = self.relay(handshake_seconds=4)
        wire = relay.wire()
        relay.wait(3.5)
        self.assertFalse(wire.ended)
        relay.wait(1)

        wire.send(b"")
        self.assertEqual((wire.status, wire.ended), (408, True))

    def test_dribble(self) -> None:
        """The deadline is for the whole request: a byte now and then does not move it."""
        relay = self.relay(handshake_seconds=4)
        wire = relay.wire()
        for byte in request_bytes()[:18]:
            wire.send(bytes([byte]))
            relay.wait(0.25)
            if wire.ended:
                break

        self.assertTrue(wire.ended)
        self.assertLess(relay.clock.seconds(), 5)

    def test_a_guest_in_time_stays(self) -> None:
        """Once open, the handshake's deadline is gone."""
        relay = self.relay(handshake_seconds=4, ping_seconds=0)
        client = relay.client()
        relay.wait(60)

        self.assertTrue(client.open)


class CloseTests(RelayTestCase):
    """One way to close."""

    def test_code_and_reason(self) -> None:
        """The peer sees the row's code and reason; the connection ends cleanly and is counted."""
        relay = self.relay()
        client = relay.client()
        client.server.close(closecodes.INTERNAL_ERROR, "detail")
        relay.settle()

        self.assertEqual(client.closed, (1011, "internal error: detail"))
        self.assertTrue(client.wasClean)
        self.assertEqual(relay.stats.closes_sent, {1011: 1})
        self.assertEqual(relay.factory.connections, set())

    def test_closing_twice(self) -> None:
        """Only the first close counts."""
        relay = self.relay()
        client = relay.client()
        client.server.close(closecodes.RESTARTING)
        client.server.close(closecodes.INTERNAL_ERROR)
        relay.settle()
        client.server.close(closecodes.INTERNAL_ERROR)

        self.assertEqual((client.closed[0], relay.stats.closes_sent), (1012, {1012: 1}))

    def test_closing_a_handshake(self) -> None:
        """A connection that is not open yet is refused with 503 and told when to come back."""
        relay = self.relay()
        wire, silent = relay.wire(), relay.wire()
        wire.send(request_bytes()[:-2])
        for connection in tuple(relay.factory.connections):
            connection.close(closecodes.RESTARTING)
        wire.send(b"")

        self.assertEqual((wire.status, wire.ended), (503, True))
        # Who has not asked for anything is not answered: it would take that for the answer to its first request.
        self.assertEqual((silent.send(b""), silent.ended), (b"", True))
        self.assertIn(b"Retry-After: 10\r\n", wire.received)

    def test_out_of_the_room_at_the_first_sign(self) -> None:
        """A connection that is closing, by either side, gets no more messages."""
        relay = self.relay()
        leaving, speaking = relay.client(), relay.client()
        speaking.say("before")
        relay.settle()
        leaving.server.close(closecodes.RESTARTING)
        self.assertEqual(relay.factory.hub.member_count("room"), 1)
        speaking.say("after")
        relay.settle()

        self.assertEqual(leaving.messages, ["before"])

    def test_replies_echo_the_code(self) -> None:
        """The peer's own code comes back (RFC 6455 section 5.5.1), or none where it sent none."""
        relay = self.relay()
        for code in (1000, 3000, 4999, None):
            client = relay.client()
            client.sendClose(code)
            relay.settle()
            self.assertEqual((client.closed[0], client.wasClean), (code, True))

    def test_order(self) -> None:
        """A close delivers what was published, leaves the room, writes the frame, sets the deadline, and reads on."""
        relay = self.relay(close_seconds=7)
        client = relay.client()
        connection, order = client.server, list[object]()
        hub, steps = relay.factory.hub, ("finish", "leave")
        for name in steps:
            method = getattr(hub, name)
            self.patch(hub, name, lambda member, name=name, method=method: (order.append(name), method(member)))
        self.patch(client.server_transport, "write", lambda data: order.append(data[:1]))
        self.patch(type(connection), "expect_within", lambda _, seconds: order.append(seconds))
        self.patch(protocol, "release", lambda _, why: order.append("read on"))
        connection.close(closecodes.RESTARTING)

        self.assertEqual(order, ["finish", "leave", b"\x88", 7, "read on"])

    def test_closed_while_the_last_delivery_fails(self) -> None:
        """A transport that raises on what was published before ends its connection, once."""
        relay = self.relay()
        client = relay.client()
        relay.factory.hub.publish("room", [Message(frames.encode(frames.TEXT, b"x"))])
        self.patch(client.server_transport, "write", lambda data: 1 / 0)
        client.server.close(closecodes.RESTARTING)
        self.flushLoggedErrors(ZeroDivisionError)

        self.assertTrue(client.server_transport.aborted)

    def test_closed_before_it_opens(self) -> None:
        """Autobahn's close does nothing before the 101; dropping twice is dropping once."""
        relay = self.relay()
        wire = relay.wire()
        [connection] = relay.factory.connections
        connection.sendCloseFrame(1000)
        self.assertFalse(wire.ended)
        connection.dropConnection()
        connection.dropConnection()

        self.assertTrue(wire.ended)

    def test_a_peer_that_does_not_answer(self) -> None:
        """Without an answer to our close, TCP is aborted after close_seconds."""
        relay = self.relay(close_seconds=2)
        wire = relay.wire()
        wire.send(request_bytes())
        next(iter(relay.factory.connections)).close(closecodes.RESTARTING)
        relay.wait(1.5)
        self.assertFalse(wire.transport.aborted)
        relay.wait(1)

        self.assertTrue(wire.transport.aborted)

    def test_a_peer_that_keeps_tcp_open(self) -> None:
        """After a refusal, or the peer's close, TCP that does not end is aborted (TRAPS 26)."""
        relay = self.relay(close_seconds=2)
        refused, closed = relay.wire(), relay.wire()
        refused.send(request_bytes("//"))
        closed.send(request_bytes())
        closed.send(b"\x88\x80\0\0\0\0")
        self.assertFalse(refused.transport.aborted or closed.transport.aborted)
        relay.wait(3)

        self.assertTrue(refused.transport.aborted and closed.transport.aborted)

    def test_ends_with_fin(self) -> None:
        """A clean close is not followed by a reset, which could overtake the last frames."""
        relay = self.relay()
        client = relay.client()
        client.server.close(closecodes.RESTARTING)
        relay.settle()

        self.assertFalse(client.server_transport.aborted)

    def test_nothing_is_kept_after_the_end(self) -> None:
        """A closed connection reads on but keeps nothing of it."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes("//"))
        connection = next(iter(relay.factory.connections))
        for _ in range(100):
            connection.dataReceived(b"x" * 1000)

        self.assertLess(len(connection.data), 1000)


class ViolationTests(RelayTestCase):
    """Peers that break the protocol: the close frame says what."""

    def close_frame(self, *frames: bytes, **settings: object) -> tuple[int, str]:
        self.relay_ = relay = self.relay(**settings)
        wire = relay.wire()
        wire.send(request_bytes())
        [frame] = parse(b"".join(wire.send(frame) for frame in frames))
        return int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()

    def test_codes(self) -> None:
        """1002 for framing, 1007 for text that is not UTF-8, 1009 for size; none of it is relayed."""
        for code, text, frame in [
            (1002, "protocol error: ", BAD_OPCODE),
            (1002, "protocol error: ", b"\x81\x00"),
            (1002, "protocol error: ", b"\xc1\x80\0\0\0\0"),
            (1007, "invalid payload: ", b"\x81\x81\0\0\0\0\xff"),
            (1009, "message too big", b"\x82\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0"),
            (1009, "message too big", b"\x82\xfe\x00\xff" + bytes(4 + 255)),
        ]:
            closed = self.close_frame(frame, max_message_bytes=200)
            self.assertEqual((closed[0], closed[1][: len(text)]), (code, text))
            self.assertEqual(self.relay_.stats.messages_in, 0)
            self.assertEqual(self.relay_.stats.closes_sent, {code: 1})

    def test_what_follows_a_violation_is_discarded(self) -> None:
        """After the close frame nothing else is answered or relayed, and TCP stays until the peer answers."""
        relay = self.relay()
        wire, client = relay.wire(), relay.client()
        wire.send(request_bytes())
        client.messages.clear()
        wire.send(b"\x81\x81\0\0\0\0\xff" + b"\x81\x82\0\0\0\0hi" + PING)
        self.assertEqual([frame.opcode for frame in parse(wire.received)], [8])
        wire.send(b"\x81\x82\0\0\0\0hi")
        wire.send(BAD_OPCODE)
        self.assertEqual((wire.received, wire.ended), (b"", False))
        wire.send(b"\x88\x80\0\0\0\0")

        self.assertEqual((wire.received, wire.ended), (b"", True))
        self.assertEqual(client.messages, [])


class AfterViolationTests(RelayTestCase):
    """What a peer may still cost once it has been told that it failed."""

    def flooded(self, first: bytes, more: bytes, **settings: object) -> tuple[Relay, Wire]:
        """Send a violation and then as much as it takes to see whether it is kept."""
        relay = self.relay(**settings)
        wire = relay.wire()
        wire.send(request_bytes(fields={"Sec-WebSocket-Extensions": "permessage-deflate"}))
        [frame] = parse(wire.send(first))
        self.assertEqual(frame.opcode, 8)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(200):
            wire.send(more)
        self.assertLess(tracemalloc.get_traced_memory()[1], 2 * 2**20)
        return relay, wire

    def test_endless_control_frame(self) -> None:
        """A ping that declares 2^40 bytes is not collected."""
        self.flooded(b"\x89\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0", bytes(65536))

    def test_endless_message(self) -> None:
        """A message that declares 2^62 bytes is not collected."""
        self.flooded(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0", bytes(65536))

    def test_corrupt_deflate(self) -> None:
        """After data that does not inflate, the rest is parsed and thrown away, not piled up."""
        bad = b"\xc2\x84\0\0\0\0\xff\xff\xff\xff"
        self.flooded(bad, b"\xc2\xfe\xff\xff\0\0\0\0" + bytes(65535))

    def test_no_more_bombs(self) -> None:
        """After a bomb, the next ones are not inflated any more."""
        payload = frames.Deflate(15)(frames.encode(frames.BINARY, bytes(2**22)))
        body = payload[4:]
        bomb = payload[:1] + bytes([payload[1] | 0x80]) + payload[2:4] + bytes(4) + body
        inflated: list[int] = []
        theirs = PerMessageDeflate.decompress_message_data

        def inflate(codec: PerMessageDeflate, data: bytes, **options: int) -> bytes:
            inflated.append(len(data))
            return theirs(codec, data, **options)

        self.patch(PerMessageDeflate, "decompress_message_data", inflate)
        self.flooded(bomb, bomb)
        self.assertEqual(len(inflated), 1)

    def test_the_answer_is_still_heard(self) -> None:
        """The peer's close frame ends it, after whatever it has still sent."""
        _, wire = self.flooded(BAD_OPCODE, b"\x81\x82\0\0\0\0hi")
        self.assertFalse(wire.ended)
        wire.send(b"\x88\x82\0\0\0\0\x03\xea")

        self.assertTrue(wire.ended)
        self.assertFalse(wire.transport.aborted)


class GuardTests(RelayTestCase):
    """Bugs, ours and other people's, end one connection and no other."""

    def setUp(self) -> None:
        super().setUp()
        self.relay_ = self.relay()
        self.bystanders = self.relay_.client(), self.relay_.client()

    def assert_unharmed(self) -> None:
        """The bystanders still talk, and the bug was counted and logged with its traceback."""
        one, other = self.bystanders
        one.say("still here")
        self.relay_.settle()
        self.assertEqual(other.messages, ["still here"])
        self.assertEqual(self.relay_.stats.failures, 1)
        self.assertEqual(len(self.logged(LogLevel.critical)), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def broken(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    def test_while_open(self) -> None:
        """A callback that raises closes its connection with 1011."""
        client = self.relay_.client("/other")
        backplane = self.relay_.factory.backplane
        publish, backplane.publish = backplane.publish, self.broken
        client.say("x")
        self.relay_.settle()
        backplane.publish = publish

        [line] = self.logged(LogLevel.critical)
        self.assertEqual(client.closed, (1011, f"internal error: {line[-9:-1]}"))
        self.assert_unharmed()

    def test_during_the_handshake(self) -> None:
        """A bug before the 101 is a 500."""
        self.relay_.factory.chain.grant = self.broken
        wire = self.relay_.wire()
        wire.send(request_bytes())
        del self.relay_.factory.chain.grant

        self.assertEqual(wire.status, 500)
        self.assertNotIn(b"a bug", wire.received)
        self.assert_unharmed()

    def test_in_the_101(self) -> None:
        """A bug after the validators have answered, but before the connection is open, is a 500, too."""
        self.patch(RelayProtocol, "open", self.broken)
        wire = self.relay_.wire()
        wire.send(request_bytes("/other"))

        self.assertEqual(wire.status, 500)
        self.assertEqual(self.relay_.factory.hub.member_count("other"), 0)
        self.assert_unharmed()

    def test_in_a_delivery(self) -> None:
        """A transport that raises loses its own subscriber only."""
        client = self.relay_.client()
        self.patch(client.server_transport, "write", self.broken)
        self.bystanders[1].say("x")
        self.relay_.settle()

        self.flushLoggedErrors(RuntimeError)
        self.assertTrue(client.server_transport.aborted)
        self.assertEqual(self.bystanders[0].messages, ["x"])
        self.assertEqual(self.relay_.factory.hub.member_count("room"), 2)

    def test_when_leaving(self) -> None:
        """A bug at the end of a connection does not keep it in the relay's books."""
        wire = self.relay_.wire()
        wire.send(request_bytes("/other"))
        [connection] = [c for c in self.relay_.factory.connections if c.grant.room == "other"]
        connection.onClose = self.broken
        self.assertRaises(RuntimeError, wire.hang_up)

        self.assertNotIn(connection, self.relay_.factory.connections)
        self.assertEqual(self.relay_.factory.hub.member_count("other"), 0)

    def test_while_closing(self) -> None:
        """A bug on a connection that is closing already ends its TCP."""
        wire = self.relay_.wire()
        wire.send(request_bytes("/other"))
        connection = next(iter(c for c in self.relay_.factory.connections if c.grant.room == "other"))
        connection.close(closecodes.RESTARTING)
        connection.onPong = self.broken
        wire.send(b"\x8a\x80\0\0\0\0")

        self.assertTrue(wire.transport.aborted)
        self.assert_unharmed()


class LogTests(RelayTestCase):
    """What operators read."""

    def test_one_line_at_each_end(self) -> None:
        """Joining and leaving are a line each; messages are none."""
        relay = self.relay()
        client = relay.client("/chat/42")
        client.say("secret")
        relay.settle()
        client.sendClose(1000)
        relay.settle()

        end = "client closed with 1000 ''; messages in 1 (8 bytes), out 0 (0 bytes)"
        self.assertEqual(
            self.logged(),
            [
                "tcp4:192.0.2.1:50000 joined 'chat/42' as None (connection 1)",
                f"tcp4:192.0.2.1:50000 left 'chat/42' as None (connection 1) after 0.0 s: {end}",
            ],
        )
        self.assertEqual(self.logged(LogLevel.warn) + self.logged(LogLevel.error), [])

    def test_refusals_are_one_line(self) -> None:
        """A refusal is one line with its status and reason, and nothing that the client sent."""
        relay = self.relay()
        relay.wire().send(request_bytes("/a/../\x1b[2J?token=secret", {"Cookie": "a=secret"}))

        [line] = self.logged()
        self.assertIn("denied with 400: ", line)
        self.assertNotIn("secret", str(self.events))

    def test_autobahn_is_silent(self) -> None:
        """Autobahn logs nothing of its own at any level (TRAPS 33)."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes(fields={"Cookie": "secret"}))
        wire.send(BAD_OPCODE)
        wire.hang_up()

        self.assertEqual({event["log_namespace"] for event in self.events}, {"wsrelay"})


class CanaryTests(RelayTestCase):
    """Autobahn's internals that are overridden or called: an upgrade that moves one fails here."""

    def test_signatures(self) -> None:
        """Every overridden internal is still there, with the arguments that our override has."""
        for base, name in [
            (WebSocketProtocol, "_fail_connection"),
            (WebSocketProtocol, "sendCloseFrame"),
            (WebSocketProtocol, "dropConnection"),
            (WebSocketProtocol, "_dataReceived"),
            (ServerBase, "failHandshake"),
            (ServerBase, "processHandshake"),
            (ServerBase, "succeedHandshake"),
            (WebSocketProtocol, "onMessageFrameBegin"),
            (WebSocketProtocol, "onMessageBegin"),
            (WebSocketProtocol, "onFrameData"),
        ]:
            theirs = inspect.signature(getattr(base, name))
            ours = inspect.signature(getattr(RelayProtocol, name))
            self.assertEqual(list(theirs.parameters), list(ours.parameters), name)

    def test_no_name_clashes(self) -> None:
        """No attribute of ours has an Autobahn option's name (TRAPS 31)."""
        relay: Relay = self.relay()
        relay.wire()
        [connection] = relay.factory.connections
        self.assertEqual(set(vars(connection)) & set(WebSocketServerProtocol.CONFIG_ATTRS), set())

    def test_autobahn_sets_no_timer(self) -> None:
        """All of Autobahn's timers are off, so that the sweep is the only clock (TRAPS 29)."""
        relay = self.relay()
        before = len(relay.clock.getDelayedCalls())
        wire = relay.wire()
        wire.send(request_bytes())
        next(iter(relay.factory.connections)).close(closecodes.RESTARTING)
        wire.send(b"")

        self.assertEqual(len(relay.clock.getDelayedCalls()), before)
