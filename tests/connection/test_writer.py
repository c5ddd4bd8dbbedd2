"""Tests of wsrelay.connection.writer, on a connection with Twisted's transport."""

import socket
from typing import Any
from unittest import mock

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.protocol import WebSocketServerFactory as FactoryBase
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.tcp import Connection as TcpTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper

from tests.harness.support import RelayTestCase, request_bytes
from tests.wire.test_frames import parse
from wsrelay.connection.autobahn import autobahn_options
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.writer import _TCP_INFO, Writer
from wsrelay.settings import Settings


class WriteTests(RelayTestCase):
    """Writing through Twisted's transport to a socketpair."""

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
        self.transport.getPeer = lambda: IPv4Address("TCP", "192.0.2.1", 1)  # type: ignore[method-assign]  # no address
        self.transport.setTcpNoDelay = lambda enabled: None  # type: ignore[method-assign]  # no TCP

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

    def test_write_at_once(self) -> None:
        """The kernel gets the bytes without a reactor turn, also of Autobahn's own frames."""
        self.connect()
        self.connection.write(b"hello")
        self.connection.sendData(b"ping")
        self.assertEqual(self.connection.writer.send(b"frame"), 5)

        self.assertEqual(self.peer.recv(100), b"hellopingframe")
        self.assertEqual(self.reactor.getWriters(), [])

    def test_write_rest_in_order(self) -> None:
        """Bytes that the kernel does not take wait in the transport, in order; nothing is lost."""
        self.connect()
        sent = [bytes([number]) * 300_000 for number in range(5)]
        for data in sent:
            self.connection.write(data)
        self.assertTrue(self.connection.paused)

        self.assertEqual(self.read(), b"".join(sent))
        self.assertFalse(self.connection.paused)
        self.connection.write(b"again")
        self.assertEqual(self.peer.recv(100), b"again")

    def test_write_resume(self) -> None:
        """Until the transport has written the rest, even one byte, nothing overtakes it."""
        self.connect()
        self.connection.writer.write_later(b"yx", 1)
        self.assertTrue(self.connection.paused)
        self.assertEqual(self.read(), b"x")

        self.assertFalse(self.connection.paused)

    def test_write_rest_shared(self) -> None:
        """Subscribers share the rest of a large message without a copy."""
        self.connect()
        data = bytes(2**20)
        self.connection.write(data)

        self.assertIs(self.transport.dataBuffer, data)
        self.assertEqual(self.read(), data)

    def test_write_later_disconnected(self) -> None:
        """A disconnected transport gets no rest to write."""
        self.connect()
        self.transport.connected = 0
        self.connection.writer.write_later(b"x", 0)

        self.assertEqual(self.reactor.getWriters(), [])

    def test_write_full_socket(self) -> None:
        """EAGAIN of a full socket is not an error."""
        self.connect()
        self.connection.write(bytes(2**21))
        self.assertRaises(BlockingIOError, self.connection.writer.send, b"x")
        with mock.patch.object(self.connection.writer, "send", side_effect=BlockingIOError):
            self.read()
            self.connection.write(b"y")

        self.assertEqual(self.read(), b"y")

    def test_write_broken_socket(self) -> None:
        """The reactor finds a broken socket, as with any other write."""
        self.connect()
        self.peer.close()
        self.connection.write(b"hello")
        [writer] = self.reactor.getWriters()

        self.assertIsInstance(writer.doWrite(), ConnectionLost)

    def test_progress_transport(self) -> None:
        """On a socket without TCP, bytes that leave the transport count as taken; not those that did not wait."""
        self.connect()
        writer = self.connection.writer
        self.connection.write(b"taken at once")
        self.assertEqual([writer.progressed() for _ in range(2)], [False, False])
        self.connection.write(bytes(2**21))
        writer.progressed()
        self.assertFalse(writer.progressed())
        self.peer.recv(2**20)
        [transport] = self.reactor.getWriters()
        transport.doWrite()
        self.assertEqual([writer.progressed() for _ in range(2)], [True, False])
        self.read()
        self.assertEqual([writer.progressed() for _ in range(2)], [True, False])

        self.assertIsNone(writer.delivered)

    def test_progress_tcp(self) -> None:
        """On TCP, acknowledged bytes count as taken, also those that have left the transport; not the ping itself."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        peer = socket.socket()
        self.addCleanup(peer.close)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listening.getsockname())
        ours = listening.accept()[0]
        self.addCleanup(ours.close)
        writer = Writer(TcpTransport(ours, None, self.reactor))
        self.assertFalse(writer.progressed())
        self.assertTrue(writer.delivered)
        ours.sendall(bytes(50_000))  # the kernel takes them, the peer does not
        self.assertEqual((writer.progressed(), writer.delivered), (False, False))
        unread = 50_000
        while unread:
            unread -= len(peer.recv(50_000))
        while not writer.delivered:  # the last acknowledgement may be on its way
            pass
        self.assertEqual([writer.progressed() for _ in range(2)], [True, False])

    def test_progress_in_flight(self) -> None:
        """Bytes on their way do not wait: else each answer of a dead peer's TCP would be a sign of life."""
        #: As in _TCP_INFO: segments on their way, acknowledged bytes, unsent bytes.
        samples = iter([(1, 10, 0), (1, 20, 0), (1, 20, 5), (0, 30, 0), (0, 30, 0)])

        class Socket:
            send = None

            def getsockopt(self, *_: int) -> bytes:
                return _TCP_INFO.pack(*next(samples))

        self.transport.socket = Socket()
        writer = Writer(self.transport)

        self.assertEqual([writer.progressed() for _ in range(4)], [False, False, False, True])
        self.assertTrue(writer.delivered)

    def test_write_tls(self) -> None:
        """With TLS all bytes go through the transport, or they would be sent in the clear."""
        self.transport.TLS = True
        written: list[bytes] = []
        self.transport.write = written.append  # type: ignore[method-assign]
        self.connection.makeConnection(self.transport)

        self.assertEqual((self.connection.writer.send(b"abc"), written), (3, [b"abc"]))

    def test_write_behind_proxy(self) -> None:
        """Behind a PROXY header, too, the socket gets the bytes at once, and the rest waits in the transport below."""
        wrapper = HAProxyProtocolWrapper(mock.Mock(), self.connection)
        wrapper.transport = self.transport
        self.connection.makeConnection(wrapper)
        wrapper.registerProducer(self.connection, True)
        self.connection.write(b"hello")
        self.assertEqual(self.peer.recv(100), b"hello")
        data = bytes(2**21)
        self.connection.write(data)
        self.assertIs(self.connection.unsent, data)

        self.assertEqual(self.read(), data)
        self.assertFalse(self.connection.paused)

    def test_unsent_shared(self) -> None:
        """The waiting bytes of plain TCP are the object that was written, which connections may share."""
        self.connect()
        self.assertEqual(self.connection.unsent, b"")
        self.connection.writer.write_later(data := bytes(10), 3)

        self.assertIs(self.connection.unsent, data)

    def test_unsent_tls(self) -> None:
        """Bytes in the transport below TLS are its own, and count before it pauses at 64 KiB."""
        tls = mock.Mock(transport=self.transport, TLS=True)
        writer, other = Writer(tls), Writer(mock.Mock(spec=["write"]))
        self.transport.write(b"abc")
        self.transport.write(bytes(1000))
        self.assertTrue(writer.writable)
        self.assertEqual(len(writer.unsent), 1003)
        self.assertIs(writer.unsent, writer.unsent)
        self.transport.dataBuffer = bytes(50)
        self.assertEqual((len(writer.unsent), len(other.unsent)), (1053, 0))

    def test_write_without_nodelay(self) -> None:
        """Transports without TCP_NODELAY work, and are written to by ``write``."""
        relay = self.relay()
        connection = relay.factory.buildProtocol(None)
        transport = StringTransport()
        connection.makeConnection(transport)
        connection.write(b"abc")

        self.assertEqual(transport.value(), b"abc")

    def test_write_101(self) -> None:
        """The 101 is followed by frames, in that order."""
        relay = self.relay()
        wire = relay.wire()
        wire.send(request_bytes())
        head, _, rest = wire.received.partition(b"\r\n\r\n")

        self.assertIn(b" 101 ", head)
        self.assertEqual(parse(rest), [])


class OptionsTests(RelayTestCase):
    """Autobahn's options."""

    def test_options_complete(self) -> None:
        """No option of Autobahn has its default: most of those are traps (TRAPS 14-19, 21, 22)."""
        parameters = FactoryBase.setProtocolOptions.__code__.co_varnames[
            1 : FactoryBase.setProtocolOptions.__code__.co_argcount
        ]

        self.assertEqual(set(autobahn_options(Settings())), set(parameters))

    def test_options_on_class(self) -> None:
        """Options of the factory hold for its connections, without a copy in each (TRAPS 7)."""
        relay = self.relay(max_message_bytes=4321, no_compress=True)
        relay.wire()
        [connection] = relay.factory.connections

        self.assertEqual((connection.maxMessagePayloadSize, connection.tcpNoDelay), (4321, True))
        self.assertEqual(set(vars(connection)) & set(WebSocketServerProtocol.CONFIG_ATTRS), set())
        self.assertIsInstance(connection, RelayProtocol)

    def test_options_per_factory(self) -> None:
        """Two relays in one process have their own options."""
        one, other = (self.relay(max_message_bytes=size, no_compress=True) for size in (1, 2))
        one.wire()
        other.wire()

        self.assertEqual([next(iter(r.factory.connections)).maxMessagePayloadSize for r in (one, other)], [1, 2])

    def test_tcp_nodelay(self) -> None:
        """TCP_NODELAY is set, as Autobahn alone would not (TRAPS 1); a real socket: test_interop."""
        relay = self.relay()
        wire = relay.wire()
        asked: list[bool] = []
        wire.transport.setTcpNoDelay = asked.append  # type: ignore[method-assign]
        next(iter(relay.factory.connections)).makeConnection(wire.transport)

        self.assertEqual(asked, [True])

    def test_write_rest_of_frame(self) -> None:
        """A member whose own frame is not taken keeps its position in the log, as with a batch."""
        relay = self.relay()
        client = relay.client()
        client.server.writer = mock.Mock(write=lambda data: False, unsent=b"")
        client.server.write(b"frame")

        self.assertEqual(relay.factory.hub.slow_subscribers, 1)

    def test_resume_pong_waits(self) -> None:
        """A member stays paused if the socket does not take the pong that is due when it resumes."""
        relay = self.relay()
        client = relay.client()
        client.server.pauseProducing()
        with mock.patch.object(type(client.server.phase), "on_writable", side_effect=client.server.pauseProducing):
            client.server.resumeProducing()
        self.assertEqual(relay.factory.hub.slow_subscribers, 1)
        client.server.resumeProducing()

        self.assertEqual(relay.factory.hub.slow_subscribers, 0)
