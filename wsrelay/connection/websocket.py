"""OpenWebSocket: the phase of an open WebSocket connection: publishes messages, sends and answers pings.

Must not live here: delivery (:mod:`wsrelay.rooms`), the parser of common frames (:mod:`wsrelay.wire.frames`),
Autobahn's parser for all other frames (:mod:`wsrelay.connection.autobahn`).
"""

import math
from itertools import takewhile
from typing import Final

from wsrelay import closecodes
from wsrelay.connection.host import Host
from wsrelay.connection.member import Member
from wsrelay.connection.reading import end_turn, is_too_fast, limit_rate
from wsrelay.connection.stage import Stage
from wsrelay.grant import Grant
from wsrelay.message import Message
from wsrelay.wire import frames
from wsrelay.wire.frames import Encoding

__all__ = ["STRETCH_BYTES", "STRETCH_FRAMES", "OpenWebSocket"]

#: The most uncommon frames of one connection in one reactor turn. Autobahn's parser takes some 40 µs for each, and a
#: read can hold 10 000 of them (TRAPS 4).
STRETCH_FRAMES: Final = 64

#: About the most bytes of messages in one turn: a read of 64 KiB may inflate to 60 MiB.
STRETCH_BYTES: Final = 2**20


class OpenWebSocket(Member):
    """An open WebSocket connection.

    Args:
        host: the connection.
        grant: its rights.
        encoding: encodes plain frames for it.
        deflated: whether permessage-deflate was agreed.
    """

    __slots__ = ("_deflated", "_fragments", "_message_type", "_ping_to_answer")

    _host: Host

    def __init__(self, host: Host, grant: Grant, encoding: Encoding, *, deflated: bool) -> None:
        super().__init__(host, grant, encoding)
        self._deflated = deflated
        self._message_type = host.factory.message_types.of(grant.room)
        self._fragments = 0
        self._ping_to_answer: bytes | None = None

    @property
    def incoming_bytes(self) -> int:
        """Bytes buffered of incomplete input."""
        return self._host.message_bytes

    # --- from the peer ------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Publish received messages, within flow control.

        Common frames are taken by the fast path, all others by Autobahn's parser, which is quadratic in the frames of a
        read (TRAPS 4).
        """
        host, flow = self._host, self._host.flow
        host.data += data
        if flow.held:  # TLS may still deliver decrypted bytes
            return
        crowded = host.factory.hub.crowded
        if crowded and self.grant.room in crowded:
            end_turn(host, keeps_place=True)  # else those that fill the room would come first in each turn
            return
        limit_bytes, unread = host.factory.settings.max_message_bytes, len(host.data)
        messages_in, bytes_in, may_publish = self.messages_in, self.bytes_in, self.grant.can_publish
        for _ in range(2 * STRETCH_FRAMES):  # Autobahn takes the header and the payload in two steps
            is_parsed = may_publish and host.stage is Stage.OPEN and not host.mid_message
            taken, behind = frames.parse(host.data, limit_bytes, deflated=self._deflated) if is_parsed else ([], 0)
            if taken:
                host.data = host.data[behind:]
                flow.frames -= len(taken)
                self._publish(taken)
                more: object = host.data
            else:
                more = host.parse_next()
            if not more or flow.held or host.phase is not self:
                break
            if self.bytes_in - bytes_in > STRETCH_BYTES:
                end_turn(host)
                break
        else:
            end_turn(host)
        if host.stage is Stage.OPEN:
            read_bytes = unread - len(host.data)
            self._account(self.messages_in - messages_in, max(read_bytes, self.bytes_in - bytes_in))

    def _publish(self, plain: list[bytes]) -> None:
        """Publish messages, given as plain frames, up to the first whose type the room does not accept."""
        accepted = self._message_type
        if accepted is not None:
            fitting = list(takewhile(lambda frame: frames.opcode_of(frame) == accepted, plain))
            if len(fitting) < len(plain):
                if fitting:
                    self._relay(fitting)
                self._host.reject(closecodes.WRONG_TYPE)
                return
        self._relay(plain)

    def _relay(self, plain: list[bytes]) -> None:
        factory = self._host.factory
        count, size_bytes = len(plain), sum(map(len, plain))
        self.messages_in += count
        self.bytes_in += size_bytes
        factory.stats.messages_in += count
        factory.stats.bytes_in += size_bytes
        publisher = None if factory.settings.echo else self
        factory.backplane.publish(self.grant.room, [Message(frame, publisher) for frame in plain])

    def _account(self, messages: int, read_bytes: int) -> None:
        """Charge a read to the allowance, and set the deadline of an incomplete message.

        Args:
            messages: the number of published messages.
            read_bytes: bytes received or published, the larger of the two: inflated bytes count.
        """
        host, flow, now = self._host, self._host.flow, self._host.factory.now
        flow.messages -= messages
        flow.bytes -= read_bytes
        keepalive = host.keepalive
        if host.data or host.mid_message:
            if messages or keepalive.message_by == math.inf:  # it may be a new message
                keepalive.message_by = now + (host.factory.settings.message_seconds or math.inf)
                host.deadline = min(host.deadline, keepalive.message_by)
            keepalive.progress = True
            host.factory.memory.grow(host, read_bytes)
        else:
            # The connection's deadline stays; when it passes, nothing is due.
            keepalive.message_by = math.inf
        # Without a call (0.2 % of a message): few reads pass it.
        is_over = flow.messages < 0 or flow.frames < 0 or flow.bytes < 0 or flow.controls < 0
        if (is_over or now > flow.refilled_at) and is_too_fast(host):
            limit_rate(host)

    def on_frame(self) -> None:
        """Count a frame from Autobahn's parser, control frames and empty ones included."""
        self._host.flow.frames -= 1

    def on_message_begin(self) -> None:
        """Start counting the fragments of a message."""
        self._fragments = 0

    def on_fragment(self) -> None:
        """Count a fragment: without a limit, empty ones fill the memory (TRAPS 21)."""
        self._fragments += 1
        if self._fragments > self._host.factory.settings.max_fragments:
            self._host.reject(closecodes.TOO_MANY_FRAGMENTS)

    def on_inflated(self, size_bytes: int) -> None:
        """Count what a fragment was inflated by, for the next :meth:`_account`."""
        self._host.factory.memory.unmeasured_bytes += size_bytes

    def on_message(self, payload: bytes, is_binary: bool) -> None:
        """Publish a message; text is valid UTF-8 here."""
        host = self._host
        if host.stage is not Stage.OPEN:
            host.factory.stats.messages_dropped += 1
        elif len(payload) > host.factory.settings.max_message_bytes:  # Autobahn's own limit is less exact
            host.reject(closecodes.TOO_BIG)
        elif not self.grant.can_publish:
            host.reject(closecodes.READ_ONLY)
        else:
            self._publish([frames.encode(frames.BINARY if is_binary else frames.TEXT, payload)])

    def on_ping(self, payload: bytes) -> None:
        """Answer a ping; while the peer does not read, pongs are coalesced: only the last ping is answered, later.

        Source: RFC 6455 section 5.5.3.
        """
        self._host.flow.controls -= 1
        if self._host.paused:
            self._ping_to_answer = payload
        else:
            self._host.sendPong(payload)

    def on_pong(self, payload: bytes) -> None:
        """Take a pong; one that nothing asked for is charged as a ping is."""
        if not self._host.keepalive.pong(payload):
            self._host.flow.controls -= 1

    # --- to the peer --------------------------------------------------------------------------------

    def ping(self, payload: bytes) -> None:
        """Send a ping."""
        self._host.sendPing(payload)

    def on_writable(self) -> None:
        """Answer the last ping that came while the peer did not read."""
        if self._ping_to_answer is not None:
            self._host.sendPong(self._ping_to_answer)  # no effect while it closes
            self._ping_to_answer = None

    def write_close(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write a close frame, and free the parts of an unfinished message."""
        self._host.send_close_frame(code, reason, is_reply)
        self._host.become(Stage.CLOSING)
        self._host.forget_message()

    def discard(self) -> None:
        """Free all input."""
        self._host.data = b""
        self._host.forget_message()
