"""Limits on rates: token buckets for connects, and what one connection may still send. Pure: the time is passed in.

What is refused, paused or closed when a limit is reached is the caller's. How many there may be of each is
:mod:`wsrelay.limits.admission`'s.
"""

import math

from wsrelay.settings import Settings

__all__ = ["Allowance", "Rates", "TokenBucket"]


class TokenBucket:
    """Tokens that come back at an even rate, up to as many as a burst may take. Begins full.

    Args:
        per_second: how many tokens come back in a second; 0 for no limit at all.
        burst_seconds: how many seconds' worth of tokens it holds, but never less than one token.
        now: the time, in seconds on any clock that does not go back.
    """

    __slots__ = ("_at", "_most", "_per_second", "_tokens")

    def __init__(self, per_second: float, burst_seconds: float, now: float) -> None:
        self._per_second = per_second or math.inf
        self._most = max(1.0, self._per_second * burst_seconds)
        self._tokens = self._most
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one. Asking in vain costs nothing."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Give back a token that was taken for nothing."""
        self._tokens = min(self._most, self._tokens + 1)

    def wait_seconds(self) -> float:
        """Return how long it takes, from when a token was last asked for, until there is one."""
        return max(0.0, 1 - self._tokens) / self._per_second

    def is_full(self, now: float) -> bool:
        """Return whether it is as if nobody had ever taken a token."""
        self._refill(now)
        return self._tokens >= self._most

    def _refill(self, now: float) -> None:
        # By the time that has passed, fractions kept: whoever asks often gets no less than who asks seldom.
        if now > self._at:
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_second)
            self._at = now


class Rates:
    """What every connection may send per second, and in one burst.

    Args:
        settings: ``max_messages_per_second``, ``max_frames_per_second`` and ``max_bytes_per_second``, of which 0 is no
            limit, and ``burst_seconds``.

    Attributes:
        per_second: messages, frames and bytes per second.
        burst: the most of each that may come at once.
    """

    def __init__(self, settings: Settings) -> None:
        limits = (settings.max_messages_per_second, settings.max_frames_per_second, settings.max_bytes_per_second)
        self.per_second = tuple(limit or math.inf for limit in limits)
        self.burst = tuple(max(1.0, each * settings.burst_seconds) for each in self.per_second)


class Allowance:
    """What one connection may still send: three token buckets in one, that may be overdrawn.

    Overdrawn, because what has been read has been read; how far is bounded by one read. The debt is paid by waiting.

    Args:
        rates: how fast it comes back.
        now: the time, in seconds. Coarse is enough: it is looked at once for each read.

    Attributes:
        messages, frames, bytes: what is left; taken off by whoever reads, before :meth:`is_overdrawn` is asked.
    """

    __slots__ = ("_at", "_over_since", "_rates", "bytes", "frames", "messages")

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self.messages, self.frames, self.bytes = rates.burst
        self._at = now
        self._over_since = math.inf

    def is_overdrawn(self, now: float) -> bool:
        """Return whether more was sent than may be."""
        if now > self._at:
            self._refill(now)
        return self.messages < 0 or self.frames < 0 or self.bytes < 0

    def over_seconds(self, now: float) -> float:
        """Return for how long it has been overdrawn when its debt is paid, without having been half full in between.

        Asked when it is overdrawn.
        """
        self._over_since = min(self._over_since, now)
        left = zip((self.messages, self.frames, self.bytes), self._rates.per_second, strict=True)
        return now - self._over_since + max(-have / per_second for have, per_second in left if have < 0)

    def _refill(self, now: float) -> None:
        passed, self._at = now - self._at, now
        (messages, frames, bytes_), (most_messages, most_frames, most_bytes) = self._rates.per_second, self._rates.burst
        self.messages = min(most_messages, self.messages + passed * messages)
        self.frames = min(most_frames, self.frames + passed * frames)
        self.bytes = min(most_bytes, self.bytes + passed * bytes_)
        if self.messages * 2 >= most_messages and self.frames * 2 >= most_frames and self.bytes * 2 >= most_bytes:
            self._over_since = math.inf
