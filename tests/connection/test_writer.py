"""Tests of wsrelay.connection.writer: writing at once, on a connection with a transport of Twisted's."""

import socket
from typing import Any
from unittest import mock

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketServerFactory as FactoryBase
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.tcp import Connection as TcpTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport

from tests.harness.support import RelayTestCase, request_bytes
from tests.wire.test_frames import parse
from wsrelay.connection.autobahn import autobahn_options
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.settings import Settings


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
        self.assertEqual(self.connection.writer.send(b"frame"), 5)

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
        self.connection.writer.write_later(b"yx", 1)
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
        self.connection.writer.write_later(b"x", 0)

        self.assertEqual(self.reactor.getWriters(), [])

    def test_a_full_socket(self) -> None:
        """A socket that takes nothing at all raises, and that is no error."""
        self.connect()
        self.connection.write(bytes(2**21))
        self.assertRaises(BlockingIOError, self.connection.writer.send, b"x")
        with mock.patch.object(self.connection.writer, "send", side_effect=BlockingIOError):
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

        self.assertEqual((self.connection.writer.send(b"abc"), written), (3, [b"abc"]))

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

    def test_rest_of_a_response(self) -> None:
        """A member whose own frame was not taken is left where it stands in the log, as with a batch."""
        relay = self.relay()
        client = relay.client()
        client.server.writer = mock.Mock(write=lambda data: False, unsent=b"")
        client.server.write(b"frame")

        self.assertEqual(relay.factory.hub.slow_subscribers, 1)
