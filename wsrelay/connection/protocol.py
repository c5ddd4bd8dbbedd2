"""RelayProtocol: translates between Autobahn, the validators and the room. Nothing is decided here.

Parsing the request is :mod:`wsrelay.request`'s, who may come in :mod:`wsrelay.validators.chain`'s, who gets what
:mod:`wsrelay.rooms.room`'s, how a connection ends :mod:`wsrelay.connection.closing`'s,
how fast it may send :mod:`wsrelay.connection.flow`'s, and how one that is dead is found out
:mod:`wsrelay.connection.keepalive`'s.
"""

import math
from itertools import takewhile
from typing import Any, Final, cast

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection import deflate
from wsrelay.connection.closing import LOG_CHARS
from wsrelay.connection.event_stream import EventStream
from wsrelay.grant import Grant
from wsrelay.limits.rates import Allowance
from wsrelay.message import Message
from wsrelay.stats import NOTHING as NO_TALLY
from wsrelay.stats import ConnectionStatus, Tally, plus
from wsrelay.wire import frames

__all__ = ["RelayProtocol"]

#: Autobahn's states, as an operator reads them.
_STATES: Final = {
    WebSocketProtocol.STATE_CONNECTING: "handshake",
    WebSocketProtocol.STATE_OPEN: "open",
    WebSocketProtocol.STATE_CLOSING: "closing",
    WebSocketProtocol.STATE_CLOSED: "closed",
}

#: What a connection may do before it opens.
NOTHING: Final = Grant(room="", can_publish=False, can_subscribe=False)


@implementer(IPushProducer)
class RelayProtocol(EventStream):
    """One connection of a relay; a :class:`wsrelay.interfaces.Subscriber` of its room.

    Attributes:
        encoding: makes its frames of plain ones; set when it opens.
        grant: what it may do; nothing until it opens.
        opened_at: when it opened, in the reactor's seconds.
        published: the messages that it published, and what these were as plain frames.
        left_out_of: the messages of others that were not for it, in the same way.
        tally: see :class:`wsrelay.interfaces.Subscriber`.
    """

    # On the class, because few connections have them (TRAPS 61).
    published = left_out_of = tally = NO_TALLY
    opened_at = math.inf
    _ping_to_answer: bytes | None = None
    _type: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.encoding = frames.plain
        self.grant = NOTHING
        self._fragments = 0

    # --- opening ----------------------------------------------------------------------------------

    def enter(self, grant: Grant) -> None:
        """Join the room. See :meth:`wsrelay.connection.opening.Opening.enter`."""
        if self._perMessageCompress is not None:
            self.encoding = self.factory.deflate(self._perMessageCompress.server_max_window_bits)
            self._perMessageCompress: Any = deflate.Inflater()
        self.allowance = Allowance(self.factory.rates, self.factory.now)
        self.factory.hub.join(grant.room, self, can_subscribe=grant.can_subscribe, can_publish=grant.can_publish)
        self.grant = grant
        message_type = self.factory.message_types.of(grant.room)
        if message_type is not None:
            self._type = message_type

    def onOpen(self) -> None:
        """The 101 is out. Autobahn swallows what is raised here (TRAPS 27); ``_open`` runs under a guard."""
        self.factory.stats.connections_opened += 1
        self.opened_at = self.seconds()
        self.factory.lines.add("opened", **self._who())
        self.start_keep_alive(self.grant.expires_at)

    def _who(self) -> dict[str, object]:
        """Return whose line in the log it is."""
        identity = self.grant.identity
        return {
            "connection": self.number,
            "peer": self.peer,
            "room": self.grant.room,
            "identity": None if identity is None else identity[:LOG_CHARS],
        }

    @property
    def own(self) -> Tally:
        """What it does not get of what was published. See :class:`wsrelay.interfaces.Subscriber`."""
        if self.published is NO_TALLY or self.factory.settings.echo:
            return self.left_out_of
        return plus(self.published, self.left_out_of)

    def status(self) -> ConnectionStatus:
        """Return what is known of it now."""
        messages_out, bytes_out = self.factory.hub.given(self)
        return ConnectionStatus(
            number=self.number,
            peer=self.peer,
            room=self.grant.room,
            identity=self.grant.identity,
            state=_STATES[self.state],
            seconds=max(0.0, self.seconds() - self.opened_at),
            messages_in=self.published[0],
            bytes_in=self.published[1],
            messages_out=messages_out,
            bytes_out=bytes_out,
            paused=self.paused,
            held=bool(self.held),
        )

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
            self._publish([frames.encode(frames.BINARY if isBinary else frames.TEXT, payload)])

    def take_common_frames(self) -> bool:
        """Publish the common frames that the unread data begins with, if it begins with a frame of a new message."""
        within: Any = self.current_frame or self.inside_message
        if within or self.state != self.STATE_OPEN or not self.grant.can_publish:
            return False  # for Autobahn, and onMessage
        deflated = self._perMessageCompress is not None
        taken, behind = frames.parse(self.data, self.factory.settings.max_message_bytes, deflated=deflated)
        if taken:
            self.data = self.data[behind:]
            self.allowance.frames -= len(taken)
            self._publish(taken)
        return bool(taken and self.data)

    def _publish(self, plain: list[bytes]) -> None:
        """Publish messages, given as plain frames, up to the first that is of another type than may be."""
        if self._type is not None:
            fitting = list(takewhile(lambda frame: frames.opcode_of(frame) == self._type, plain))
            if len(fitting) < len(plain):
                self._relay(fitting)
                self.reject(closecodes.WRONG_TYPE)
                return
        self._relay(plain)

    def _relay(self, plain: list[bytes]) -> None:
        stats = self.factory.stats
        size_bytes = sum(map(len, plain))
        stats.messages_in += len(plain)
        stats.bytes_in += size_bytes
        self.published = plus(self.published, (len(plain), size_bytes))
        self.allowance.messages -= len(plain)
        publisher = None if self.factory.settings.echo else self
        self.factory.backplane.publish(self.grant.room, [Message(frame, publisher) for frame in plain])

    def onPing(self, payload: bytes) -> None:
        """Answer a ping; while the peer does not read, only the last one, later: pongs would pile up.

        Source: RFC 6455 section 5.5.3.
        """
        if self.paused:
            self._ping_to_answer = payload
        else:
            super().onPing(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """TCP has ended: count it, and one line for those who were open."""
        if self.opened_at == math.inf:
            return
        by, ended_with, said = self._end()
        self.factory.stats.connections_closed[by, closecodes.counted_as(ended_with)] += 1
        messages_out, bytes_out = self.factory.hub.given(self)
        self.factory.lines.add(
            "closed",
            **self._who(),
            seconds=round(self.seconds() - self.opened_at, 3),
            by=by,
            code=ended_with,
            reason=said[:LOG_CHARS],
            messages_in=self.published[0],
            bytes_in=self.published[1],
            messages_out=messages_out,
            bytes_out=bytes_out,
        )

    def _end(self) -> tuple[str, int, str]:
        """Return who closed it, with which code, and for which reason."""
        if self.closedByMe:
            return "relay", cast("int", self.localCloseCode), cast("bytes", self.localCloseReason).decode()
        if self.wasClean or self.is_stream:  # whoever has read enough of a stream just leaves
            return "client", self.remoteCloseCode or closecodes.NO_CODE, self.remoteCloseReason or ""
        return "lost", closecodes.LOST, ""

    # --- open: to the peer; wsrelay.interfaces.Subscriber and IPushProducer -----------------------

    def evict(self, reason: CloseReason) -> None:
        """Close; what the transport holds goes out before the close frame, or the deadline ends it."""
        self.close(reason)

    def pauseProducing(self) -> None:
        """The peer takes no more: the room leaves this subscriber where it stands."""
        super().pauseProducing()
        self.factory.hub.pause(self)

    def resumeProducing(self) -> None:
        """Go on from the cursor: the transport has sent what it had."""
        super().resumeProducing()
        if self._ping_to_answer is not None and self.state == self.STATE_OPEN:
            super().onPing(self._ping_to_answer)
            self._ping_to_answer = None
        self.factory.hub.resume(self)

    def stopProducing(self) -> None:
        """Leave: the transport takes no more."""
        self.leave()

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Close behind the messages that were published before, its own echoes included."""
        self.factory.hub.finish(self)
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def leave(self) -> None:
        """Leave the room, if in one. See :meth:`wsrelay.connection.closing.Connection.leave`."""
        self.factory.hub.leave(self)
