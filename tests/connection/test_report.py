"""Tests of wsrelay.connection.report."""

from tests.harness.support import RelayTestCase, request_bytes
from wsrelay.stats import ConnectionStatus


class StatusTests(RelayTestCase):
    """The status of a connection."""

    def status(self, *sent: bytes) -> ConnectionStatus:
        relay = self.relay()
        wire = relay.wire()
        for data in sent:
            wire.send(data)
        [connection] = relay.factory.connections
        return connection.status()

    def test_status_handshake(self) -> None:
        """Before it opens, a connection has no room and no time."""
        status = self.status(b"GET")
        self.assertEqual((status.state, status.room, status.seconds, status.held), ("handshake", "", 0.0, False))

    def test_status_state(self) -> None:
        """An open connection is "open"; one whose refusal is written is "closed"."""
        self.assertEqual(self.status(request_bytes()).state, "open")
        self.assertEqual(self.status(request_bytes("//")).state, "closed")

    def test_status_counts(self) -> None:
        """Messages are counted with their bytes as plain frames."""
        status = self.status(request_bytes(), b"\x81\x82\0\0\0\0hi")
        self.assertEqual((status.messages_in, status.bytes_in, status.messages_out), (1, 4, 0))
