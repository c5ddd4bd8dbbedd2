"""Writer: writes to the transport, and knows whether bytes wait there (backpressure).

Must not live here: rooms, frames, connections. It uses a Twisted transport only.
"""

import socket
import struct
from collections.abc import Sized
from enum import IntEnum
from functools import partial
from types import MethodType
from typing import Any, Final, cast

from twisted.internet.tcp import Connection as TcpTransport
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper

from wsrelay.interfaces import Send
from wsrelay.net.tls import TlsConnection

__all__ = ["Unsent", "Writable", "Writer"]

#: Bytes that wait in a transport: their number, and an identity, because connections may share them.
Unsent = Sized

_NOTHING: Final = b""

#: The types of a ``send`` whose bytes wait as a copy for this connection: in a TLS connection, in another transport.
_COPYING: Final = (MethodType, partial)

#: The part of Linux's struct tcp_info that is read here: tcpi_unacked, tcpi_bytes_acked, tcpi_notsent_bytes
#: (linux/tcp.h, since 4.6).
_TCP_INFO: Final = struct.Struct("=24xI92xQ16xI")


class Writable(IntEnum):
    """Whether a connection takes bytes."""

    #: Bytes wait in the transport.
    NO = 0
    #: None have waited since the last call of :meth:`Writer.progressed`.
    YES = 1
    #: None wait now; some have, here or in the kernel, at that call or since.
    AGAIN = 2


class Writer:
    """Writes to the socket at once, as far as it takes the bytes.

    ``transport.write`` only queues: with two ``epoll_ctl`` and another turn of the reactor it costs 19 µs instead of 6
    (TRAPS 2). While :attr:`writable` is true, no bytes wait in the transport, so that no frame overtakes another.

    Args:
        transport: a connected Twisted transport. TCP and TLS are written to at once, also behind a PROXY header; any
            other one by its ``write``.

    Attributes:
        send: writes bytes and returns the number of bytes taken. See :class:`wsrelay.interfaces.Subscriber`. That of
            TLS takes all, and pauses the connection before it returns if any ciphertext waits.
        writable: whether no bytes wait in the transport, and ``send`` may be called; one of :class:`Writable`. A plain
            integer, for speed.
        place: up to where the peer had taken the bytes at the last call of :meth:`progressed`; compare it only.
    """

    __slots__ = ("_transport", "place", "send", "writable")

    def __init__(self, transport: Any) -> None:  # no interface has a transport's socket and buffer
        if isinstance(transport, HAProxyProtocolWrapper):
            transport = transport.transport
        self._transport = transport
        self.place = 0
        self.writable = int(Writable.YES)
        # Not hasattr: the wrappers of TLS and PROXY pass on all attributes of the TCP transport (TRAPS 64).
        direct = isinstance(transport, TcpTransport) and not transport.TLS
        if direct or isinstance(transport, TlsConnection):
            self.send: Send = transport.socket.send if direct else transport.send
        else:
            self.send = partial(_write_all, transport)

    def __len__(self) -> int:
        """Return the number of bytes in a transport that takes all writes, or below it."""
        transport = getattr(self._transport, "transport", self._transport)  # the wrapper passes attributes on slowly
        return len(getattr(transport, "dataBuffer", _NOTHING)) + int(getattr(transport, "_tempDataLen", 0))

    def write(self, data: bytes) -> bool:
        """Write, behind waiting bytes.

        Returns:
            Whether ``writable`` is unchanged; ``False``: a rest of ``data`` has begun to wait.
        """
        if not self.writable:
            self._transport.write(data)
            return True
        try:
            sent = self.send(data)
        except OSError:  # BlockingIOError; any other one ends the transport at its next write
            sent = 0
        if sent == len(data):
            return True
        self.write_later(data, sent)
        return False

    def write_later(self, data: bytes, sent: int) -> None:
        """Write the rest that ``send`` did not take, without a copy: all slow subscribers share the bytes of a batch.

        Args:
            data: the bytes passed to ``send``; no others wait.
            sent: the number of bytes taken.
        """
        self.pause()
        if self._transport.connected:
            # The same state as after a partial doWrite; write would copy the rest.
            self._transport.dataBuffer, self._transport.offset = data, sent
            # A transport calls resumeProducing only after pauseProducing, which it calls at 64 KiB (TRAPS 65).
            self._transport.producerPaused = True
            self._transport.startWriting()

    def pause(self) -> None:
        """Bytes have begun to wait in the transport."""
        self.writable = int(Writable.NO)

    def resume(self) -> None:
        """No bytes wait any more."""
        if not self.writable:
            self.writable = int(Writable.AGAIN)

    def progressed(self) -> bool:
        """Whether the peer has taken bytes since the last call that had to wait, here or in the kernel.

        Such a peer is slow, but alive: its answer may stand behind these bytes. Not so a peer that took all at once:
        bytes on their way do not wait, or the TCP of a peer that has died would pass for it until its buffer is full.

        Complexity:
            One system call.
        """
        info, was_waiting, place = self._tcp_info(), self.writable != Writable.YES, self.place
        self.place, unsent_bytes = info[:2] if info else (len(self.unsent) - getattr(self._transport, "offset", 0), 0)
        if self.writable:
            self.writable = int(Writable.AGAIN if unsent_bytes else Writable.YES)
        return was_waiting and (self.place != place or (info is None and self.writable != Writable.NO))

    @property
    def delivered(self) -> bool | None:
        """Whether the peer's TCP has all written bytes; it may not have read them. ``None``: unknown."""
        info = self._tcp_info()
        if not self.writable:
            return False
        return None if info is None else not (info[1] or info[2])

    def _tcp_info(self) -> tuple[int, int, int] | None:
        """Return the numbers of bytes acknowledged by the peer's TCP and not sent yet, and of segments on their way.

        ``None`` for a unix socket, and without Linux.
        """
        try:
            info = self._transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            unacknowledged_segments, acknowledged_bytes, unsent_bytes = _TCP_INFO.unpack(info)
        except (AttributeError, OSError, struct.error):
            return None
        return acknowledged_bytes, unsent_bytes, unacknowledged_segments

    @property
    def unsent(self) -> Unsent:
        """Bytes waiting in the transport: shared with other connections for plain TCP, else this writer's own."""
        if isinstance(self.send, _COPYING):
            return self
        return _NOTHING if self.writable else cast("bytes", self._transport.dataBuffer)


def _write_all(transport: Any, data: bytes) -> int:  # any of Twisted's transports
    transport.write(data)
    return len(data)
