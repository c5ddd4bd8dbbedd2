"""Tests of deadlines, closes, refusals and the guard of connections; and canaries on Autobahn."""

import inspect
import tracemalloc

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflate
from twisted.logger import LogLevel

from tests.harness.support import Relay, RelayTestCase, Wire, request_bytes
from tests.wire.test_frames import parse
from wsrelay import closecodes
from wsrelay.connection import protocol
from wsrelay.connection.autobahn import AutobahnProtocol
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.message import Run
from wsrelay.rooms.room import MANY
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate

#: Client frames, masked with zeros.
PING = b"\x89\x80\0\0\0\0"
BAD_OPCODE = b"\x83\x80\0\0\0\0"


class HandshakeDeadlineTests(RelayTestCase):
    """Unfinished handshakes."""

    def test_handshake_timeout(self) -> None:
        """A client that sends nothing is refused with 408 and dropped."""
        relay = self.relay(handshake_seconds=4)
        wire = relay.wire()
        relay.wait(3.5)
        self.assertFalse(wire.ended)
        relay.wait(1)

        wire.send(b"")
        self.assertEqual((wire.status, wire.ended), (408, True))

    def test_handshake_timeout_dribble(self) -> None:
        """The deadline is for the whole request: single bytes do not extend it."""
        relay = self.relay(handshake_seconds=4)
        wire = relay.wire()
        for byte in request_bytes()[:18]:
            wire.send(bytes([byte]))
            relay.wait(0.25)
            if wire.ended:
                break

        self.assertTrue(wire.ended)
        self.assertLess(relay.clock.seconds(), 5)

    def test_handshake_in_time(self) -> None:
        """The handshake's deadline ends with the 101."""
        relay = self.relay(handshake_seconds=4, ping_seconds=0)
        client = relay.client()
        relay.wait(60)

        self.assertTrue(client.open)


class CloseTests(RelayTestCase):
    """Closing a connection."""

    def test_close_code_and_reason(self) -> None:
        """The peer sees the row's code and reason; the connection ends cleanly and is counted."""
        relay = self.relay()
        client = relay.client()
        client.server.close(closecodes.INTERNAL_ERROR, "detail")
        relay.settle()

        self.assertEqual(client.closed, (1011, "internal error: detail"))
        self.assertTrue(client.wasClean)
        self.assertEqual(relay.stats.closes_sent, {1011: 1})
        self.assertEqual(relay.factory.connections, set())

    def test_close_twice(self) -> None:
        """Only the first close counts."""
        relay = self.relay()
        client = relay.client()
        client.server.close(closecodes.RESTARTING)
        client.server.close(closecodes.INTERNAL_ERROR)
        relay.settle()
        client.server.close(closecodes.INTERNAL_ERROR)

        self.assertEqual((client.closed[0], relay.stats.closes_sent), (1012, {1012: 1}))

    def test_close_handshake(self) -> None:
        """A connection that is not open yet is refused with 503 and Retry-After."""
        relay = self.relay()
        wire, silent = relay.wire(), relay.wire()
        wire.send(request_bytes()[:-2])
        for connection in tuple(relay.factory.connections):
            connection.close(closecodes.RESTARTING)
        wire.send(b"")

        self.assertEqual((wire.status, wire.ended), (503, True))
        # Without a request there is no response: the client would take it for the answer to its first request.
        self.assertEqual((silent.send(b""), silent.ended), (b"", True))
        self.assertIn(b"Retry-After: 10\r\n", wire.received)

    def test_close_leaves_room(self) -> None:
        """A closing connection gets no more messages, whichever side closes."""
        relay = self.relay()
        leaving, speaking = relay.client(), relay.client()
        speaking.say("before")
        relay.settle()
        leaving.server.close(closecodes.RESTARTING)
        self.assertEqual(relay.factory.hub.member_count("room"), 1)
        speaking.say("after")
        relay.settle()

        self.assertEqual(leaving.messages, ["before"])

    def test_close_code_echo(self) -> None:
        """The peer's close code is echoed (RFC 6455 section 5.5.1), or none if it sent none."""
        relay = self.relay()
        for code in (1000, 3000, 4999, None):
            client = relay.client()
            client.sendClose(code)
            relay.settle()
            self.assertEqual((client.closed[0], client.wasClean), (code, True))

    def test_close_order(self) -> None:
        """A close delivers pending messages, leaves the room, writes the frame, sets the deadline, and reads on."""
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

    def test_close_delivery_fails(self) -> None:
        """A transport that raises during a close's last delivery ends its connection, once."""
        relay = self.relay()
        client, *_ = [relay.client() for _ in range(MANY + 1)]
        relay.factory.hub.publish("room", Run.text(b"x"))
        self.patch(client.server_transport, "write", lambda data: 1 / 0)
        client.server.close(closecodes.RESTARTING)
        self.flushLoggedErrors(ZeroDivisionError)

        self.assertTrue(client.server_transport.aborted)

    def test_abort_before_open(self) -> None:
        """Autobahn's close does nothing before the 101; a second drop does nothing."""
        relay = self.relay()
        wire = relay.wire()
        [connection] = relay.factory.connections
        connection.sendCloseFrame(1000)
        self.assertFalse(wire.ended)
        connection.dropConnection()
        connection.dropConnection()

        self.assertTrue(wire.ended)

    def test_close_timeout(self) -> None:
        """Without an answer to the relay's close, TCP is aborted after close_seconds."""
        relay = self.relay(close_seconds=2)
        wire = relay.wire()
        wire.send(request_bytes())
        next(iter(relay.factory.connections)).close(closecodes.RESTARTING)
        relay.wait(1.5)
        self.assertFalse(wire.transport.aborted)
        relay.wait(1)

        self.assertTrue(wire.transport.aborted)

    def test_close_timeout_tcp(self) -> None:
        """TCP that stays open after a refusal or the peer's close is aborted (TRAPS 26)."""
        relay = self.relay(close_seconds=2)
        refused, closed = relay.wire(), relay.wire()
        refused.send(request_bytes("//"))
        closed.send(request_bytes())
        closed.send(b"\x88\x80\0\0\0\0")
        self.assertFalse(refused.transport.aborted or closed.transport.aborted)
        relay.wait(3)

        self.assertTrue(refused.transport.aborted and closed.transport.aborted)

    def test_close_fin(self) -> None:
        """A clean close is not followed by a reset, which could overtake the last frames."""
        relay = self.relay()
        client = relay.client()
        client.server.close(closecodes.RESTARTING)
        relay.settle()

        self.assertFalse(client.server_transport.aborted)

    def test_close_discards(self) -> None:
        """A closed connection reads on, and buffers nothing."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes("//"))
        connection = next(iter(relay.factory.connections))
        for _ in range(100):
            connection.dataReceived(b"x" * 1000)

        self.assertLess(len(connection.data), 1000)


class ViolationTests(RelayTestCase):
    """Protocol violations; the close frame says which."""

    def close_frame(self, *frames: bytes, **settings: object) -> tuple[int, str]:
        self.relay_ = relay = self.relay(**settings)
        wire = relay.wire()
        wire.send(request_bytes())
        [frame] = parse(b"".join(wire.send(frame) for frame in frames))
        return int.from_bytes(frame.data[:2], "big"), frame.data[2:].decode()

    def test_violation_codes(self) -> None:
        """1002 for framing, 1007 for invalid UTF-8, 1009 for size; nothing of it is relayed."""
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

    def test_violation_discards(self) -> None:
        """Input behind a violation is not answered or relayed; TCP stays until the peer answers."""
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
    """The cost of a peer after its violation is bounded."""

    def flooded(self, first: bytes, more: bytes, **settings: object) -> tuple[Relay, Wire]:
        """Send a violation, then enough data to see whether it is buffered."""
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

    def test_violation_endless_ping(self) -> None:
        """A ping that declares 2^40 bytes is not collected."""
        self.flooded(b"\x89\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0", bytes(65536))

    def test_violation_endless_message(self) -> None:
        """A message that declares 2^62 bytes is not collected."""
        self.flooded(b"\x82\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0", bytes(65536))

    def test_violation_corrupt_deflate(self) -> None:
        """After corrupt deflate data, the rest is parsed and discarded."""
        bad = b"\xc2\x84\0\0\0\0\xff\xff\xff\xff"
        self.flooded(bad, b"\xc2\xfe\xff\xff\0\0\0\0" + bytes(65535))

    def test_violation_deflate_bombs(self) -> None:
        """After a deflate bomb, later ones are not inflated."""
        payload = Deflate(15)(frames.encode(frames.BINARY, bytes(2**22)))
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

    def test_violation_close_reply(self) -> None:
        """The peer's close frame ends the connection, also behind other input."""
        _, wire = self.flooded(BAD_OPCODE, b"\x81\x82\0\0\0\0hi")
        self.assertFalse(wire.ended)
        wire.send(b"\x88\x82\0\0\0\0\x03\xea")

        self.assertTrue(wire.ended)
        self.assertFalse(wire.transport.aborted)


class GuardTests(RelayTestCase):
    """A bug, in the relay or an extension, ends one connection and no other."""

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

    def test_bug_open(self) -> None:
        """A raising callback closes its connection with 1011."""
        client = self.relay_.client("/other")
        backplane = self.relay_.factory.backplane
        publish, backplane.publish = backplane.publish, self.broken
        client.say("x")
        self.relay_.settle()
        backplane.publish = publish

        [line] = self.logged(LogLevel.critical)
        self.assertEqual(client.closed, (1011, f"internal error: {line[-9:-1]}"))
        self.assert_unharmed()

    def test_bug_handshake(self) -> None:
        """A bug before the 101 is a 500."""
        self.relay_.factory.chain.grant = self.broken
        wire = self.relay_.wire()
        wire.send(request_bytes())
        del self.relay_.factory.chain.grant

        self.assertEqual(wire.status, 500)
        self.assertNotIn(b"a bug", wire.received)
        self.assert_unharmed()

    def test_bug_between_validators_and_101(self) -> None:
        """A bug between the validators' answer and the 101 is a 500, too."""
        self.patch(RelayProtocol, "open", self.broken)
        wire = self.relay_.wire()
        wire.send(request_bytes("/other"))

        self.assertEqual(wire.status, 500)
        self.assertEqual(self.relay_.factory.hub.member_count("other"), 0)
        self.assert_unharmed()

    def test_bug_delivery(self) -> None:
        """A raising transport loses its own subscriber only."""
        client = self.relay_.client()
        self.patch(client.server_transport, "write", self.broken)
        self.bystanders[1].say("x")
        self.relay_.settle()

        self.flushLoggedErrors(RuntimeError)
        self.assertTrue(client.server_transport.aborted)
        self.assertEqual(self.bystanders[0].messages, ["x"])
        self.assertEqual(self.relay_.factory.hub.member_count("room"), 2)

    def test_bug_leave(self) -> None:
        """A bug at the end of a connection leaves no trace of it in the relay's counts."""
        wire = self.relay_.wire()
        wire.send(request_bytes("/other"))
        [connection] = [c for c in self.relay_.factory.connections if c.grant.room == "other"]
        connection.onClose = self.broken
        self.assertRaises(RuntimeError, wire.hang_up)

        self.assertNotIn(connection, self.relay_.factory.connections)
        self.assertEqual(self.relay_.factory.hub.member_count("other"), 0)

    def test_bug_closing(self) -> None:
        """A bug on a closing connection ends its TCP."""
        wire = self.relay_.wire()
        wire.send(request_bytes("/other"))
        connection = next(iter(c for c in self.relay_.factory.connections if c.grant.room == "other"))
        connection.close(closecodes.RESTARTING)
        connection.onPong = self.broken
        wire.send(b"\x8a\x80\0\0\0\0")

        self.assertTrue(wire.transport.aborted)
        self.assert_unharmed()


class LogTests(RelayTestCase):
    """Log lines."""

    def test_log_open_and_close(self) -> None:
        """Opening and closing are logged in one line each, messages are not."""
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

    def test_log_refusal(self) -> None:
        """A refusal is one line with status and reason, and nothing from the client."""
        relay = self.relay()
        relay.wire().send(request_bytes("/a/../\x1b[2J?token=secret", {"Cookie": "a=secret"}))

        [line] = self.logged()
        self.assertIn("denied with 400: ", line)
        self.assertNotIn("secret", str(self.events))

    def test_log_without_autobahn(self) -> None:
        """Autobahn logs nothing at any level (TRAPS 33)."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes(fields={"Cookie": "secret"}))
        wire.send(BAD_OPCODE)
        wire.hang_up()

        self.assertEqual({event["log_namespace"] for event in self.events}, {"wsrelay"})


class CanaryTests(RelayTestCase):
    """Autobahn internals that are overridden or called: an upgrade that moves one fails here."""

    def test_canary_signatures(self) -> None:
        """Every method of Autobahn's that is overridden or called exists, with the arguments of the override."""
        ours = {**vars(AutobahnProtocol), **vars(RelayProtocol)}
        overridden = [
            name for name, value in ours.items() if inspect.isfunction(value) and hasattr(WebSocketServerProtocol, name)
        ]
        self.assertLessEqual(
            {"_fail_connection", "sendCloseFrame", "onFrameBegin", "onPing", "sendData"}, set(overridden)
        )
        for name in overridden:
            if name != "__init__":
                theirs = inspect.signature(getattr(WebSocketServerProtocol, name))
                self.assertEqual(list(theirs.parameters), list(inspect.signature(ours[name]).parameters), name)
        for name in ("processData", "sendPing", "sendPong", "_parseExtensionsHeader"):
            self.assertTrue(callable(getattr(WebSocketServerProtocol, name)), name)

    def test_canary_option_names(self) -> None:
        """No attribute of the relay has the name of an Autobahn option (TRAPS 31)."""
        relay: Relay = self.relay()
        relay.wire()
        [connection] = relay.factory.connections
        slots = {slot for each in RelayProtocol.__mro__ for slot in getattr(each, "__slots__", ())}
        self.assertIn("writer", slots)
        self.assertEqual((set(vars(connection)) | slots) & set(WebSocketServerProtocol.CONFIG_ATTRS), set())

    def test_canary_timers(self) -> None:
        """All of Autobahn's timers are off: the sweep is the only clock (TRAPS 29)."""
        relay = self.relay()
        before = len(relay.clock.getDelayedCalls())
        wire = relay.wire()
        wire.send(request_bytes())
        next(iter(relay.factory.connections)).close(closecodes.RESTARTING)
        wire.send(b"")

        self.assertEqual(len(relay.clock.getDelayedCalls()), before)
