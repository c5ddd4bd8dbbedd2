"""TLS connections that write at once, and whose received records count.

Twisted's aggregation of small writes, its queue and another turn of the reactor cost 20 µs a write (TRAPS 132). And a
TLS 1.3 KeyUpdate of 27 bytes takes OpenSSL 8 to 16 µs, while no byte of it reaches the connection, whose rate limits
would not see it (TRAPS 120). Must not live here: certificates and listening (:mod:`wsrelay.net.endpoints`), what the
records are charged to (the connection).
"""

from struct import Struct
from typing import Final, Protocol, cast

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IPushProducer, ITransport
from twisted.internet.tcp import Connection as TcpTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

__all__ = ["FREE_RECORDS", "PLAIN_HTTP", "Charged", "Records", "TlsConnection"]

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

#: The most application data of a record. Source: RFC 8446 section 5.1.
RECORD_BYTES: Final = 2**14

#: The ciphertext read from OpenSSL at once: more than a record, and the answer to a KeyUpdate in front of it.
_SEALED_BYTES: Final = 2**15

#: The state of :attr:`TlsConnection._expected` in which OpenSSL is asked until it has no more.
_UNKNOWN: Final = -1

#: Type, version and length. Source: RFC 8446 section 5.1.
_HEADER_BYTES: Final = 5
_LENGTH: Final = Struct(">3xH").unpack_from


#: What plain HTTP on a TLS endpoint is told.
PLAIN_HTTP: Final = "this endpoint speaks TLS: use wss:// or https://"

#: Its response, with the fields that all refusals have (wsrelay.http.responses); HEAD gets no content.
_PLAIN_HEAD: Final = (
    "HTTP/1.1 400 Bad Request\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    f"Content-Length: {len(PLAIN_HTTP) + 1}\r\nConnection: close\r\n\r\n"
).encode()
_PLAIN_RESPONSE: Final = _PLAIN_HEAD + f"{PLAIN_HTTP}\n".encode()


class Charged(Protocol):
    """The connection inside TLS."""

    def refused_plain_http(self) -> None:
        """The peer has sent plain HTTP where TLS begins, and was told :data:`PLAIN_HTTP`; TCP ends."""

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

    @property
    def is_between(self) -> bool:
        """Whether the stream has ended with a record so far."""
        return not (self._missing or self._head)

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


class TlsConnection(TLSMemoryBIOProtocol):
    """Twisted's TLS connection, which writes at once, delivers a read in one piece, and charges its records.

    All ciphertext takes one way, :meth:`_give`: application data, answers to KeyUpdates, session tickets and alerts.
    While any of it waits in the TCP transport, more waits behind it, and the producer is paused.

    It replaces Twisted's class in the factories that listen; see :class:`wsrelay.net.sockets.Listener`.
    """

    def makeConnection(self, transport: ITransport) -> None:
        """TCP has begun."""
        #: ``None``: another transport, which gets all ciphertext by ``write``, and pauses the producer itself.
        self._tcp = transport if isinstance(transport, TcpTransport) else None
        #: Ciphertext that :meth:`write` collects.
        self._collected: list[bytes] | None = None
        self._records = Records()
        self._free_records = FREE_RECORDS
        self._full_records = 0
        #: The most records with application data in the current read, if OpenSSL has nothing behind them.
        self._expected = _UNKNOWN
        self._read_bytes = SMALL_READ_BYTES
        #: Whether plain HTTP has come, and asks for no content.
        self._is_head = False
        cast("_Tcp", transport).bufferSize = SMALL_READ_BYTES
        super().makeConnection(transport)

    # --- writing ------------------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Encrypt, and write to the socket at once. As a socket's ``send``, but it never raises and takes all.

        Args:
            data: plaintext. If bytes wait in the transport, its ciphertext waits behind them.

        Returns:
            ``len(data)``, as encrypted bytes must not be encrypted again. If the socket does not take all ciphertext,
            the rest waits in the TCP transport, and the producer is paused before this returns.
        """
        size = len(data)
        if 0 < size <= RECORD_BYTES and not (self._appSendBuffer or self._lostTLSConnection):
            try:
                sent = self._tlsConnection.send(data)
            except Error:  # within a handshake, or at its end: as Twisted does
                sent = 0
            if sent == size:
                self._flushSendBIO()
                return size
            data = data[sent:]  # less, if the peer has asked for short records (RFC 6066 section 4)
        self.write(data)
        return size

    def write(self, data: bytes) -> None:
        """Encrypt in records of 16 KiB at most, and write them to the socket in one piece."""
        collected: list[bytes] = []
        self._collected = collected
        try:
            super().write(data)
        finally:
            self._collected = None
        if collected:
            self._give(b"".join(collected))

    def _unbufferPendingWrites(self) -> None:
        """Encrypt what waited for a handshake; Twisted then resumes the producer, whatever waits below."""
        super()._unbufferPendingWrites()
        self._pause_waiting()

    def _flushSendBIO(self) -> None:
        """Write all that OpenSSL has encrypted; after an abort, nothing."""
        sealed_bytes = 0 if self._aborted else _SEALED_BYTES
        while sealed_bytes == _SEALED_BYTES:
            try:
                sealed = self._tlsConnection.bio_read(_SEALED_BYTES)
            except WantReadError:
                return
            sealed_bytes = len(sealed)
            if self._collected is None:
                self._give(sealed)
            else:
                self._collected.append(sealed)

    def _give(self, sealed: bytes) -> None:
        """Write ciphertext at once, or behind waiting bytes."""
        tcp = self._tcp
        if tcp is None or _waits(tcp) or not tcp.connected:
            cast("ITransport", self.transport).write(sealed)
            return
        try:
            sent = tcp.socket.send(sealed)
        except OSError:  # BlockingIOError; any other one ends the transport at its next write
            sent = 0
        if sent != len(sealed):
            # The same state as after a partial doWrite; see wsrelay.connection.writer.Writer.write_later.
            tcp.dataBuffer, tcp.offset, tcp.producerPaused = sealed, sent, True
            tcp.startWriting()
            self._pause_waiting()

    def _pause_waiting(self) -> None:
        """Pause the producer while ciphertext waits; no effect without one, or if it is paused."""
        if self._producer is not None and self._tcp is not None and _waits(self._tcp):
            cast("IPushProducer", self._producer).pauseProducing()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Register the producer; it is paused if ciphertext waits already."""
        super().registerProducer(producer, streaming)
        self._pause_waiting()

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        """Answer plain HTTP; end TCP behind waiting ciphertext.

        With a paused producer, Twisted would resume it instead (TRAPS 133).
        """
        inside = self._inside()
        if reason is not None and _is_plain_http(reason.value) and inside is not None:
            inside.refused_plain_http()
            self._give(_PLAIN_HEAD if self._is_head else _PLAIN_RESPONSE)
        super()._tlsShutdownFinished(reason)
        self.unregisterProducer()

    # --- reading ------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Decrypt and deliver a read, then charge its records."""
        ended = self._records.ended_in(data)
        are_small = ended * LARGE_RECORD_BYTES > len(data)
        if len(data) >= min(self._read_bytes, SMALL_READ_BYTES):
            self._read_next(min(self._read_bytes, SMALL_READ_BYTES) if are_small else LARGE_READ_BYTES)
        self._full_records = 0
        if not self._handshakeDone:
            self._is_head = data.startswith(b"HEAD ")
        self._expected = ended if self._records.is_between else _UNKNOWN
        super().dataReceived(data)
        self._expected = _UNKNOWN
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
        inside = self._inside()
        beyond = max(0, empty - self._free_records)
        self._free_records -= empty - beyond
        if beyond:
            self._read_next(TINY_READ_BYTES)
        if (more > 0 or beyond) and inside is not None:
            inside.charge_records(max(0, more), beyond)

    def _inside(self) -> Charged | None:
        """Return the connection inside; ``None`` once it has ended."""
        inside = self.wrappedProtocol
        while isinstance(inside, ProtocolWrapper):  # haproxy:
            inside = inside.wrappedProtocol
        return cast("Charged | None", inside)

    def _flushReceiveBIO(self) -> None:
        """Deliver what OpenSSL decrypts. As Twisted's, but joined: a delivery costs more than a record.

        If each record of a read had application data, OpenSSL has no more, and no answer: it is not asked, as each of
        its exceptions costs 1.5 µs.
        """
        received: list[bytes] = []
        end: Error | None = None
        while end is None and not self._lostTLSConnection and len(received) != self._expected:
            try:
                received.append(self._tlsConnection.recv(_RECEIVED_BYTES))
            except Error as error:
                end = error
        self._full_records = len(received)
        if received and not self._aborted:
            self.wrappedProtocol.dataReceived(received[0] if len(received) == 1 else b"".join(received))
        if end is None and not self._lostTLSConnection:
            return
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


def _is_plain_http(error: BaseException | None) -> bool:
    """Return whether the first bytes were those of an HTTP request instead of TLS; OpenSSL looks."""
    return isinstance(error, Error) and any("http" in str(problem) for problem in error.args)


def _waits(tcp: TcpTransport) -> bool:
    """Return whether bytes wait in a TCP transport."""
    return bool(tcp.dataBuffer or tcp._tempDataLen)  # _tempDataBuffer would be made by a look at it
