"""Flow: reasons for which a connection is not read, and its rate limits.

Pure: no I/O, no clock. Must not live here: pausing the transport (:mod:`wsrelay.connection.reading`), handling messages
(the phases), turns of the reactor (:mod:`wsrelay.limits.turns`).

A peer above its rate limits is *held*: it is not read, so that TCP slows it down (backpressure). Its room may hold it,
too (slow policy ``pause-publishers``), and the backplane. It is read again when no reason is left.
"""

import math

from wsrelay.interfaces import Hold
from wsrelay.limits.rates import Allowance, Rates

__all__ = ["Flow"]


class Flow(Allowance):
    """Flow control of one open connection's input: its allowance, and the reasons for not reading.

    Args:
        rates: the rate limits.
        now: the time, in seconds.

    Attributes:
        messages, frames, bytes, controls: see :class:`wsrelay.limits.rates.Allowance`.
        held: the reasons for not reading, as bits of :class:`wsrelay.interfaces.Hold`; 0 while it is
            read. A plain integer, for speed.
        held_since: the time when the peer's deadlines stopped; infinite while they run.
    """

    __slots__ = ("held", "held_since")

    def __init__(self, rates: Rates, now: float) -> None:
        super().__init__(rates, now)
        self.held = 0
        self.held_since = math.inf

    def hold(self, why: Hold, now: float) -> bool:
        """Add a reason. It stops the deadlines.

        Returns:
            Whether reading has to be paused: there was no reason before.
        """
        self.held_since = min(self.held_since, now)
        was_read = not self.held
        self.held |= int(why)
        return was_read

    def release(self, why: int) -> bool:
        """Take reasons back.

        Returns:
            Whether no reason is left, and :meth:`resume` must be called in a later turn. Until then it counts as held,
            so that no deadline passes before the first read.
        """
        if not self.held & why:
            return False
        self.held &= ~int(why)
        if self.held:
            return False
        self.held = int(Hold.RESUMING)
        return True

    def resume(self, now: float) -> float | None:
        """Read again.

        Returns:
            For how long the deadlines stopped, in seconds; ``None`` if a new reason has come meanwhile.
        """
        if self.held != Hold.RESUMING:
            self.held &= ~int(Hold.RESUMING)
            return None
        self.held = 0
        since, self.held_since = self.held_since, math.inf
        return max(0.0, now - since)
