"""Member: the phase of an open connection, and the subscriber in its room.

Must not live here: input of the peer (:mod:`wsrelay.connection.websocket`, :mod:`wsrelay.connection.event_stream`),
rooms (:mod:`wsrelay.rooms`).
"""

import math
from typing import Final, Protocol

from wsrelay.closecodes import CloseReason
from wsrelay.connection.phase import Phase
from wsrelay.connection.reading import Reader, hold, release
from wsrelay.connection.writer import Writer
from wsrelay.grant import Grant
from wsrelay.interfaces import Hold, Send
from wsrelay.message_id import MessageId
from wsrelay.stats import Tally
from wsrelay.wire.frames import Encoding

__all__ = ["NO_GRANT", "Member"]

#: The rights of a connection that is not open: none.
NO_GRANT: Final = Grant(room="", can_publish=False, can_subscribe=False)


class Owner(Reader, Protocol):
    """The part of :class:`wsrelay.connection.protocol.RelayProtocol` that a member uses."""

    writer: Writer

    def write_later(self, data: bytes, sent: int) -> None:
        """Write the rest that ``send`` did not take."""

    def close(self, reason: CloseReason) -> None:
        """Close."""

    def fail(self, error: Exception) -> None:
        """End because of a bug."""


class Member(Phase):
    """A :class:`wsrelay.interfaces.Subscriber`: the common part of WebSocket connections and event streams.

    One object is phase and subscriber: a second one would cost each idle connection 60 bytes.

    Args:
        host: the connection.
        grant: its rights.
        encoding: encodes plain frames for it.

    Attributes:
        grant: the same.
        encoding: the same.
        handle: for others, to exclude it from a message; ``None`` without ``--http``.
        opened_at: when it opened, in the reactor's seconds; infinite until then.
        messages_in: its published messages.
        bytes_in: the same as plain frames, in bytes.
        given: all messages and plain bytes sent to it; ``None`` until it leaves its room.
    """

    __slots__ = ("_host", "bytes_in", "encoding", "given", "grant", "handle", "messages_in", "opened_at")

    def __init__(self, host: Owner, grant: Grant, encoding: Encoding) -> None:
        self._host = host
        self.grant = grant
        self.encoding = encoding
        self.handle: str | None = None
        self.opened_at = math.inf
        self.messages_in = self.bytes_in = 0
        self.given: Tally | None = None

    @property
    def send(self) -> Send:
        """The socket's own ``send`` for plain TCP; the room reads it once, at the join."""
        return self._host.writer.send

    def progressed(self) -> bool:
        """Whether the peer has taken bytes that waited. See :meth:`wsrelay.connection.writer.Writer.progressed`."""
        return self._host.writer.progressed()

    def write_later(self, data: bytes, sent: int) -> None:
        """Write the rest that ``send`` did not take. See :class:`wsrelay.interfaces.Subscriber`."""
        self._host.write_later(data, sent)

    def hold(self, why: Hold = Hold.ROOM) -> None:
        """Stop reading. See :class:`wsrelay.interfaces.Subscriber`."""
        hold(self._host, why)

    def release(self, why: Hold = Hold.ROOM) -> None:
        """Read on, once no reason is left. See :class:`wsrelay.interfaces.Subscriber`."""
        release(self._host, why)

    def skipped(self, at: MessageId, why: str) -> None:
        """A WebSocket client is not told what it does not get. See :class:`wsrelay.interfaces.Subscriber`."""

    def evict(self, reason: CloseReason) -> None:
        """Close. Bytes waiting in the transport go out before the close frame, or the deadline aborts TCP."""
        self._host.close(reason)

    def fail(self, error: Exception) -> None:
        """Close with 1011. See :class:`wsrelay.interfaces.Subscriber`."""
        self._host.fail(error)
