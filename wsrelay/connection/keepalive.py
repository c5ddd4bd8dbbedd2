"""KeepAlive: pings, their pongs, grant expiry, and the deadline of a message.

Pure: no I/O, no clock. Must not live here: sending pings and closing (:mod:`wsrelay.connection.protocol`).
"""

import math
from collections.abc import Callable
from enum import Enum
from typing import Final

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason

__all__ = ["NO_KEEPALIVE", "Due", "KeepAlive"]

#: While a peer takes bytes before its close frame, a close may take this many times ``close_seconds`` in all.
CLOSE_TIMES: Final = 10

#: The same between two signs of progress: a proxy on this machine reads 64 KiB at a time, and passes them on slowly.
CHUNK_TIMES: Final = 2

#: Shared: each connection would have a number of its own.
_NEVER: Final = -math.inf


class Due(Enum):
    """The outcome of an open connection's deadline.

    Attributes:
        close: the close reason; ``None``: the connection stays open.
    """

    #: Nothing yet: wait for the next deadline.
    NOTHING = 0, None
    #: Send a ping.
    PING = 1, None
    #: The grant has expired.
    EXPIRED = 2, closecodes.EXPIRED
    #: A message is not complete in time.
    MESSAGE_TIMEOUT = 3, closecodes.MESSAGE_TOO_SLOW
    #: The last ping has no pong.
    PONG_TIMEOUT = 4, closecodes.PING_TIMEOUT

    def __init__(self, _number: int, close: CloseReason | None) -> None:
        self.close = close


class KeepAlive:
    """The deadlines of one open connection.

    Args:
        now: the time, in seconds.
        ping_seconds: between pings; 0 for none.
        chance: jitter of the first ping, from 0 to 1, so that a crowd is not pinged in one instant.
        expires: when the grant expires; infinite for never.

    Attributes:
        expires: the same.
        progress: whether bytes of a frame have come since the last ping; to be set when a read ends within a frame. No
            pong can come within a frame (RFC 6455 section 5.4).
        message_by: when the incomplete message must be complete; infinite without one.
        close_by: how long a close may wait for a slow peer; until a close begins, not at all.
    """

    __slots__ = ("_awaited", "_ping_at", "close_by", "expires", "message_by", "progress")

    def __init__(self, now: float, ping_seconds: float, chance: float, expires: float = math.inf) -> None:
        self._ping_at = now + ping_seconds * (1 + chance) / 2 if ping_seconds else math.inf
        #: The payload of the ping without a pong yet.
        self._awaited: bytes | None = None
        self.progress = False
        self.expires = expires
        self.message_by = math.inf
        self.close_by = _NEVER

    @property
    def deadline(self) -> float:
        """When :meth:`due` must be called next."""
        return min(self._ping_at, self.expires, self.message_by)

    def due(self, now: float, progressed: Callable[[], bool], *, held: bool = False, within_frame: bool = False) -> Due:
        """Return the due action.

        Args:
            now: the time.
            progressed: called once per ping interval: whether the peer has taken bytes that were waiting for it at the
                last call. Its pong may stand behind them: it is slow, not dead.
            held: whether the peer is not read: its pong and message cannot come, so only the expiry counts.
            within_frame: whether a frame of the peer is incomplete.
        """
        if now >= self.expires:
            return Due.EXPIRED
        if held:
            return Due.NOTHING
        if now >= self.message_by:
            return Due.MESSAGE_TIMEOUT
        if now < self._ping_at:
            return Due.NOTHING
        is_alive = progressed() or (within_frame and self.progress)
        if self._awaited is not None and not is_alive:
            return Due.PONG_TIMEOUT
        return Due.PING

    def ping(self, now: float, ping_seconds: float, payload: bytes) -> bool:
        """Begin the next interval.

        Args:
            now: the time.
            ping_seconds: until the next ping.
            payload: of this ping. The peer must not know it before: else it could answer ahead, without reading.

        Returns:
            Whether to send the ping; ``False``: the last one is still unanswered.
        """
        self._ping_at = now + ping_seconds
        self.progress = False
        if self._awaited is not None:
            return False
        self._awaited = payload
        return True

    def pong(self, payload: bytes) -> bool:
        """Take a pong; return whether it answers the last ping. Others do not count."""
        is_answer = payload == self._awaited
        if is_answer:
            self._awaited = None
        return is_answer

    def alive(self) -> None:
        """The peer has taken written bytes: counts as a pong, where there are none."""
        self._awaited = None

    def begin_close(self, now: float, close_seconds: float, *, is_slow: bool) -> float:
        """Begin a close.

        Args:
            now: the time.
            close_seconds: for the answer of a peer that reads at once.
            is_slow: whether bytes had to wait for the peer, and it was taking them.

        Returns:
            The time until the first look at its progress, in seconds.
        """
        self.close_by = now + CLOSE_TIMES * close_seconds
        return CHUNK_TIMES * close_seconds if is_slow else close_seconds

    def more_time(self, now: float, close_seconds: float, progressed: Callable[[], bool]) -> float:
        """Return for how many seconds a close waits longer; 0: no longer.

        Args:
            now: the time.
            close_seconds: as at the begin.
            progressed: see :meth:`due`.
        """
        left_seconds = self.close_by - now
        return min(left_seconds, CHUNK_TIMES * close_seconds) if left_seconds > 0 and progressed() else 0.0

    def read_again(self, held_seconds: float) -> None:
        """Extend the deadlines for pong and message by the time for which the peer was held."""
        self.message_by += held_seconds
        if self._awaited is not None:
            self._ping_at += held_seconds


#: Of connections that are not open: there is no time for a slow peer.
NO_KEEPALIVE: Final = KeepAlive(0.0, 0.0, 0.0)
