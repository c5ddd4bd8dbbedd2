"""Tests of the writes of wsrelay.net.tls: at once to a real socket, in order, with backpressure from the first byte."""

import contextlib  # trial takes a name suppress of the module for its own
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection as TcpTransport
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import make_certificate
from tests.harness.tls import TlsClient
from wsrelay.connection.writer import Writer
from wsrelay.net.accepts import Accepted
from wsrelay.net.endpoints import Endpoint
from wsrelay.net.tls import RECORD_BYTES

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)

#: More than a socketpair takes at once.
MUCH = 2**21


class Inside(Protocol):
    """A connection inside TLS that records what it gets, and when it is paused."""

    def __init__(self) -> None:
        self.received = b""
        self.pauses: list[bool] = []
        self.on_resume: Callable[[], None] = bool
        self.is_lost = False
        self.charged = 0

    @property
    def is_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1]

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def charge_records(self, full: int, empty: int) -> None:
        self.charged += full + empty

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True

    def pauseProducing(self) -> None:
        self.pauses.append(True)

    def resumeProducing(self) -> None:
        self.pauses.append(False)
        self.on_resume()

    def stopProducing(self) -> None:
        pass


class ShortRecords:
    """A session of OpenSSL whose peer has asked for records of 512 bytes (max_fragment_length, RFC 6066 section 4).

    pyOpenSSL, as it sets SSL_MODE_ENABLE_PARTIAL_WRITE, then takes no more of a write. It cannot ask for them itself.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def send(self, data: bytes) -> int:
        return int(self._session.send(data[:512]))


class TlsWriteTestCase(SynchronousTestCase):
    """A TLS connection over Twisted's TCP transport and a socketpair."""

    prefix = "ssl:443"

    def setUp(self) -> None:
        pem = make_certificate(Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.reactor = MemoryReactorClock()
        Endpoint(self.reactor, f"{self.prefix}:privateKey={pem}").listen(Factory.forProtocol(Inside))
        self.begin()

    def begin(self) -> None:
        """Make a new connection."""
        self.tls: Any = self.reactor.tcpServers[0][1].buildProtocol(None)
        self.inside: Any = self.tls.wrappedProtocol
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.peer.setblocking(False)
        self.addCleanup(self.peer.close)
        self.addCleanup(ours.close)
        self.tcp: Any = TcpTransport(ours, self.tls, self.reactor)
        self.tcp.connected = 1

    def connect(self, version: int = SSL.TLS1_3_VERSION) -> TlsClient:
        """Make the handshake, and register the producer."""
        self.tls.makeConnection(self.tcp)
        client = TlsClient(self.exchange, version)
        client.shake_hands()
        self.tls.registerProducer(self.inside, True)
        return client

    def exchange(self, data: bytes) -> bytes:
        """Give ciphertext to the relay; return all that it sends, while its transport writes as the reactor lets it."""
        if data:
            self.tls.dataReceived(data)
        return self.sent(turns=True)

    def sent(self, *, turns: bool = False) -> bytes:
        """Return the ciphertext that the peer has.

        Args:
            turns: whether the transport writes what waits.
        """
        data = b""
        while True:
            for writer in self.reactor.getWriters() if turns else ():
                if writer.doWrite() is not None:
                    self.reactor.removeWriter(writer)
            try:
                more = self.peer.recv(2**20)
            except BlockingIOError:
                return data
            data += more
            if not more:
                return data

    def read(self, client: TlsClient, sealed: bytes | None = None) -> bytes:
        """Decrypt: what is given, else all that the relay sends until nothing waits."""
        sealed = self.exchange(b"") if sealed is None else sealed
        data = []
        for at in range(0, len(sealed), 2**14):
            client.session.bio_write(sealed[at : at + 2**14])
            with contextlib.suppress(SSL.WantReadError):
                while True:
                    data.append(client.session.recv(2**16))
        return b"".join(data)


class WriteTests(TlsWriteTestCase):
    """Writes of an open connection."""

    def test_write_at_once(self) -> None:
        """The socket gets the records without a turn of the reactor, and no write is left to do."""
        for version in VERSIONS:
            client = self.connect(version)
            self.assertEqual([self.tls.send(b"one"), self.tls.send(b""), self.tls.write(b"two")], [3, 0, None])

            self.assertEqual(self.read(client, self.sent()), b"onetwo")
            self.assertEqual((self.reactor.getWriters(), self.inside.pauses), ([], []))
            self.begin()

    def test_write_sizes(self) -> None:
        """Data of any number of records is one write to the socket."""
        client = self.connect()
        for size in (1, RECORD_BYTES, RECORD_BYTES + 1, 2 * RECORD_BYTES, 65536):
            data = bytes([size % 251]) * size
            self.assertEqual(self.tls.send(data), size)
            self.assertEqual(self.read(client, self.sent()), data)

    def test_write_short_records(self) -> None:
        """Nothing is lost or doubled if OpenSSL takes a part of the data, as the peer wants short records."""
        client = self.connect()
        self.sent()
        self.tls._tlsConnection = ShortRecords(self.tls._tlsConnection)
        for size in (512, 513, 5000, RECORD_BYTES, RECORD_BYTES + 1):
            data = bytes(range(251)) * (size // 251) + bytes(size % 251)
            self.assertEqual(self.tls.send(data), size)
            self.assertEqual(self.read(client, self.sent()), data)

    def test_write_makes_no_list(self) -> None:
        """A write that the socket takes leaves the transport without a list of pieces, which would cost memory."""
        self.tcp = Accepted(self.tcp.socket, self.tls, ("127.0.0.1", 1), None, 0, self.reactor)
        client = self.connect()
        self.tls.send(b"data")

        self.assertEqual(self.read(client, self.sent()), b"data")
        self.assertNotIn("_tempDataBuffer", vars(self.tcp))

    def test_write_rest_in_order(self) -> None:
        """What the socket does not take waits; more waits behind it, paused from the first byte to the last."""
        for version in VERSIONS:
            client = self.connect(version)
            expected = b""
            while not self.inside.is_paused:
                expected += (data := bytes([len(expected) % 253]) * 5000)
                self.assertEqual(self.tls.send(data), 5000)
                self.assertEqual(bool(self.tcp.dataBuffer), self.inside.is_paused)
            expected += b"small" + bytes(100_000)
            self.tls.send(b"small")
            self.tls.send(bytes(100_000))

            self.assertEqual(self.read(client), expected)
            self.assertEqual(self.inside.pauses, [True, False])
            self.tls.send(b"again")
            self.assertEqual(self.read(client, self.sent()), b"again")
            self.begin()

    def test_write_on_resume(self) -> None:
        """A producer that writes when it resumes is paused again, if the socket is full."""
        client = self.connect()
        rest = [bytes([number]) * MUCH for number in range(3)]
        expected = b"".join(rest)
        self.inside.on_resume = lambda: rest and self.tls.send(rest.pop(0))
        self.inside.on_resume()

        self.assertEqual(self.read(client), expected)
        self.assertEqual(self.inside.pauses, [True, False] * 3)

    def test_write_full_socket(self) -> None:
        """A full socket takes nothing: all of a record waits."""
        client = self.connect()
        with contextlib.suppress(BlockingIOError):
            while True:
                self.tcp.socket.send(b"\x17\x03\x03")  # any bytes
        self.assertEqual((self.tls.send(b"data"), self.tcp.offset, self.inside.pauses), (4, 0, [True]))
        self.sent()

        self.assertEqual(self.read(client), b"data")

    def test_write_broken_socket(self) -> None:
        """The reactor finds a broken socket, as with any other write."""
        self.connect()
        self.peer.close()
        self.assertEqual(self.tls.send(b"data"), 4)
        [writer] = self.reactor.getWriters()

        self.assertIsInstance(writer.doWrite(), ConnectionLost)

    def test_key_updates_while_paused(self) -> None:
        """Answers to KeyUpdates wait behind the data in front of them; what follows has the new key."""
        client = self.connect()
        first, last = bytes(MUCH), b"last" * 1000
        self.tls.send(first)
        self.tls.dataReceived(client.key_update() + client.key_update(wanted=True) + client.seal(b"in"))
        self.tls.send(last)
        self.tls.dataReceived(client.key_update(wanted=True))
        self.assertEqual((self.inside.received, self.inside.pauses), (b"in", [True]))

        self.assertEqual(self.read(client), first + last)
        self.assertEqual(self.tls.send(b"new"), 3)
        self.assertEqual(self.read(client, self.sent()), b"new")

    def test_key_update_answers(self) -> None:
        """All answers of a read are written, also if they are more than one look at OpenSSL returns."""
        client = self.connect()
        self.tls.dataReceived(b"".join(client.key_update(wanted=True) for _ in range(2000)))
        answers = self.sent()
        self.tls.send(b"data")

        self.assertGreater(len(answers), 2**15)
        self.assertEqual(self.read(client, answers + self.sent()), b"data")

    def test_behind_proxy(self) -> None:
        """A PROXY wrapper inside TLS is passed by."""
        self.prefix = "haproxy:ssl:443"
        self.setUp()
        client = self.connect()
        self.inside.wrappedProtocol.makeConnection(self.inside)
        writer = Writer(self.inside)
        self.assertEqual(writer.send(b"data"), 4)

        self.assertEqual(self.read(client, self.sent()), b"data")

    def test_unsent(self) -> None:
        """Waiting ciphertext counts for its own connection; without any, nothing does."""
        self.connect()
        writer = Writer(self.tls)
        self.assertEqual(len(writer.unsent), 0)
        writer.send(bytes(MUCH))

        self.assertGreater(len(writer.unsent), MUCH)


class HandshakeTests(TlsWriteTestCase):
    """Writes before the end of the handshake."""

    def test_write_before_handshake(self) -> None:
        """What is written within the handshake follows it, and pauses the producer until it is written."""
        for version in VERSIONS:
            self.tls.makeConnection(self.tcp)
            self.tls.registerProducer(self.inside, True)
            self.tls.send(bytes(MUCH))
            self.tls.send(b"more")
            self.assertTrue(self.inside.is_paused)
            client = TlsClient(self.exchange, version)
            client.give(client.flight())
            self.tls.dataReceived(client.flight())
            self.assertEqual((self.inside.is_paused, bool(self.tcp.dataBuffer)), (True, True))

            self.assertEqual(self.read(client), bytes(MUCH) + b"more")
            self.assertFalse(self.inside.is_paused)
            self.begin()

    def test_producer_behind_waiting_bytes(self) -> None:
        """A producer that is registered while bytes wait is paused, and resumed when they are written."""
        client = self.connect()
        self.tls.unregisterProducer()
        self.tls.send(bytes(MUCH))
        self.assertEqual(self.inside.pauses, [])
        self.tls.registerProducer(self.inside, True)
        self.assertEqual(self.inside.pauses, [True])

        self.assertEqual(self.read(client), bytes(MUCH))
        self.assertEqual(self.inside.pauses, [True, False])

    def test_handshake_at_once(self) -> None:
        """The handshake needs no turn of the reactor."""
        self.tls.makeConnection(self.tcp)

        def exchange(data: bytes) -> bytes:
            self.tls.dataReceived(data)
            return self.sent()

        TlsClient(exchange).shake_hands()
        self.assertTrue(self.tls._handshakeDone)


class EndTests(TlsWriteTestCase):
    """Ends while ciphertext waits."""

    def test_close_notify_last(self) -> None:
        """close_notify follows all data, and TCP ends when the peer has answered it."""
        for version in VERSIONS:
            client = self.connect(version)
            self.tls.send(bytes(MUCH))
            self.tls.unregisterProducer()
            self.tls.loseConnection()
            self.tls.write(b"late")
            self.assertEqual(self.tls.send(b"late"), 4)
            with self.assertRaises(SSL.ZeroReturnError):
                self.assertEqual(self.read(client), bytes(MUCH))
                client.session.recv(1)
            self.assertFalse(self.tcp.disconnecting)
            client.session.shutdown()
            self.tls.dataReceived(client.pending())
            self.assertTrue(self.tcp.disconnecting)
            self.begin()

    def test_peer_ends_while_paused(self) -> None:
        """The peer's close_notify ends TCP behind the waiting bytes, although the producer is paused."""
        client = self.connect()
        self.tls.send(bytes(MUCH))
        client.session.shutdown()
        self.tls.dataReceived(client.pending())
        self.assertEqual((self.tcp.disconnecting, self.inside.pauses), (True, [True]))
        size, ends = 0, []
        while not ends:
            ends = [end for writer in self.reactor.getWriters() if (end := writer.doWrite()) is not None]
            with contextlib.suppress(BlockingIOError):
                size += len(self.peer.recv(2**22))

        self.assertEqual((self.tls.send(b"late"), self.inside.pauses), (4, [True]))
        self.assertGreater(size, MUCH)

    def test_abort(self) -> None:
        """An abort sends nothing more, and drops what waits."""
        for size in (4, MUCH):
            client = self.connect()
            self.tls.send(bytes(size))
            self.tls.abortConnection()
            taken = self.sent()

            self.assertEqual(self.reactor.getWriters(), [])
            self.assertEqual(self.read(client, taken).strip(b"\0"), b"")
            self.assertRaises(SSL.WantReadError, client.session.recv, 1)  # no close_notify
            self.begin()

    def test_broken_record_while_paused(self) -> None:
        """The alert about a broken record follows all data."""
        client = self.connect()
        self.tls.send(bytes(MUCH))
        self.tls.dataReceived(b"\x17\x03\x03\x00\x20" + bytes(32))

        with self.assertRaisesRegex(SSL.Error, "bad record mac"):
            self.read(client)
        self.assertTrue(self.tcp.disconnecting)

    def test_write_after_end(self) -> None:
        """After the end of TCP nothing is written, and nothing raised."""
        self.connect()
        self.tcp.connectionLost(Failure(ConnectionLost()))
        self.tls.send(b"late")
        self.tls.send(bytes(MUCH))
        self.tls.write(b"late")

        self.assertEqual((self.inside.is_lost, self.sent()), (True, b""))

    def test_write_not_bytes(self) -> None:
        """A write that raises leaves the connection usable."""
        client = self.connect()
        self.assertRaises(TypeError, self.tls.write, 5)
        self.tls.send(b"data")

        self.assertEqual(self.read(client, self.sent()), b"data")


class ReadTests(TlsWriteTestCase):
    """What a read asks OpenSSL for."""

    def test_no_needless_calls(self) -> None:
        """Whole records with data are one ``recv`` each; only behind others is OpenSSL asked for more, and answers."""
        client = self.connect()
        self.sent()
        for records, calls in (
            (client.seal(b"data"), ["recv"]),
            (client.seal(b"a") + client.seal(b"b"), ["recv"] * 2),
            (client.seal(b"ab")[:-1], ["recv", "bio_read"]),
        ):
            session, called = self.tls._tlsConnection, []

            class Watched:
                def __getattr__(self, name: str, session: Any = session, called: list[str] = called) -> Any:
                    called.append(name)
                    return getattr(session, name)

            self.tls._tlsConnection = Watched()
            self.tls.dataReceived(records)
            self.tls._tlsConnection = session
            self.assertEqual([name for name in called if name != "bio_write"], calls)
