"""Rate limits: token buckets for new connections, and the allowance of one connection. Pure: the time is passed in.

Must not live here: refusing, pausing and closing (connection), limits on counts (:mod:`wsrelay.limits.admission`).
"""

import math

from wsrelay.settings import Settings

__all__ = ["Allowance", "Rate", "Rates", "TokenBucket"]


class Rate:
    """A rate limit that many buckets share, so that they all see a change.

    Args:
        per_second: tokens per second; 0 is no limit.
        burst_seconds: burst, in seconds' worth of tokens; at least one token.

    Attributes:
        per_second: tokens per second.
        burst: tokens of a full bucket.
    """

    __slots__ = ("burst", "per_second")

    def __init__(self, per_second: float, burst_seconds: float) -> None:
        self.change(per_second, burst_seconds)

    def change(self, per_second: float, burst_seconds: float) -> None:
        """Set the rate; the arguments are those of the constructor."""
        self.per_second = per_second or math.inf
        self.burst = max(1.0, self.per_second * burst_seconds)


class TokenBucket:
    """Tokens that are refilled at an even rate, up to a burst. Begins full.

    Args:
        rate: the rate and the burst.
        now: seconds on a monotonic clock.
    """

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Return a token that was not used."""
        self._tokens = min(self._rate.burst, self._tokens + 1)

    def wait_seconds(self) -> float:
        """Return the seconds from the last :meth:`take` until a token is available."""
        return max(0.0, 1 - self._tokens) / self._rate.per_second

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is full."""
        self._refill(now)
        return self._tokens >= self._rate.burst

    def _refill(self, now: float) -> None:
        # Fractions of tokens are kept, so that frequent calls lose nothing.
        if now > self._at:
            self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_second)
            self._at = now


class Rates:
    """The rate limits of every connection; all allowances share them, so that they all see :meth:`refresh`.

    Args:
        settings: ``max_messages_per_second``, ``max_frames_per_second``, ``max_bytes_per_second`` and
            ``burst_seconds`` are used.

    Attributes:
        per_second: messages, frames and bytes per second.
        burst: the burst of each.
    """

    per_second: tuple[float, ...]
    burst: tuple[float, ...]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.refresh()

    def refresh(self) -> None:
        """Derive the rates from the settings again, after these have changed."""
        settings = self._settings
        limits = (settings.max_messages_per_second, settings.max_frames_per_second, settings.max_bytes_per_second)
        self.per_second = tuple(limit or math.inf for limit in limits)
        self.burst = tuple(max(1.0, each * settings.burst_seconds) for each in self.per_second)


class Allowance:
    """The allowance of one connection: three token buckets in one, which may be overdrawn.

    They are charged after reading, so that the debt is bounded by one read. It is paid by pausing reading.

    Args:
        rates: the rates.
        now: seconds on a monotonic clock; the time of the last sweep is exact enough.

    Attributes:
        messages, frames, bytes: tokens left; the reader subtracts from them, then calls :meth:`is_overdrawn`.
        refilled_at: when tokens were added last.
    """

    __slots__ = ("_over_since", "_rates", "bytes", "frames", "messages", "refilled_at")

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self.messages, self.frames, self.bytes = rates.burst
        self.refilled_at = now
        self._over_since = math.inf

    def is_overdrawn(self, now: float) -> bool:
        """Return whether the connection sent more than its rates allow."""
        if now > self.refilled_at:
            self._refill(now)
        return self.messages < 0 or self.frames < 0 or self.bytes < 0

    def over_seconds(self, now: float) -> float:
        """Return the seconds from the beginning of the excess until its debt is paid. To be called when overdrawn.

        An excess ends when all three buckets are half full.
        """
        self._over_since = min(self._over_since, now)
        left = zip((self.messages, self.frames, self.bytes), self._rates.per_second, strict=True)
        return now - self._over_since + max(-have / per_second for have, per_second in left if have < 0)

    def _refill(self, now: float) -> None:
        passed, self.refilled_at = now - self.refilled_at, now
        (messages, frames, bytes_), (most_messages, most_frames, most_bytes) = self._rates.per_second, self._rates.burst
        self.messages = min(most_messages, self.messages + passed * messages)
        self.frames = min(most_frames, self.frames + passed * frames)
        self.bytes = min(most_bytes, self.bytes + passed * bytes_)
        if self.messages * 2 >= most_messages and self.frames * 2 >= most_frames and self.bytes * 2 >= most_bytes:
            self._over_since = math.inf
