"""OpenWebSocket: the phase of an open WebSocket connection: publishes messages, sends and answers pings.

Must not live here: delivery (:mod:`wsrelay.rooms`), the parser of common frames (:mod:`wsrelay.wire.frames`),
Autobahn's parser for all other frames (:mod:`wsrelay.connection.autobahn`).
"""

import math
from typing import Final

from wsrelay import closecodes
from wsrelay.connection.host import Host
from wsrelay.connection.member import Member
from wsrelay.connection.reading import end_turn, is_too_fast, limit_rate
from wsrelay.connection.stage import Stage
from wsrelay.grant import Grant
from wsrelay.message import Run
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

    __slots__ = ("_fragments", "_kinds", "_ping_to_answer")

    _host: Host

    def __init__(self, host: Host, grant: Grant, encoding: Encoding, *, deflated: bool) -> None:
        super().__init__(host, grant, encoding)
        #: The kinds of messages that it may publish, for the parser of common frames; 0 once it closes.
        self._kinds = host.factory.message_types.of(grant.room) if grant.can_publish else 0
        if self._kinds and deflated:
            self._kinds |= frames.DEFLATED
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
        host = self._host
        flow, factory = host.flow, host.factory
        # One test for all that is rare.
        waits = host.data or flow.held or host.mid_message or factory.crowded or factory.congested
        if waits:
            host.data = data = host.data + data
            # TLS may still deliver bytes while held. The close frame of one that cannot publish any more is to be read.
            if flow.held or (factory.congested and self._kinds and factory.backplane.hold(self.grant.room, self)):
                return
            if self.grant.room in factory.crowded:
                end_turn(host, keeps_place=True)  # else those that fill the room would come first in each turn
                return
            if host.mid_message:
                self._receive_rest(0, 0, 0)
                return
        plain, count, behind = frames.parse(data, factory.settings.max_message_bytes, self._kinds)
        rest = waits or behind != len(data)
        if rest:
            host.data = data[behind:]
        if count:
            flow.frames -= count
            self._publish(plain, count)
        if rest:
            self._receive_rest(behind, count, len(plain))
            return
        # The usual read has whole common frames and nothing else. As _account(), without its calls.
        flow.messages -= count
        flow.bytes -= behind if behind > len(plain) else len(plain)  # not max(): TRAPS 147
        if flow.messages < 0.0 or flow.frames < 0.0 or flow.bytes < 0.0 or factory.now > flow.refilled_at:
            self._limit_rate()

    def _receive_rest(self, read_bytes: int, count: int, published_bytes: int) -> None:
        """Take what is behind the first common frames of a read.

        Args:
            read_bytes: the length of these.
            count: their number; 0 if there is none.
            published_bytes: their length as plain frames.
        """
        host, flow = self._host, self._host.flow
        limit_bytes, unread_bytes = host.factory.settings.max_message_bytes, read_bytes + len(host.data)
        messages_in, bytes_in = self.messages_in - count, self.bytes_in - published_bytes
        # The next read mostly has the rest of a frame that was cut. It waits for one read only: it is copied.
        more: object = not count or (host.data and not frames.is_cut(host.data, limit_bytes, self._kinds))
        steps = 2 * STRETCH_FRAMES  # Autobahn takes the header and the payload in two
        while more and not flow.held and host.phase is self:
            if not steps or self.bytes_in - bytes_in > STRETCH_BYTES:
                end_turn(host)
                break
            steps -= 1
            more = self._receive_next(limit_bytes)
        if host.stage is Stage.OPEN:
            read_bytes = unread_bytes - len(host.data)
            self._account(self.messages_in - messages_in, max(read_bytes, self.bytes_in - bytes_in))

    def _receive_next(self, limit_bytes: int) -> object:
        """Publish the next common frames, or let Autobahn take a step; return whether there may be more."""
        host = self._host
        if self._kinds and not host.mid_message:
            plain, count, behind = frames.parse(host.data, limit_bytes, self._kinds)
            if count:
                host.data = host.data[behind:]
                host.flow.frames -= count
                self._publish(plain, count)
                return host.data
        return host.parse_next()

    def _publish(self, plain: bytes, count: int) -> None:
        """Publish messages, given as plain frames."""
        factory, size_bytes = self._host.factory, len(plain)
        self.messages_in += count
        self.bytes_in += size_bytes
        stats = factory.stats
        stats.messages_in += count
        stats.bytes_in += size_bytes
        factory.backplane.publish(self.grant.room, Run(plain, count, None if factory.settings.echo else self))

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
            host.factory.memory.grow(host, read_bytes + len(host.data))
        else:
            # The connection's deadline stays; when it passes, nothing is due.
            keepalive.message_by = math.inf
        # Without a call (0.2 % of a message): few reads pass it.
        is_over = flow.messages < 0 or flow.frames < 0 or flow.bytes < 0 or flow.controls < 0
        if is_over or now > flow.refilled_at:
            self._limit_rate()

    def _limit_rate(self) -> None:
        """Hold it if it is above its rate limits, or its address is."""
        if self._host.stage is Stage.OPEN and is_too_fast(self._host):
            limit_rate(self._host)

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
            host.reject(closecodes.TOO_BIG, f"{host.factory.settings.max_message_bytes} bytes at most")
        elif not self.grant.can_publish:
            host.reject(closecodes.READ_ONLY)
        elif not self._kinds & (opcode := frames.BINARY if is_binary else frames.TEXT):
            host.reject(closecodes.WRONG_TYPE)
        else:
            self._publish(frames.encode(opcode, payload), 1)

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
        self._kinds = 0
        self._host.send_close_frame(code, reason, is_reply)
        self._host.become(Stage.CLOSING)
        self._host.forget_message()

    def discard(self) -> None:
        """Free all input."""
        self._host.data = b""
        self._host.forget_message()
