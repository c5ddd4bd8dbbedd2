"""Tests of wsrelay.connection.autobahn: canaries on the attributes of Autobahn's and Twisted's connections."""

import sys
from collections.abc import Sequence
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketServerFactory

from tests.harness.live import run
from tests.harness.support import RelayTestCase, Transport, request_bytes
from wsrelay.connection.protocol import RelayProtocol

#: An empty pong, masked with zeros.
PONG = b"\x8a\x80\0\0\0\0"

#: Prints the bytes of one transport's attributes, after a crowd has connected before the first one opened.
CROWD = """
import socket, sys
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server
from twisted.internet.testing import MemoryReactorClock
from wsrelay.factory import RelayFactory
from wsrelay.settings import Settings

reactor = MemoryReactorClock()
RelayFactory(Settings(), (), reactor)
pairs = [socket.socketpair() for _ in range(100)]
servers = [Server(ours, Protocol(), ("127.0.0.1", 1), None, 1, reactor) for ours, _ in pairs]
for server in servers:
    server.registerProducer(object(), True)
    server.write(b"x")
    server.doWrite()
print(max(sys.getsizeof(vars(server)) for server in servers))
"""


class AttributesTests(RelayTestCase):
    """Autobahn's per-connection attributes are on the class."""

    def pair(self, *sent: bytes) -> tuple[Any, Any]:
        """Return a connection of plain Autobahn and one of the relay, after the same bytes."""
        relay = self.relay()
        wire = relay.wire()
        [ours] = relay.factory.connections
        theirs = WebSocketServerProtocol()
        theirs.factory = relay.factory
        theirs.makeConnection(Transport(theirs, isServer=True))
        for data in sent:
            wire.send(data)
            theirs.dataReceived(data)
        return theirs, ours

    def assert_alike(self, theirs: Any, ours: Any, ignored: Sequence[str] = ()) -> None:
        """Assert that each attribute of Autobahn's connection is in ours, with the same value or as new and empty."""
        names = set(vars(theirs)) - {"transport", "peer", "_valid_events", "_results", *ignored}
        self.assertGreater(len(names), 60)
        for name in names:
            their_value, our_value = getattr(theirs, name), getattr(ours, name)
            self.assertEqual(
                our_value if isinstance(our_value, int | str | bytes | tuple | list | None) else type(our_value),
                their_value if isinstance(their_value, int | str | bytes | tuple | list | None) else type(their_value),
                name,
            )

    def test_attributes_new(self) -> None:
        """A new connection has the attributes of plain Autobahn."""
        self.assert_alike(*self.pair(), ["send_queue"])

    def test_attributes_open(self) -> None:
        """So has an open connection, except those from the request."""
        theirs, ours = self.pair(request_bytes())
        self.assertEqual((theirs.state, ours.state), (ours.STATE_OPEN, ours.STATE_OPEN))
        request = [name for name in vars(theirs) if name.startswith(("http_", "websocket_", "_ws"))]
        for name in ("websocket_version", "current_frame", "inside_message"):
            self.assertEqual(getattr(theirs, name), getattr(ours, name))

        self.assert_alike(theirs, ours, [*request, "_maskedflag", "is_open", "send_queue"])

    def test_lazy_attributes(self) -> None:
        """Attributes that cannot be shared are made at first use, one per connection."""
        relay = self.relay()
        relay.wire(), relay.wire()
        one, other = relay.factory.connections
        self.assertNotIn("utf8validator", vars(one))
        validator = one.utf8validator

        self.assertIs(one.utf8validator, validator)
        self.assertIsNot(other.utf8validator, validator)

    def test_shared_counters(self) -> None:
        """Autobahn's traffic counters, which nothing reads, are one object for all connections."""
        relay = self.relay()
        wires = [relay.wire() for _ in range(2)]
        for wire in wires:
            wire.send(request_bytes() + b"")
            wire.send(b"\x01\x80\0\0\0\0" + b"\x80\x80\0\0\0\0")
        one, other = relay.factory.connections

        self.assertIs(one.trafficStats, other.trafficStats)
        self.assertNotIn("trafficStats", vars(one))

    def test_shared_keys_connections(self) -> None:
        """Connections of a crowd share one table of attribute names, also after their pongs."""
        relay = self.relay()
        wires = [relay.wire() for _ in range(100)]
        for data in (request_bytes(), PONG):
            for wire in wires:
                wire.send(data)

        self.assertLess(max(sys.getsizeof(vars(each)) for each in relay.factory.connections), 400)

    def test_shared_keys_transports(self) -> None:
        """So do their transports, if all connect before the first one opens."""
        self.assertLess(int(run(sys.executable, "-c", CROWD).stdout), 400)

    def test_no_is_closed_deferred(self) -> None:
        """The end of a connection makes no ``is_closed`` Deferred."""
        relay = self.relay()
        wire = relay.wire()
        [connection] = relay.factory.connections
        wire.send(request_bytes())
        wire.hang_up()

        self.assertEqual(connection.state, connection.STATE_CLOSED)
        self.assertNotIn("is_closed", vars(connection))

    def test_connection_count_unused(self) -> None:
        """Autobahn's connection count stays at zero (TRAPS 18)."""
        relay = self.relay()
        relay.wire().hang_up()

        self.assertEqual(WebSocketServerFactory.getConnectionCount(relay.factory), 0)

    def test_silence(self) -> None:
        """Autobahn's logger has all levels, and logs nothing at any of them."""
        for level in set(txaio.interfaces.log_levels) - {"none"}:
            getattr(RelayProtocol.log, level)("{x}", x="secret")

        self.assertEqual(self.events, [])
