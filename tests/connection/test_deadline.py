"""Tests of wsrelay.connection.deadline: the end of a close. Pings: tests/connection/test_pings.py."""

from typing import Any

from tests.harness.support import RelayTestCase, Wire, request_bytes
from wsrelay import closecodes
from wsrelay.connection.writer import Writer


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
