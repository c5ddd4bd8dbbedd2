"""Tests of wsrelay.net.tls: which records are charged, with a real TLS client in memory."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.live import make_certificate
from tests.harness.tls import ALERT, DUMMY, HANDSHAKE, TlsClient
from wsrelay.http.responses import SAFE_FIELDS
from wsrelay.net.endpoints import Endpoint
from wsrelay.net.tls import FREE_RECORDS, LARGE_READ_BYTES, SMALL_READ_BYTES, TINY_READ_BYTES, Records

#: Deprecated pyOpenSSL functions that Twisted calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*You should use.*cryptography:DeprecationWarning")

RECORDS = st.lists(st.integers(0, 700), max_size=20)


class RecordsTests(SynchronousTestCase):
    """Counting of records."""

    @given(RECORDS, st.lists(st.integers(1, 900), min_size=1, max_size=9))
    def test_any_cut(self, lengths: list[int], cuts: list[int]) -> None:
        """A record counts in the read with its last byte, wherever the stream is cut."""
        stream, ends = b"", []
        for length in lengths:
            stream += b"\x17\x03\x03" + length.to_bytes(2) + bytes(length)
            ends.append(len(stream))
        records, at = Records(), 0
        while at < len(stream):
            for cut in cuts:
                expected = sum(at < end <= at + cut for end in ends)
                self.assertEqual(records.ended_in(stream[at : at + cut]), expected)
                at += cut


class Inside(Protocol):
    """A connection inside TLS that records what it gets."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.charged: list[tuple[int, int]] = []
        self.refused = 0
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)
        if data == b"abort":
            self.transport.abortConnection()

    def charge_records(self, full: int, empty: int) -> None:
        self.charged.append((full, empty))

    def refused_plain_http(self) -> None:
        self.refused += 1

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Sized(StringTransport):
    """A transport with the size of reads."""

    bufferSize = LARGE_READ_BYTES


class TlsTestCase(SynchronousTestCase):
    """A TLS connection in memory."""

    prefix = "ssl:443"

    def setUp(self) -> None:
        pem = make_certificate(Path(self.enterContext(tempfile.TemporaryDirectory())))
        clock = MemoryReactorClock()
        Endpoint(clock, f"{self.prefix}:privateKey={pem}").listen(Factory.forProtocol(Inside))
        self.connection: Any = clock.tcpServers[0][1].buildProtocol(None)
        self.inside: Any = self.connection.wrappedProtocol
        self.transport = Sized()

    def connect(self, version: int = SSL.TLS1_3_VERSION) -> TlsClient:
        """Make the handshake."""
        self.connection.makeConnection(self.transport)
        client = TlsClient(self.exchange, version)
        client.shake_hands()
        return client

    def exchange(self, data: bytes) -> bytes:
        """Give ciphertext to the relay; return its answer."""
        if data:
            self.connection.dataReceived(data)
        answer = self.transport.value()
        self.transport.clear()
        return answer


class ChargeTests(TlsTestCase):
    """What is charged."""

    def test_one_record_a_read(self) -> None:
        """The first record of a read with application data is free: its frames count already."""
        client = self.connect()
        for number in range(3 * FREE_RECORDS):
            client.give(client.seal(b"%d" % number))

        self.assertEqual((len(self.inside.received), self.inside.charged), (3 * FREE_RECORDS, []))

    def test_one_delivery_a_read(self) -> None:
        """The application data of a read is delivered in one piece; records beyond the first are charged."""
        client = self.connect()
        client.give(b"".join(client.seal(b"%d" % number) for number in range(9)))

        self.assertEqual((self.inside.received, self.inside.charged), ([b"012345678"], [(8, 0)]))

    def test_cut_record(self) -> None:
        """A record in many reads is none without data."""
        client = self.connect()
        for byte in client.seal(bytes(2 * FREE_RECORDS)):
            client.give(bytes([byte]))

        self.assertEqual((self.inside.received, self.inside.charged), ([bytes(2 * FREE_RECORDS)], []))

    def test_key_updates(self) -> None:
        """KeyUpdates beyond the free records are charged, and data behind them is delivered."""
        for wanted in (False, True):
            client = self.connect()
            client.give(b"".join(client.key_update(wanted=wanted) for _ in range(FREE_RECORDS - 10)))
            self.assertEqual(self.inside.charged, [])
            client.give(b"".join(client.key_update(wanted=wanted) for _ in range(20)) + client.seal(b"data"))
            # The handshake had three.
            self.assertEqual((self.inside.charged, self.inside.received), ([(0, 13)], [b"data"]))
            self.setUp()

    def test_empty_records(self) -> None:
        """Empty records, padded or not, and warnings are charged; OpenSSL ends a connection with too many in a row."""
        for content, kind, padding in ((b"", 23, 0), (b"", 23, 500), (b"\x01\x5a", ALERT, 0)):
            client = self.connect()
            for _ in range(FREE_RECORDS):
                client.give(client.seal(content, kind, padding) + client.seal(b"x"))
            self.assertEqual(len(self.inside.received), FREE_RECORDS)
            self.assertEqual(sum(empty for _, empty in self.inside.charged), 3)
            client.give(b"".join(client.seal(content, kind, padding) for _ in range(FREE_RECORDS)))
            self.assertTrue(self.transport.disconnecting)
            self.setUp()

    def test_dummy_records(self) -> None:
        """change_cipher_spec records within the handshake are empty ones; OpenSSL takes a few, and none behind it."""
        self.connection.makeConnection(self.transport)
        client = TlsClient(self.exchange)
        client.give(client.flight())
        client.give(DUMMY * 20 + client.flight() + client.seal(b"data"))
        self.assertEqual((self.inside.received, self.connection._free_records), ([b"data"], FREE_RECORDS - 23))
        client.give(DUMMY)
        self.assertTrue(self.transport.disconnecting)

    def test_handshake_in_tiny_records(self) -> None:
        """A ClientHello in records of one byte is charged."""
        self.connection.makeConnection(self.transport)
        client = TlsClient(self.exchange)
        hello = client.flight()[5:]
        client.give(b"".join(b"\x16\x03\x01\0\x01" + bytes([byte]) for byte in hello))

        self.assertEqual(self.inside.charged, [(0, len(hello) - FREE_RECORDS)])

    def test_renegotiation(self) -> None:
        """OpenSSL refuses to negotiate TLS 1.2 again; the attempt is an empty record."""
        client = self.connect(SSL.TLS1_2_VERSION)
        client.session.renegotiate()
        client.give(client.flight())
        error = self.assertRaises(SSL.Error, client.flight)

        self.assertIn("no renegotiation", str(error))
        self.assertEqual(self.connection._free_records, FREE_RECORDS - 5)

    def test_behind_proxy(self) -> None:
        """The connection inside a PROXY wrapper is charged."""
        self.prefix = "haproxy:ssl:443"
        self.setUp()
        inside = self.inside.wrappedProtocol
        client = self.connect()
        client.give(client.seal(b"PROXY UNKNOWN\r\n") + client.seal(b"data"))

        self.assertEqual((inside.received, inside.charged), ([b"data"], [(1, 0)]))

    def test_lost_meanwhile(self) -> None:
        """A connection that has ended within the delivery is not charged."""
        client = self.connect()
        records = client.seal(b"abo") + client.seal(b"rt")
        self.transport.abortConnection = lambda: self.connection.connectionLost(None)
        self.connection._flushSendBIO = lambda: None  # Twisted's needs the session, which is gone
        inside = self.inside
        client.give(records)

        self.assertEqual((inside.received, inside.charged), ([b"abort"], []))


class EndTests(TlsTestCase):
    """Ends, as in Twisted's class."""

    def test_close_notify(self) -> None:
        """Data in front of close_notify is delivered, then TCP ends."""
        client = self.connect()
        client.give(client.seal(b"data") + client.seal(b"\x01\0", ALERT))

        self.assertEqual((self.inside.received, self.transport.disconnecting), ([b"data"], True))
        self.connection.dataReceived(b"late")
        self.assertEqual(self.inside.received, [b"data"])

    def test_plain_http(self) -> None:
        """Plain HTTP is answered in plain text with what to use, and reported; not behind a handshake."""
        for request in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /x HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n"):
            self.setUp()
            self.connection.makeConnection(self.transport)
            answer = self.exchange(request)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer)
            self.assertTrue(answer.endswith(b"\r\n\r\nthis endpoint speaks TLS: use wss:// or https://\n"))
            for field in SAFE_FIELDS:
                self.assertIn(f"\r\n{': '.join(field)}\r\n".encode(), answer)
            self.assertEqual((self.inside.refused, self.transport.disconnecting), (1, True))
        self.setUp()
        self.connection.makeConnection(self.transport)
        self.assertTrue(self.exchange(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"Connection: close\r\n\r\n"))
        self.setUp()
        self.connect()
        self.assertNotIn(b"HTTP", self.exchange(b"GET / HTTP/1.1\r\n\r\n"))
        self.assertEqual(self.inside.refused, 0)

    def test_broken_record(self) -> None:
        """Data in front of a record that cannot be decrypted is delivered, then TCP ends; the reason is OpenSSL's."""
        client = self.connect()
        client.give(client.seal(b"data") + client.seal(b"", HANDSHAKE))
        self.connection.connectionLost(None)

        self.assertEqual((self.inside.received, self.transport.disconnecting), ([b"data"], True))
        self.assertTrue(self.inside.lost.check(SSL.Error), self.inside.lost)

    def test_tcp_ends(self) -> None:
        """The end of TCP without close_notify is an end."""
        self.connect()
        reason = object()
        inside = self.inside
        self.connection.connectionLost(reason)

        self.assertIsNotNone(inside.lost)

    def test_aborted(self) -> None:
        """Nothing is delivered after an abort."""
        client = self.connect()
        client.give(client.seal(b"abort"))
        client.give(client.seal(b"late"))

        self.assertEqual(self.inside.received, [b"abort"])


class ReadTests(TlsTestCase):
    """The size of reads."""

    def test_read_bytes(self) -> None:
        """Reads are small at first and for small records, large for large records, tiny behind many empty records."""
        client = self.connect()
        first = client.seal(b"first")
        small = b"".join(client.seal(b"x" * 100) for _ in range(50))
        large = b"".join(client.seal(bytes(16000)) for _ in range(4))
        for data, size in (  # sealed in this order
            (first, SMALL_READ_BYTES),
            (small[:SMALL_READ_BYTES], SMALL_READ_BYTES),
            (small[SMALL_READ_BYTES:] + large, LARGE_READ_BYTES),
            (client.seal(b"short"), LARGE_READ_BYTES),
            (b"".join(client.seal(b"x" * 100) for _ in range(500)), SMALL_READ_BYTES),
            (b"".join(client.key_update() for _ in range(FREE_RECORDS)), TINY_READ_BYTES),
            (b"".join(client.seal(b"x" * 100) for _ in range(10)), TINY_READ_BYTES),
            (client.seal(bytes(600)), LARGE_READ_BYTES),
        ):
            client.give(data)
            self.assertEqual(self.transport.bufferSize, size)
