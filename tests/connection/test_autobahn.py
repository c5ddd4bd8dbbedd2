"""Tests of wsrelay.connection.autobahn: canaries on the attributes of Autobahn's and Twisted's connections."""

import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketServerFactory
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.support import masked
from tests.harness.live import run
from tests.harness.support import RelayTestCase, Transport, Wire, request_bytes
from wsrelay.closecodes import OVERLOADED
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


class Uncounted(list[bytes]):
    """Parts that may not be looked at one by one."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the parts are added up")


class MessageBytesTests(RelayTestCase):
    """The bytes of an incomplete message."""

    def connect(self, offers: str | None = None) -> tuple[Wire, RelayProtocol]:
        """Open a connection."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes("/room", {"Sec-WebSocket-Extensions": offers}))
        return wire, next(iter(relay.factory.connections))

    @given(st.lists(st.integers(0, 300), min_size=1, max_size=5), st.booleans(), st.integers(1, 50))
    def test_message_bytes(self, sizes: list[int], is_deflated: bool, step: int) -> None:
        """They are the payloads that have come, inflated, and 64 bytes for each part, wherever a read is cut."""
        wire, connection = self.connect("permessage-deflate" if is_deflated else None)
        deflater = zlib.compressobj(wbits=-15)
        first = 0x42 if is_deflated else 0x02
        sent = b""
        for number, size in enumerate(sizes):
            payload = bytes(size)
            if is_deflated:
                payload = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
            sent += masked(0 if number else first, payload) + masked(0x89, b"a ping")
        for start in range(0, len(sent), step):
            wire.send(sent[start : start + step])
            expected = len(connection.data)
            if connection.inside_message:
                parts = [*connection.message_data, *(connection.frame_data or ())]
                expected += sum(len(part) + 64 for part in parts) + (40_960 if is_deflated else 0)
            self.assertEqual(connection.message_bytes, expected)
        connection.close(OVERLOADED)
        self.assertEqual(connection.message_bytes, len(connection.data))

    def test_message_bytes_constant(self) -> None:
        """They are not added up: each sweep asks every connection, and an address can keep a million parts."""
        wire, connection = self.connect()
        wire.send(masked(2, b"abc") + masked(0, b"de", length=3))
        connection.message_data = Uncounted(connection.message_data)
        connection.frame_data = Uncounted(connection.frame_data)
        self.assertEqual(connection.message_bytes, 3 + 64 + 2 + 64)
