"""Member: the phase of an open connection, which is a subscriber of its room.

Must not live here: what the peer sends (:mod:`wsrelay.connection.websocket`, :mod:`wsrelay.connection.event_stream`),
what the room does (:mod:`wsrelay.rooms`).
"""

import math
from typing import Final, Protocol

from wsrelay.closecodes import CloseReason
from wsrelay.connection.flow import Hold
from wsrelay.connection.phase import Phase
from wsrelay.connection.reading import Reader, hold, release
from wsrelay.connection.writer import Writer
from wsrelay.grant import Grant
from wsrelay.interfaces import Send
from wsrelay.stats import Tally
from wsrelay.wire.frames import Encoding

__all__ = ["NO_GRANT", "Member"]

#: What a connection may do before it opens.
NO_GRANT: Final = Grant(room="", can_publish=False, can_subscribe=False)


class Owner(Reader, Protocol):
    """What a member needs of its connection. See :class:`wsrelay.connection.protocol.RelayProtocol`."""

    writer: Writer

    def write_later(self, data: bytes, sent: int) -> None:
        """Write what ``send`` did not take."""

    def close(self, reason: CloseReason) -> None:
        """Close."""

    def fail(self, error: Exception) -> None:
        """End because of a bug."""


class Member(Phase):
    """A :class:`wsrelay.interfaces.Subscriber`. What all open connections have in common, whatever they speak.

    One object for both, phase and subscriber: a second one would cost each idle connection 60 bytes.

    Args:
        host: the connection.
        grant: what it may do.
        encoding: makes its frames of plain ones.

    Attributes:
        grant: the same.
        encoding: the same.
        opened_at: when it opened, in the reactor's seconds; infinite until then.
        messages_in: messages that it published.
        bytes_in: these as plain frames, in bytes.
        given: messages and plain bytes that it was given in all; ``None`` until it has left its room.
    """

    __slots__ = ("_host", "bytes_in", "encoding", "given", "grant", "messages_in", "opened_at")

    def __init__(self, host: Owner, grant: Grant, encoding: Encoding) -> None:
        self._host = host
        self.grant = grant
        self.encoding = encoding
        self.opened_at = math.inf
        self.messages_in = self.bytes_in = 0
        self.given: Tally | None = None

    @property
    def send(self) -> Send:
        """The socket's own, where it is a plain one; rooms ask for it once, when it joins."""
        return self._host.writer.send

    def write_later(self, data: bytes, sent: int) -> None:
        """Write what ``send`` did not take. See :class:`wsrelay.interfaces.Subscriber`."""
        self._host.write_later(data, sent)

    def hold(self) -> None:
        """Stop reading: the room takes no more for now. See :class:`wsrelay.interfaces.Subscriber`."""
        hold(self._host, Hold.ROOM)

    def release(self) -> None:
        """Read on: the room takes more. See :class:`wsrelay.interfaces.Subscriber`."""
        release(self._host, Hold.ROOM)

    def evict(self, reason: CloseReason) -> None:
        """Close. What waits in the transport goes out before the close frame, or the deadline ends it."""
        self._host.close(reason)

    def fail(self, error: Exception) -> None:
        """Close with 1011. See :class:`wsrelay.interfaces.Subscriber`."""
        self._host.fail(error)
