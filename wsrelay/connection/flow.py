"""What comes in on an open connection: how much of it, how fast, and when it is not read for a while.

What it means is :class:`wsrelay.connection.protocol.RelayProtocol`'s, which builds on this. A peer that sends more than
it may is first *held*: it is not read, so that TCP slows it down. Others hold it as well; it is read again when nobody
does.
"""

import math
from typing import Any, Final

from wsrelay import closecodes
from wsrelay.connection.keepalive import KeepAlive
from wsrelay.limits.rates import Allowance

__all__ = ["STRETCH_BYTES", "STRETCH_FRAMES", "Intake"]

#: Why a peer is held: it sent more than it may; its room asked for it; others have their turn; it is read again soon.
_RATE: Final = 1
_ROOM: Final = 2
_TURN: Final = 4
_RESUMING: Final = 8

#: The most uncommon frames of one connection in one reactor turn. One takes Autobahn's parser some 40 µs, and a read
#: has room for 10 000 of them (TRAPS 4).
STRETCH_FRAMES: Final = 256

#: The most bytes of messages in one turn, about: a read of 64 KiB may inflate to 60 MiB.
STRETCH_BYTES: Final = 2**20


class Intake(KeepAlive):
    """A connection that does not take more than it may.

    Attributes:
        allowance: what it may still send; set when it opens.
        held: why it is not read just now, as bits; 0 while it is.
    """

    allowance: Allowance
    held = 0

    def take_common_frames(self) -> bool:
        """Take frames that need no Autobahn off the unread data; return whether there were any, and there is more."""
        raise NotImplementedError

    def consumeData(self) -> None:
        """Take what has been read, as far as may be.

        Autobahn's loop, with the common frames taken out before it sees them: its parser is quadratic in the frames of
        a read (TRAPS 4).
        """
        if self.held:  # TLS hands on what it has decrypted already
            return
        allowance, stats = self.allowance, self.factory.stats
        unread, messages_in, bytes_in = len(self.data), stats.messages_in, stats.bytes_in
        for _ in range(2 * STRETCH_FRAMES):  # Autobahn takes the header and the payload in two steps
            if not (self.take_common_frames() or self.processData()) or self.held or self.state == self.STATE_CLOSED:
                break
            if stats.bytes_in - bytes_in > STRETCH_BYTES:
                self._end_turn()
                break
        else:
            self._end_turn()
        if self.state == self.STATE_OPEN:
            # What came on the wire, or what was published of it: inflated, that is more.
            allowance.bytes -= max(unread - len(self.data), stats.bytes_in - bytes_in)
            self._account(stats.messages_in != messages_in)

    def onFrameBegin(self) -> None:
        """Count a frame that Autobahn reads; a control frame or an empty one is one, too."""
        self.allowance.frames -= 1
        super().onFrameBegin()

    def _account(self, published: bool) -> None:
        """Look at what a read has brought: whether it was too much, and whether a message has come to its end."""
        now = self.factory.now
        within: Any = self.current_frame or self.inside_message
        if within or self.data:
            self.message_goes_on(published, now)
        else:
            self.message_is_done()
        if self.allowance.is_overdrawn(now):
            self._slow_down(now)

    def _slow_down(self, now: float) -> None:
        """Hold a peer that sends too much. Peer sees: TCP taking no more; 1008 after ``rate_grace_seconds`` of that."""
        if self.allowance.over_seconds(now) > self.factory.settings.rate_grace_seconds:
            self.reject(closecodes.TOO_FAST)
            return
        self.factory.stats.slowdowns += 1
        self.factory.slowed_down.add(self)
        self._hold(_RATE)

    def speed_up(self) -> None:
        """Read a peer again that was slowed down, if what it owes is paid. Called by the sweep."""
        if not self.allowance.is_overdrawn(self.factory.now):
            self.factory.slowed_down.discard(self)
            self._release(_RATE)

    def hold(self) -> None:
        """The room takes no more for now. See :class:`wsrelay.interfaces.Subscriber`."""
        self._hold(_ROOM)

    def release(self) -> None:
        """The room takes more. See :class:`wsrelay.interfaces.Subscriber`."""
        self._release(_ROOM)

    def _end_turn(self) -> None:
        """Let others have their turn before the rest of what was read is taken."""
        self._hold(_TURN)
        self.factory.reactor.callLater(0, self._release, _TURN)

    def _hold(self, why: int) -> None:
        # Before the 101 as well: it joins its room then, and that may hold it. While it is closing others have their
        # turn, too: what it still sends is discarded frame by frame.
        if why != _TURN:
            if self.state not in (self.STATE_CONNECTING, self.STATE_OPEN):
                return
            self.held_since = min(self.held_since, self.seconds())  # turns that it causes itself do not count
        if not self.held:
            self.transport.pauseProducing()
        self.held |= why

    def _release(self, why: int) -> None:
        if self.held & why:
            self.held &= ~why
            if not self.held:
                # Later: whoever releases is in the middle of something. Until then it counts as held, so that no
                # deadline is found to have passed before it was read again.
                self.held = _RESUMING
                self.factory.reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        if self.held != _RESUMING or self.state == self.STATE_CLOSED:
            self.held &= ~_RESUMING
            return
        self.held = 0
        self.transport.resumeProducing()
        held_since, self.held_since = self.held_since, math.inf
        if self.state == self.STATE_OPEN:
            self.read_again(max(0.0, self.seconds() - held_since))
        if self.data:
            self.dataReceived(b"")

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Close; from here on the peer is read in any case, or TCP would overtake the close frame with a reset."""
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._release(self.held)
