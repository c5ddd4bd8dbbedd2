"""Tests of wsrelay.connection.ends. See also tests/connection/test_protocol.py, tests/connection/test_websocket.py."""

from tests.harness.framing import wire_frame
from tests.harness.http import http_bytes
from tests.harness.support import RelayTestCase, request_bytes
from wsrelay import closecodes
from wsrelay.connection.stage import Stage
from wsrelay.connection.websocket import STRETCH_FRAMES
from wsrelay.connection.writer import Writer
from wsrelay.errors import Denied


class ShedTests(RelayTestCase):
    """Connections that are closed to free memory."""

    def test_shed(self) -> None:
        """An unanswered request gets the refusal, an open connection the close; TCP is reset where bytes wait."""
        relay = self.relay()
        denied = Denied(429, "too much", cause="test")
        early, late, stalled = relay.wire(), relay.wire(), relay.client()
        late.send(request_bytes())
        stalled.server_transport.stalled = True
        stalled.server.pauseProducing()
        for connection in (early.transport.protocol, late.transport.protocol):
            connection.shed(closecodes.OVERLOADED, denied)
        self.assertEqual(early.send(b"").split()[1], b"429")
        self.assertIn(b"overloaded", late.send(b""))
        self.assertEqual((early.transport.aborted, late.transport.aborted), (False, False))
        late.transport.protocol.shed(closecodes.OVERLOADED, denied)

        self.assertTrue(late.transport.aborted, "its close had begun")


class FailTests(RelayTestCase):
    """Bugs."""

    def test_fail(self) -> None:
        """A bug is 500 before the response, 1011 after it, and the end of TCP once a close has begun."""
        relay = self.relay()
        early, late = relay.wire(), relay.wire()
        late.send(request_bytes())
        for connection in (early.transport.protocol, late.transport.protocol):
            connection.fail(ZeroDivisionError())
        self.assertEqual(early.send(b"").split()[1], b"500")
        self.assertIn((1011).to_bytes(2), late.send(b""))
        late.transport.protocol.fail(ZeroDivisionError())
        self.assertTrue(late.transport.aborted)

        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)


class PlainHttpTests(RelayTestCase):
    """Plain HTTP at a TLS endpoint."""

    def test_refused_plain_http(self) -> None:
        """It is counted and logged as a refusal; TLS has answered."""
        relay = self.relay()
        wire = relay.wire()
        wire.transport.protocol.refused_plain_http()

        self.assertEqual(relay.factory.stats.handshakes_denied[400, "malformed"], 1)
        self.assertEqual(wire.send(b""), b"")


class SlowPeerTests(RelayTestCase):
    """Responses that wait for their peer."""

    def test_end(self) -> None:
        """While the peer takes a response, it has ten times ``close_seconds``; else once."""
        relay = self.relay(http=True, history=("room=100",), close_seconds=3)
        for progress, alive_seconds in ((True, 25), (False, 2)):
            self.patch(Writer, "progressed", lambda _, progress=progress: progress)
            self.patch(Writer, "__len__", lambda _: 1)
            wire = relay.wire()
            wire.transport.stalled = True
            wire.send(http_bytes("GET /room", None, {"Accept": "application/json"}))
            relay.wait(alive_seconds)
            self.assertFalse(wire.transport.aborted)
            relay.wait(8)
            self.assertTrue(wire.transport.aborted)


class RestTests(RelayTestCase):
    """Input that waited when TCP ended."""

    def test_rest(self) -> None:
        """What waits for a turn of an open connection is published; of another one it is dropped."""
        relay = self.relay()
        subscriber, wire, early = relay.client(), relay.wire(), relay.wire()
        wire.send(request_bytes())
        relay.factory.turns.wait(wire.transport.protocol, wire_frame(0x81, b"a"))
        relay.factory.turns.wait(early.transport.protocol, request_bytes())
        for one in (wire, early):
            one.transport.protocol.connectionLost()
        relay.settle()

        self.assertEqual((subscriber.messages, wire.transport.protocol.stage), (["a"], Stage.LOST))

    def test_rest_unparsed(self) -> None:
        """Bytes that a turn had left unparsed are parsed in one more, as when the end of TLS comes in the same read."""
        relay = self.relay()
        subscriber, wire = relay.client(), relay.wire()
        wire.send(request_bytes())
        many = STRETCH_FRAMES * 3 // 4  # of two frames each, which the fast path does not take
        wire.transport.protocol.dataReceived((wire_frame(0x01, b"a") + wire_frame(0x80, b"b")) * many)
        wire.hang_up()
        relay.settle()

        self.assertEqual(subscriber.messages, ["ab"] * many)
