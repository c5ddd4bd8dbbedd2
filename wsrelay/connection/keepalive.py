"""Finding out that an open connection is dead, has expired, or does not come to an end with its message.

The deadline for all of this is the connection's one; here it is set while the connection is open. How fast things come
in is :mod:`wsrelay.connection.flow`'s.
"""

import math

from wsrelay import closecodes
from wsrelay.connection.closing import Connection

__all__ = ["KeepAlive"]


class KeepAlive(Connection):
    """A connection that pings its peer. Begun by :meth:`start_keep_alive`.

    Attributes:
        held_since: from when on the peer was not read; infinite while it is. What it owes us cannot come meanwhile.
    """

    held_since = math.inf

    def __init__(self) -> None:
        super().__init__()
        self._ping_at = math.inf
        self._ping_count = 0
        self._pong_missing = False
        self._octets_at_ping = 0
        self._expires = math.inf
        self._message_by = math.inf

    def onPong(self, payload: bytes) -> None:
        """Take the answer to the last ping; any other pong means nothing."""
        if payload == self._ping_payload():
            self._pong_missing = False

    def start_keep_alive(self, expires_at: float | None) -> None:
        """The connection is open: begin to ping.

        Args:
            expires_at: when it is to be closed, in seconds since the epoch; ``None`` for never.
        """
        now = self.seconds()
        if expires_at is not None:
            # The only use of the wall clock: tokens are dated by it.
            self._expires = now + expires_at - self.factory.wall_clock()
        interval = self.factory.settings.ping_seconds
        if interval:
            # Spread, so that clients that came together are not all pinged in one instant.
            self._ping_at = now + interval * (1 + self.factory.random()) / 2
        self._await_next()

    def message_goes_on(self, begun: bool, now: float) -> None:
        """There is a message that has not come to its end.

        Args:
            begun: whether it may have begun only now.
            now: the time.

        Peer sees:
            1008, if that has not come within ``message_seconds``.
        """
        if begun or self._message_by == math.inf:
            self._message_by = now + (self.factory.settings.message_seconds or math.inf)
            self.deadline = min(self.deadline, self._message_by)

    def message_is_done(self) -> None:
        """There is no such message any more. The deadline stays: that it was for nothing is found out then."""
        self._message_by = math.inf

    def read_again(self, held_seconds: float) -> None:
        """The peer was held, and is not any more: the time in which it was does not count."""
        self._message_by += held_seconds
        if self._pong_missing:
            self._ping_at += held_seconds
        self._await_next()

    def _await_next(self) -> None:
        self.set_deadline(min(self._ping_at, self._expires, self._message_by), KeepAlive._keep_alive)

    def _keep_alive(self) -> None:
        """Close a connection that has expired, does not end its message, or whose pong is missing; ping any other."""
        now = self.seconds()
        if now >= self._expires:
            self.close(closecodes.EXPIRED)
        elif self.held_since != math.inf:
            self.set_deadline(self._expires, KeepAlive._keep_alive)  # the others go on when it is read again
        elif now >= self._message_by:
            self.reject(closecodes.MESSAGE_TOO_SLOW)
        elif now < self._ping_at:
            self._await_next()
        elif self._pong_missing and not self._frame_is_coming():
            self.close(closecodes.PING_TIMEOUT)
        else:
            self._ping(now)
            self._await_next()

    def _ping(self, now: float) -> None:
        if not self._pong_missing:
            self._ping_count += 1
            self._pong_missing = True
            self.sendPing(self._ping_payload())
        self._octets_at_ping = self.trafficStats.incomingOctetsWireLevel
        self._ping_at = now + self.factory.settings.ping_seconds

    def _frame_is_coming(self) -> bool:
        """Whether the peer sends a frame just now: no pong can come within one (RFC 6455 section 5.4)."""
        return self.current_frame is not None and self.trafficStats.incomingOctetsWireLevel > self._octets_at_ping

    def _ping_payload(self) -> bytes:
        """Return the payload of the last ping, so that an unsolicited pong is not taken for its answer."""
        return b"%d" % self._ping_count
