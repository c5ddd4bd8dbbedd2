"""Finding out that an open connection is dead, or has expired: pings, their pongs, and the deadline for both.

The deadline is the connection's one; here it is set while the connection is open.
"""

import math

from wsrelay import closecodes
from wsrelay.connection import Connection

__all__ = ["KeepAlive"]


class KeepAlive(Connection):
    """A connection that pings its peer. Begun by :meth:`start_keep_alive`."""

    def __init__(self) -> None:
        super().__init__()
        self._ping_at = math.inf
        self._ping_count = 0
        self._pong_missing = False
        self._octets_at_ping = 0
        self._expires = math.inf

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

    def _await_next(self) -> None:
        self.set_deadline(min(self._ping_at, self._expires), KeepAlive._keep_alive)

    def _keep_alive(self) -> None:
        """Close a connection that has expired or whose pong is missing; ping any other."""
        now = self.seconds()
        if now >= self._expires:
            self.close(closecodes.EXPIRED)
        elif self._pong_missing and not self._frame_is_coming():
            self.close(closecodes.PING_TIMEOUT)
        else:
            if not self._pong_missing:
                self._ping_count += 1
                self._pong_missing = True
                self.sendPing(self._ping_payload())
            self._octets_at_ping = self.trafficStats.incomingOctetsWireLevel
            self._ping_at = now + self.factory.settings.ping_seconds
            self._await_next()

    def _frame_is_coming(self) -> bool:
        """Whether the peer sends a frame just now: no pong can come within one (RFC 6455 section 5.4)."""
        return self.current_frame is not None and self.trafficStats.incomingOctetsWireLevel > self._octets_at_ping

    def _ping_payload(self) -> bytes:
        """Return the payload of the last ping, so that an unsolicited pong is not taken for its answer."""
        return b"%d" % self._ping_count
