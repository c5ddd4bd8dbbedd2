"""Tests of wsrelay.connection.autobahn: canaries on what Autobahn and Twisted keep of a connection; writing at once."""

import socket
import sys
from collections.abc import Sequence
from typing import Any
from unittest import mock

import txaio
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketServerFactory
from autobahn.websocket.protocol import WebSocketServerFactory as FactoryBase
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.tcp import Connection as TcpTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport

from tests.harness.live import run
from tests.harness.support import RelayTestCase, Transport, request_bytes
from tests.wire.test_frames import parse
from wsrelay.connection.autobahn import autobahn_options
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.settings import Settings

#: An empty pong, masked with zeros.
PONG = b"\x8a\x80\0\0\0\0"

#: What one transport of Twisted's takes for its attributes, when a crowd has connected before the first one opened.
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
    """What Autobahn sets on each connection is on the class."""

    def pair(self, *sent: bytes) -> tuple[Any, Any]:
        """Return a connection of Autobahn's own and one of ours, that have read the same."""
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
        """Every attribute of Autobahn's connection is one of ours and has the same value, or is as new and empty."""
        names = set(vars(theirs)) - {"transport", "peer", "_valid_events", "_results", *ignored}
        self.assertGreater(len(names), 60)
        for name in names:
            their_value, our_value = getattr(theirs, name), getattr(ours, name)
            self.assertEqual(
                our_value if isinstance(our_value, int | str | bytes | tuple | list | None) else type(our_value),
                their_value if isinstance(their_value, int | str | bytes | tuple | list | None) else type(their_value),
                name,
            )

    def test_new(self) -> None:
        """A new connection is as Autobahn's own would be."""
        self.assert_alike(*self.pair(), ["send_queue"])

    def test_open(self) -> None:
        """An open connection, too, but for what was in the request."""
        theirs, ours = self.pair(request_bytes())
        self.assertEqual((theirs.state, ours.state), (ours.STATE_OPEN, ours.STATE_OPEN))
        request = [name for name in vars(theirs) if name.startswith(("http_", "websocket_", "_ws"))]
        for name in ("websocket_version", "current_frame", "inside_message"):
            self.assertEqual(getattr(theirs, name), getattr(ours, name))

        self.assert_alike(theirs, ours, [*request, "_maskedflag", "is_open", "send_queue"])

    def test_made_at_first_use(self) -> None:
        """What connections cannot share is made when it is asked for, one for each."""
        relay = self.relay()
        relay.wire(), relay.wire()
        one, other = relay.factory.connections
        self.assertNotIn("trafficStats", vars(one))
        stats = one.trafficStats

        self.assertIs(one.trafficStats, stats)
        self.assertIsNot(other.trafficStats, stats)

    def test_names_are_shared(self) -> None:
        """A crowd that opens together, and then gets its pongs, does not cost each a table of attribute names."""
        relay = self.relay()
        wires = [relay.wire() for _ in range(100)]
        for data in (request_bytes(), PONG):
            for wire in wires:
                wire.send(data)

        self.assertLess(max(sys.getsizeof(vars(each)) for each in relay.factory.connections), 400)

    def test_names_of_transports_are_shared(self) -> None:
        """Nor does the transport of each, in a process where none has opened before."""
        self.assertLess(int(run(sys.executable, "-c", CROWD).stdout), 400)

    def test_nobody_waits(self) -> None:
        """The end of a connection is not told by a Deferred that nobody has asked for."""
        relay = self.relay()
        wire = relay.wire()
        [connection] = relay.factory.connections
        wire.send(request_bytes())
        wire.hang_up()

        self.assertEqual(connection.state, connection.STATE_CLOSED)
        self.assertNotIn("is_closed", vars(connection))

    def test_not_counted_by_autobahn(self) -> None:
        """Its count of connections stays what it is without any (TRAPS 18)."""
        relay = self.relay()
        relay.wire().hang_up()

        self.assertEqual(WebSocketServerFactory.getConnectionCount(relay.factory), 0)

    def test_silence(self) -> None:
        """Autobahn's logger has all levels, and says nothing at any of them."""
        for level in set(txaio.interfaces.log_levels) - {"none"}:
            getattr(RelayProtocol.log, level)("{x}", x="secret")

        self.assertEqual(self.events, [])


class WriteTests(RelayTestCase):
    """Writing on Twisted's own transport, to a socket whose other end the test reads."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = MemoryReactorClock()
        ours, self.peer = socket.socketpair()
        self.addCleanup(self.peer.close)
        self.addCleanup(ours.close)
        self.peer.setblocking(False)
        self.connection: Any = self.relay().factory.buildProtocol(None)
        self.transport = TcpTransport(ours, self.connection, self.reactor)
        self.transport.connected = 1
        self.transport.getPeer = lambda: IPv4Address("TCP", "192.0.2.1", 1)  # type: ignore[method-assign]  # nor this
        self.transport.setTcpNoDelay = lambda enabled: None  # type: ignore[method-assign]  # it is no TCP socket

    def connect(self) -> None:
        self.connection.makeConnection(self.transport)
        self.transport.registerProducer(self.connection, True)

    def read(self) -> bytes:
        """Read all there is, letting the transport write on as the reactor would."""
        read = []
        while True:
            for writer in self.reactor.getWriters():
                writer.doWrite()
            try:
                read.append(self.peer.recv(2**20))
            except BlockingIOError:
                return b"".join(read)

    def test_at_once(self) -> None:
        """What the kernel takes is written without asking the reactor; frames of Autobahn's, too."""
        self.connect()
        self.connection.write(b"hello")
        self.connection.sendData(b"ping")
        self.assertEqual(self.connection.send(b"frame"), 5)

        self.assertEqual(self.peer.recv(100), b"hellopingframe")
        self.assertEqual(self.reactor.getWriters(), [])

    def test_the_rest_waits_in_order(self) -> None:
        """What the kernel does not take waits in the transport, what comes later behind it; nothing is lost."""
        self.connect()
        sent = [bytes([number]) * 300_000 for number in range(5)]
        for data in sent:
            self.connection.write(data)
        self.assertTrue(self.connection.paused)

        self.assertEqual(self.read(), b"".join(sent))
        self.assertFalse(self.connection.paused)
        self.connection.write(b"again")
        self.assertEqual(self.peer.recv(100), b"again")

    def test_however_little_waits(self) -> None:
        """The transport tells when it has written the rest, be it one byte: until then nothing may overtake it."""
        self.connect()
        self.connection.keep(b"yx", 1)
        self.assertTrue(self.connection.paused)
        self.assertEqual(self.read(), b"x")

        self.assertFalse(self.connection.paused)

    def test_the_rest_is_shared(self) -> None:
        """Of a large message that several do not take, none has a copy."""
        self.connect()
        data = bytes(2**20)
        self.connection.write(data)

        self.assertIs(self.transport.dataBuffer, data)
        self.assertEqual(self.read(), data)

    def test_keeping_for_one_that_has_gone(self) -> None:
        """A transport that is not connected any more is not asked to write."""
        self.connect()
        self.transport.connected = 0
        self.connection.keep(b"x", 0)

        self.assertEqual(self.reactor.getWriters(), [])

    def test_a_full_socket(self) -> None:
        """A socket that takes nothing at all raises, and that is no error."""
        self.connect()
        self.connection.write(bytes(2**21))
        self.assertRaises(BlockingIOError, self.connection.send, b"x")
        with mock.patch.object(self.connection, "send", side_effect=BlockingIOError):
            self.read()
            self.connection.write(b"y")

        self.assertEqual(self.read(), b"y")

    def test_lost(self) -> None:
        """A socket that has broken is found out by the reactor, as with any other write."""
        self.connect()
        self.peer.close()
        self.connection.write(b"hello")
        [writer] = self.reactor.getWriters()

        self.assertIsInstance(writer.doWrite(), ConnectionLost)

    def test_not_past_tls(self) -> None:
        """Behind TLS all goes through the transport, which else would send it in the clear."""
        self.transport.TLS = True
        written: list[bytes] = []
        self.transport.write = written.append  # type: ignore[method-assign]
        self.connection.makeConnection(self.transport)

        self.assertEqual((self.connection.send(b"abc"), written), (3, [b"abc"]))

    def test_transports_that_are_no_sockets(self) -> None:
        """Transports without TCP_NODELAY do, too, and are written to as they want."""
        relay = self.relay()
        connection = relay.factory.buildProtocol(None)
        transport = StringTransport()
        connection.makeConnection(transport)
        connection.write(b"abc")

        self.assertEqual(transport.value(), b"abc")

    def test_the_101(self) -> None:
        """The response to the handshake is followed by frames, in that order."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        head, _, rest = wire.received.partition(b"\r\n\r\n")

        self.assertIn(b" 101 ", head)
        self.assertEqual(parse(rest), [])


class OptionsTests(RelayTestCase):
    """Settings applied to Autobahn."""

    def test_every_option_is_set(self) -> None:
        """No option of Autobahn is left to its default: most of those are traps (TRAPS 14-19, 21, 22)."""
        parameters = FactoryBase.setProtocolOptions.__code__.co_varnames[
            1 : FactoryBase.setProtocolOptions.__code__.co_argcount
        ]

        self.assertEqual(set(autobahn_options(Settings())), set(parameters))

    def test_options_are_the_connections(self) -> None:
        """What is set on the factory holds for its connections, without being copied to each (TRAPS 7)."""
        relay = self.relay(max_message_bytes=4321, no_compress=True)
        relay.wire()
        [connection] = relay.factory.connections

        self.assertEqual((connection.maxMessagePayloadSize, connection.tcpNoDelay), (4321, True))
        self.assertEqual(set(vars(connection)) & set(WebSocketServerProtocol.CONFIG_ATTRS), set())
        self.assertIsInstance(connection, RelayProtocol)

    def test_factories_do_not_share_options(self) -> None:
        """Two relays in one process have their own settings."""
        one, other = (self.relay(max_message_bytes=size, no_compress=True) for size in (1, 2))
        one.wire()
        other.wire()

        self.assertEqual([next(iter(r.factory.connections)).maxMessagePayloadSize for r in (one, other)], [1, 2])

    def test_nagle_is_off(self) -> None:
        """TCP_NODELAY is asked for; Autobahn alone would not (TRAPS 1). A real socket: test_interop."""
        relay = self.relay()
        wire = relay.wire()
        asked: list[bool] = []
        wire.transport.setTcpNoDelay = asked.append  # type: ignore[method-assign]
        next(iter(relay.factory.connections)).makeConnection(wire.transport)

        self.assertEqual(asked, [True])
