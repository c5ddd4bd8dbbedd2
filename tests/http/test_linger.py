"""Tests of wsrelay.http.linger: which half of a transport the last response ends."""

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.admin import Transport, tls_transport
from wsrelay.http.linger import linger


class LingerTests(SynchronousTestCase):
    """The last response."""

    def test_half_close(self) -> None:
        """On plain TCP, only our half ends, so that the peer's bytes can be read away."""
        transport = Transport()
        linger(transport, b"bye")

        self.assertEqual((transport.value(), transport.half_closed, transport.disconnecting), (b"bye", True, False))

    def test_tls(self) -> None:
        """TLS has no halves: both end."""
        transport = tls_transport()
        linger(transport, b"bye")

        self.assertEqual((transport.value(), transport.half_closed, transport.disconnecting), (b"bye", False, True))

    def test_tls_handshake(self) -> None:
        """Within the TLS handshake nothing can be sent: TCP is aborted."""
        transport = tls_transport(finished=None)
        linger(transport, b"bye")

        self.assertEqual((transport.value(), transport.disconnected), (b"", True))

    def test_no_half_close(self) -> None:
        """A transport without a half-close ends."""
        transport = StringTransport()
        linger(transport, b"bye")

        self.assertEqual((transport.value(), transport.disconnecting), (b"bye", True))
