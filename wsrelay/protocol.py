"""RelayProtocol: translates between Autobahn, the validators and the room. Nothing is decided here.

Parsing the request is :mod:`wsrelay.request`'s, who may come in :mod:`wsrelay.handshake`'s, who gets what
:mod:`wsrelay.room`'s, and how a connection ends :mod:`wsrelay.connection`'s.
"""

import math
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from wsrelay import closecodes, frames
from wsrelay.closecodes import CloseReason
from wsrelay.connection import LOG_CHARS, log
from wsrelay.grant import Grant
from wsrelay.message import Message
from wsrelay.opening import Opening

__all__ = ["RelayProtocol"]

#: What a connection may do before it opens.
NOTHING: Final = Grant(room="", can_publish=False, can_subscribe=False)


@implementer(IPushProducer)
class RelayProtocol(Opening):
    """One connection of a relay; a :class:`wsrelay.interfaces.Subscriber` of its room.

    Attributes:
        encoding: how its frames are encoded: 0, or its deflate window bits; set when it opens.
        paused: whether the transport holds more unsent bytes than it likes (64 KiB).
        grant: what it may do; nothing until it opens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoding = frames.PLAIN
        self.paused = False
        self.grant = NOTHING
        self._fragments = 0
        self._ping_at = math.inf
        self._ping_count = 0
        self._pong_missing = False
        self._octets_at_ping = 0
        self._expires = math.inf

    # --- opening ----------------------------------------------------------------------------------

    def enter(self, grant: Grant) -> None:
        """Join the room. See :meth:`wsrelay.opening.Opening.enter`."""
        self.factory.hub.join(grant.room, self, can_subscribe=grant.can_subscribe)
        self.grant = grant

    def onOpen(self) -> None:
        """The 101 is out. Autobahn swallows what is raised here (TRAPS 27); ``_open`` runs under a guard."""
        compression: Any = self._perMessageCompress
        if compression is not None:
            self.encoding = max(bits for bits in frames.WINDOW_BITS if bits <= compression.server_max_window_bits)
        # The only sign there is of a peer that does not read (TRAPS 25).
        self.transport.registerProducer(self, True)
        self.factory.stats.connections_opened += 1
        identity = repr(self.grant.identity)[:LOG_CHARS]
        # Formatted here: fields in the format cost 3 µs of the 20 that a line does, which is a quarter of a handshake.
        log.info("{line}", line=f"{self.peer} joined {self.grant.room!r} as {identity}")
        self._start_keep_alive(self.grant.expires_at)

    # --- open: from the peer ----------------------------------------------------------------------

    def onMessageBegin(self, isBinary: bool) -> None:
        """Start counting the fragments of a message."""
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Count a fragment: without a limit, empty ones are free memory for an attacker (TRAPS 21)."""
        self._fragments += 1
        if self._fragments > self.factory.settings.max_fragments:
            self.reject(closecodes.TOO_MANY_FRAGMENTS)
        super().onMessageFrameBegin(length)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Publish a message to the room; text is known to be UTF-8 here."""
        if self.state != self.STATE_OPEN:
            self.factory.stats.messages_dropped += 1
        elif len(payload) > self.factory.settings.max_message_bytes:  # Autobahn's own limit is less exact
            self.reject(closecodes.TOO_BIG)
        elif not self.grant.can_publish:
            self.reject(closecodes.READ_ONLY)
        else:
            self.factory.stats.messages_in += 1
            self.factory.stats.payload_bytes_in += len(payload)
            publisher = None if self.factory.settings.echo else self
            opcode = frames.BINARY if isBinary else frames.TEXT
            self.factory.backplane.publish(self.grant.room, Message(opcode, payload, publisher))

    def onPing(self, payload: bytes) -> None:
        """Answer a ping, unless the peer does not read: pongs would pile up (RFC 6455 section 5.5.3 lets us)."""
        if not self.paused:
            super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        """Take the answer to the last ping; any other pong means nothing."""
        if payload == self._ping_payload():
            self._pong_missing = False

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """TCP has ended: one line for those who were in a room."""
        if self.grant is not NOTHING:
            codes = f"sent {self.localCloseCode}, received {self.remoteCloseCode}"
            log.info("{line}", line=f"{self.peer} left {self.grant.room!r}: {codes}")

    # --- open: to the peer; wsrelay.interfaces.Subscriber and IPushProducer -----------------------

    def deliver(self, data: bytes) -> None:
        """Write whole frames. See :class:`wsrelay.interfaces.Subscriber`."""
        self.transport.write(data)

    def evict(self, reason: CloseReason) -> None:
        """Close; what the transport holds goes out before the close frame, or the deadline ends it."""
        self.close(reason)

    def pauseProducing(self) -> None:
        """Note that the transport has enough unsent; the room leaves this subscriber where it stands."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Go on from the cursor: the transport has sent what it had."""
        self.paused = False
        self.factory.hub.resume(self)

    def stopProducing(self) -> None:
        """Leave: the transport takes no more."""
        self.leave()

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Close behind the messages that were published before, its own echoes included."""
        self.factory.hub.flush()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def leave(self) -> None:
        """Leave the room, if in one. See :meth:`wsrelay.connection.Connection.leave`."""
        self.factory.hub.leave(self)

    # --- open: its deadlines ----------------------------------------------------------------------

    def _start_keep_alive(self, expires_at: float | None) -> None:
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
        self.set_deadline(min(self._ping_at, self._expires), RelayProtocol._keep_alive)

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
