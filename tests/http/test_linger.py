"""Tests of wsrelay.http.linger: which half of a transport the last response ends."""

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from tests.harness.admin import Transport
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
        transport = Transport()
        directlyProvides(transport, ISSLTransport)
        linger(transport, b"bye")

        self.assertEqual((transport.value(), transport.half_closed, transport.disconnecting), (b"bye", False, True))

    def test_no_half_close(self) -> None:
        """A transport without a half-close ends."""
        transport = StringTransport()
        linger(transport, b"bye")

        self.assertEqual((transport.value(), transport.disconnecting), (b"bye", True))
