"""Twisted's TCP transport on a socket in memory, with a bounded send buffer as in the kernel.

:class:`MemorySocket` is the socket, :class:`Peers` the reactor's part for all of them. Unlike
:class:`tests.harness.support.Transport`, this runs the relay's own path to the kernel, with partial writes.
"""

import errno
import itertools
import os
from typing import Any, Final

from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from tests.harness.support import Relay

#: The size of each connection's send buffer, in bytes.
SEND_BUFFER_BYTES: Final = 2000

_NUMBERS = itertools.count(1000)


class MemorySocket:
    """A connected, non-blocking socket.

    Attributes:
        unread: bytes to the relay, not read yet.
        sent: bytes to the peer, not read yet.
        free_bytes: the remaining room in ``sent``.
        ended: the peer has ended its side.
        broken: the peer has vanished.
        closed: the relay has closed the socket.
        shut: the relay has ended its side.
    """

    def __init__(self, free_bytes: int) -> None:
        self.unread = bytearray()
        self.sent = bytearray()
        self.free_bytes = free_bytes
        self.ended = self.broken = self.closed = self.shut = False
        self._number = next(_NUMBERS)

    def send(self, data: bytes) -> int:
        """Take as many bytes as there is room for."""
        if self.broken or self.shut:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not self.free_bytes:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        taken = bytes(data[: self.free_bytes])
        self.sent += taken
        self.free_bytes -= len(taken)
        return len(taken)

    def recv(self, size: int) -> bytes:
        """Return received bytes."""
        if self.broken:
            raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if not self.unread and not self.ended:
            raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken

    def shutdown(self, _how: int) -> None:
        """Send no more."""
        self.shut = True

    def close(self) -> None:
        """Close."""
        self.closed = True

    def fileno(self) -> int:
        """Return a unique number."""
        return self._number

    def setblocking(self, _blocking: bool) -> None:
        """Do nothing: it never blocks."""

    def setsockopt(self, *_option: object) -> None:
        """Do nothing: it has no options."""


class _Port:
    """The listening port, as far as a transport needs it."""

    _realPortNumber = 8080


class Peers:
    """The sockets of one relay.

    Args:
        relay: a relay without other peers.
        free_bytes: the size of each connection's send buffer.
    """

    def __init__(self, relay: Relay, free_bytes: int = SEND_BUFFER_BYTES) -> None:
        self.relay = relay
        self._free_bytes = free_bytes
        self._transports: list[tuple[Server, MemorySocket]] = []

    def connect(self) -> tuple[MemorySocket, Any]:
        """Connect a peer; return its socket and the relay's connection."""
        socket = MemorySocket(self._free_bytes)
        number = len(self._transports)
        address = ("192.0.2.1", 40000 + number)
        connection = self.relay.factory.buildProtocol(None)
        transport: Any = Server(socket, connection, address, _Port(), number, self.relay.clock)  # type: ignore[arg-type]
        connection.makeConnection(transport)
        self._transports.append((transport, socket))
        return socket, connection

    def read(self, socket: MemorySocket) -> None:
        """Let the relay read the bytes of a peer now, before anything scheduled."""
        for transport, candidate in self._transports:
            if candidate is socket and transport in self.relay.clock.readers:
                self._end(transport, transport.doRead())

    def turn(self) -> bool:
        """Let the reactor poll every socket once and run scheduled calls; return whether anything happened."""
        clock = self.relay.clock
        happened = False
        for transport, socket in list(self._transports):
            if transport in clock.readers and (socket.unread or socket.ended or socket.broken):
                happened = True
                self._end(transport, transport.doRead())
            if transport in clock.writers and (socket.free_bytes or socket.broken):
                happened = True
                self._end(transport, transport.doWrite())
        due = any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls())
        clock.advance(0)
        return happened or due

    def settle(self) -> None:
        """Run turns until nothing happens."""
        while self.turn():
            pass

    def _end(self, transport: Server, why: Any) -> None:
        """Act as the reactor after a failed read or write."""
        if why is not None:
            transport.connectionLost(Failure(why))
