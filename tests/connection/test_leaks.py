"""Connections are freed when TCP ends: no circle of references is left to the garbage collector."""

import gc
import weakref
from collections.abc import Callable

from twisted.internet.defer import Deferred

from tests.harness.http import http_bytes
from tests.harness.support import Answer, RelayTestCase, Wire, request_bytes
from wsrelay.grant import Grant

MESSAGE = b"\x81\x82\0\0\0\0hi"
CLOSE = b"\x88\x80\0\0\0\0"


class LeakTests(RelayTestCase):
    """Each kind of connection, and each kind of end."""

    def assert_freed(self, *sent: bytes, end: Callable[[Wire], object] = Wire.hang_up, **settings: object) -> None:
        """Connect, send, end, and see that nothing is left of the connection and its phases."""
        relay = self.relay(http=True, **settings)
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        wire = relay.wire()
        [connection] = relay.factory.connections
        left = [weakref.ref(connection)]
        for data in sent:
            wire.send(data)
        transport, protocol = wire.transport, connection
        del connection
        end(wire)
        self.assertEqual(len(relay.factory.connections), 0)
        transport.protocol = transport.producer = None  # as Twisted's own transports do when TCP has ended
        del protocol, wire, transport
        relay.settle()
        gc.enable()

        self.assertEqual([reference() for reference in left], [None], sent)

    def test_handshake(self) -> None:
        """A connection that never opened."""
        self.assert_freed(b"GET /room")

    def test_refused(self) -> None:
        """A refused handshake."""
        self.assert_freed(request_bytes("//"))

    def test_websocket(self) -> None:
        """An open connection that has published, and that is lost or closed."""
        self.assert_freed(request_bytes(), MESSAGE)
        self.assert_freed(request_bytes(), MESSAGE, CLOSE)

    def test_exchange(self) -> None:
        """An HTTP exchange, whole and in the middle of its body."""
        self.assert_freed(http_bytes("POST /room", b"x"))
        self.assert_freed(http_bytes("POST /room", None, {"Content-Length": "5"}) + b"x")

    def test_stream(self) -> None:
        """An event stream."""
        self.assert_freed(http_bytes("GET /room", fields={"Accept": "text/event-stream"}))

    def test_pending_validator(self) -> None:
        """A connection that ends while validators are asked."""
        later: Deferred[Grant] = Deferred()
        relay = self.relay([Answer(later)])
        wire = relay.wire()
        wire.send(request_bytes())
        [connection] = relay.factory.connections
        reference = weakref.ref(connection)
        del connection
        wire.hang_up()
        wire.transport.protocol = None
        del wire
        gc.collect()

        self.assertIsNone(reference())
