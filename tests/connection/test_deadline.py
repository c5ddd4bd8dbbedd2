"""Tests of wsrelay.connection.deadline: a close, and waiting input. Pings: tests/connection/test_pings.py."""

from collections.abc import Callable
from typing import Any

from tests.connection.test_protocol import client_frame
from tests.harness.support import Answer, Relay, RelayTestCase, Wire, request_bytes
from wsrelay import closecodes
from wsrelay.connection.stage import Stage
from wsrelay.connection.writer import Writer
from wsrelay.grant import Grant
from wsrelay.limits.turns import TURN_SECONDS


class CloseTests(RelayTestCase):
    """The end of a close without an answer of the peer."""

    def closing(self, progress: bool, delivered: bool, **settings: Any) -> tuple[Any, Wire]:
        """Return a relay and a connection that it has closed, whose peer takes bytes, or has all."""
        relay = self.relay(close_seconds=2, **settings)
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        self.patch(Writer, "progressed", lambda _: progress)
        self.patch(Writer, "delivered", delivered)
        connection.close(closecodes.TOO_SLOW)
        return relay, wire

    def test_close_aborted(self) -> None:
        """A peer that does not take the close frame is aborted after close_seconds."""
        relay, wire = self.closing(progress=False, delivered=False)
        relay.wait(1.5)
        self.assertFalse(wire.transport.aborted)
        relay.wait(1)

        self.assertTrue(wire.transport.aborted)

    def test_close_extended(self) -> None:
        """A slow peer has ten times close_seconds for the bytes before the close frame, while it takes some."""
        relay, wire = self.closing(progress=True, delivered=False)
        relay.wait(19)
        self.assertFalse(wire.transport.aborted)
        relay.wait(2)

        self.assertTrue(wire.transport.aborted)

    def test_close_slow_chunks(self) -> None:
        """A peer that was taking waiting bytes has twice close_seconds for the next ones: proxies read in chunks."""
        relay, wire = self.closing(progress=True, delivered=False)
        self.patch(Writer, "progressed", lambda _: False)
        relay.wait(3.5)
        self.assertFalse(wire.transport.aborted)
        relay.wait(1)

        self.assertTrue(wire.transport.aborted)

    def test_close_delivered(self) -> None:
        """With all bytes at the peer's TCP, the end is FIN: a reset would discard what it has not read yet."""
        relay, wire = self.closing(progress=False, delivered=True)
        relay.wait(2.5)
        self.assertEqual((wire.ended, wire.transport.aborted), (True, False))
        relay.wait(2.5)

        self.assertTrue(wire.transport.aborted)


class WaitingTests(RelayTestCase):
    """Deadlines of connections whose input waits for its turn."""

    def setUp(self) -> None:
        super().setUp()
        self.turns: list[Callable[[], None]] = []

    def contend(self, relay: Relay, wire: Wire) -> Any:
        """Let reads of an address wait until :attr:`turns` are called; return its connection."""
        turns, connection = relay.factory.turns, wire.transport.protocol
        turns._call_soon = self.turns.append
        turns.took(connection, TURN_SECONDS)
        return connection

    def test_request_waits(self) -> None:
        """A request that waits is not late."""
        relay = self.relay(handshake_seconds=1)
        wire = relay.wire()
        self.contend(relay, wire)
        wire.send(request_bytes())
        relay.wait(5)
        self.assertEqual(wire.received, b"")
        self.turns.pop()()

        self.assertTrue(wire.send(b"").startswith(b"HTTP/1.1 101 "))

    def test_pong_waits(self) -> None:
        """A pong that waits is not missing; an expired grant ends the connection all the same."""
        for expires_at, closes in ((None, {}), (1_000_011.0, {closecodes.EXPIRED.code: 1})):
            relay = self.relay([Answer(Grant(room="room", expires_at=expires_at))], ping_seconds=4)
            wire = relay.wire()
            wire.send(request_bytes())
            relay.wait(4.5)
            connection = self.contend(relay, wire)
            wire.send(client_frame(10, connection.keepalive._awaited))
            relay.wait(10)
            self.turns.pop()()
            relay.wait(1)
            self.assertEqual((connection.stage is Stage.OPEN, relay.stats.closes_sent), (not closes, closes))
