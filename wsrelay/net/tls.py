"""TLS connections whose records count: a record costs processor time even if it carries no application data.

A TLS 1.3 KeyUpdate of 27 bytes takes OpenSSL 8 to 16 µs, and no byte of it reaches the connection, whose rate limits
would not see it (TRAPS 120). Must not live here: certificates and listening (:mod:`wsrelay.net.endpoints`), what the
records are charged to (the connection).
"""

from struct import Struct
from typing import Final, Protocol, cast

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import ITransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

__all__ = ["FREE_RECORDS", "Charged", "Records", "TlsConnection"]

#: Records without application data that a connection may send at no charge: a handshake with a chain of certificates
#: has a dozen.
FREE_RECORDS: Final = 64

#: The bytes of a read, at first and while records are small: 75 KeyUpdates are 1.2 ms of one reactor turn.
SMALL_READ_BYTES: Final = 2048

#: The bytes of a read behind records that were charged as empty.
TINY_READ_BYTES: Final = 512

#: The bytes of a read while records are large; Twisted's default.
LARGE_READ_BYTES: Final = 65536

#: Records are large from this many bytes on average.
LARGE_RECORD_BYTES: Final = 512

#: The most bytes that OpenSSL returns at once; it never returns more than a record, of 16 KiB at most.
_RECEIVED_BYTES: Final = 2**15

#: Type, version and length. Source: RFC 8446 section 5.1.
_HEADER_BYTES: Final = 5
_LENGTH: Final = Struct(">3xH").unpack_from


class Charged(Protocol):
    """The connection inside TLS."""

    def charge_records(self, full: int, empty: int) -> None:
        """Records have cost more than what was delivered.

        Args:
            full: records with application data beyond the first of a read, if they are small.
            empty: records without, beyond the first :data:`FREE_RECORDS`.
        """


class _Tcp(Protocol):
    """Twisted's TCP transport."""

    bufferSize: int


class Records:
    """Counts records in a stream of bytes, by their headers. Pure."""

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        #: The begun header of the next record.
        self._head = b""
        #: Bytes until the end of the current record.
        self._missing = 0

    def ended_in(self, data: bytes) -> int:
        """Return the number of records whose last byte is in the next bytes of the stream.

        Complexity:
            A step for each record.
        """
        if self._head:
            data = self._head + data
        size, at = len(data), self._missing
        ended = int(0 < at <= size)
        while at + _HEADER_BYTES <= size:
            at += _HEADER_BYTES + _LENGTH(data, at)[0]
            ended += at <= size
        self._missing = max(0, at - size)
        self._head = data[at:]
        return ended


class TlsConnection(BufferingTLSTransport):
    """Twisted's TLS connection, which charges its records, and delivers the data of one read in one piece.

    It replaces Twisted's class in the factories that listen; see :class:`wsrelay.net.sockets.Listener`.
    """

    def makeConnection(self, transport: ITransport) -> None:
        """TCP has begun."""
        self._records = Records()
        self._free_records = FREE_RECORDS
        self._full_records = 0
        self._read_bytes = SMALL_READ_BYTES
        cast("_Tcp", transport).bufferSize = SMALL_READ_BYTES
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Decrypt and deliver a read, then charge its records."""
        ended = self._records.ended_in(data)
        are_small = ended * LARGE_RECORD_BYTES > len(data)
        if len(data) >= min(self._read_bytes, SMALL_READ_BYTES):
            self._read_next(min(self._read_bytes, SMALL_READ_BYTES) if are_small else LARGE_READ_BYTES)
        self._full_records = 0
        super().dataReceived(data)
        full = self._full_records
        if ended > full or (are_small and full > 1):
            self._charge(full - 1, ended - full)

    def _read_next(self, size_bytes: int) -> None:
        """Set the most bytes of the next read, so that a read of tiny records does not take tens of milliseconds."""
        if size_bytes != self._read_bytes:
            self._read_bytes = size_bytes
            cast("_Tcp", self.transport).bufferSize = size_bytes

    def _charge(self, more: int, empty: int) -> None:
        """Charge the records of a read to the connection inside, unless it has ended."""
        beyond = max(0, empty - self._free_records)
        self._free_records -= empty - beyond
        if beyond:
            self._read_next(TINY_READ_BYTES)
        inside = self.wrappedProtocol
        while isinstance(inside, ProtocolWrapper):  # haproxy:
            inside = inside.wrappedProtocol
        if (more > 0 or beyond) and inside is not None:
            cast("Charged", inside).charge_records(max(0, more), beyond)

    def _flushReceiveBIO(self) -> None:
        """Deliver what OpenSSL decrypts. As Twisted's, but joined: a delivery costs more than a record."""
        received: list[bytes] = []
        end: Error | None = None
        while end is None and not self._lostTLSConnection:
            try:
                received.append(self._tlsConnection.recv(_RECEIVED_BYTES))
            except Error as error:
                end = error
        self._full_records = len(received)
        if received and not self._aborted:
            self.wrappedProtocol.dataReceived(b"".join(received))
        if not self._lostTLSConnection and not isinstance(end, WantReadError):
            self._end(end)
        self._flushSendBIO()

    def _end(self, error: Error | None) -> None:
        """End TCP: the peer has ended TLS (``ZeroReturnError``), or broken it."""
        if isinstance(error, ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            self._tlsShutdownFinished(Failure(error))
