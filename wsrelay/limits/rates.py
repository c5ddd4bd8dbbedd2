"""Rate limits: token buckets for new connections, and the allowance of one connection. Pure: the time is passed in.

Must not live here: refusing, pausing and closing (connection), limits on counts (:mod:`wsrelay.limits.admission`).
"""

import math
from typing import Final

from wsrelay.message import MESSAGE_OVERHEAD_BYTES
from wsrelay.settings import Settings

__all__ = ["MOST_DEBT_SECONDS", "Allowance", "Rate", "Rates", "TokenBucket", "Used"]

#: What one publisher may send at once is at most this share of a room's log, counted as the log counts it, so that a
#: subscriber that keeps reading is not evicted by it. Bytes and messages have such a share each.
_LOG_SHARE: Final = 1 / 2

#: The most that an address pays for in one go, in seconds: others behind it wait as long.
MOST_DEBT_SECONDS: Final = 10.0

#: Stands for no limit: a rate out of reach, but a number, so that differences are numbers, too.
_OFF: Final = 1e15

#: Messages, frames, bytes and control frames.
Used = tuple[float, float, float, float]


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
        if now > self._at:
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
        if now > self._at:
            self._refill(now)
        return self._tokens >= self._rate.burst

    def _refill(self, now: float) -> None:
        # Fractions of tokens are kept, so that frequent calls lose nothing.
        self._tokens = min(self._rate.burst, self._tokens + (now - self._at) * self._rate.per_second)
        self._at = now


class Rates:
    """Rate limits that many allowances share, so that they all see :meth:`refresh`.

    Args:
        settings: the four rates, ``burst_seconds``, ``room_log_bytes`` and ``address_rate_factor`` are used.
        addresses: how many addresses they are for; 0 is one connection.

    Attributes:
        per_second: messages, frames, bytes and control frames per second.
        burst: the burst of each. For one connection, messages and bytes together fill a room's log at most.
    """

    per_second: Used
    burst: Used

    def __init__(self, settings: Settings, addresses: int = 0) -> None:
        self._settings = settings
        self._addresses = addresses
        self.refresh()

    def refresh(self) -> None:
        """Derive the rates from the settings again, after these have changed."""
        settings, times, most_bytes = self._settings, 1.0, self._settings.room_log_bytes * _LOG_SHARE
        if self._addresses:
            times, most_bytes = self._addresses * settings.address_rate_factor, math.inf
        messages = times * settings.max_messages_per_second or _OFF
        frames = times * settings.max_frames_per_second or _OFF
        size = times * settings.max_bytes_per_second or _OFF
        controls = times * settings.max_control_frames_per_second or _OFF
        self.per_second = messages, frames, size, controls
        self.burst = (
            self._burst(messages, most_bytes / MESSAGE_OVERHEAD_BYTES),
            self._burst(frames, math.inf),
            self._burst(size, most_bytes),
            self._burst(controls, math.inf),
        )

    def _burst(self, per_second: float, most: float) -> float:
        """Return the tokens of a full bucket, one at least."""
        return per_second if per_second == _OFF else max(1.0, min(per_second * self._settings.burst_seconds, most))


class Allowance:
    """The allowance of one connection, or of an address: four token buckets in one, which may be overdrawn.

    They are charged after reading, so that the debt is bounded by one read. It is paid by pausing reading.

    Args:
        rates: the rates.
        now: seconds on a monotonic clock; the time of the last sweep is exact enough.

    Attributes:
        messages, frames, bytes, controls: tokens left; the reader subtracts from them, then calls :meth:`settle`.
        refilled_at: when tokens were added last.
    """

    __slots__ = ("_over_since", "_rates", "_settled", "bytes", "controls", "frames", "messages", "refilled_at")

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        #: The tokens after the last refill. One tuple for all that are full, which saves memory.
        self._settled = rates.burst
        self.messages, self.frames, self.bytes, self.controls = rates.burst
        self.refilled_at = now
        self._over_since = math.inf

    @property
    def tokens(self) -> Used:
        """The tokens left of each bucket."""
        return self.messages, self.frames, self.bytes, self.controls

    @property
    def is_overdrawn(self) -> bool:
        """Whether more was taken than the rates allow."""
        return self.messages < 0 or self.frames < 0 or self.bytes < 0 or self.controls < 0

    @property
    def is_full(self) -> bool:
        """Whether nothing is missing."""
        return self.tokens == self._rates.burst

    def settle(self, now: float) -> Used:
        """Refill the buckets.

        Returns:
            The tokens that were taken since the last call.
        """
        before, left, most, per_second = self._settled, self.tokens, self._rates.burst, self._rates.per_second
        passed = max(0.0, now - self.refilled_at)
        self.messages = min(most[0], left[0] + passed * per_second[0])
        self.frames = min(most[1], left[1] + passed * per_second[1])
        self.bytes = min(most[2], left[2] + passed * per_second[2])
        self.controls = min(most[3], left[3] + passed * per_second[3])
        self.refilled_at = max(now, self.refilled_at)  # no number of its own for each connection
        self._settled = most if self.is_full else self.tokens
        if all(have * 2 >= full for have, full in zip(self._settled, most, strict=True)):
            self._over_since = math.inf
        return before[0] - left[0], before[1] - left[1], before[2] - left[2], before[3] - left[3]

    def charge(self, used: Used, now: float) -> None:
        """Refill the buckets, then take tokens, down to a debt of :data:`MOST_DEBT_SECONDS`."""
        self.settle(now)
        per_second = self._rates.per_second
        self.messages = max(self.messages - used[0], -MOST_DEBT_SECONDS * per_second[0])
        self.frames = max(self.frames - used[1], -MOST_DEBT_SECONDS * per_second[1])
        self.bytes = max(self.bytes - used[2], -MOST_DEBT_SECONDS * per_second[2])
        self.controls = max(self.controls - used[3], -MOST_DEBT_SECONDS * per_second[3])

    def wait_seconds(self) -> float:
        """Return the seconds from the last refill until all debts are paid."""
        debts = zip(self.tokens, self._rates.per_second, strict=True)
        return max((-have / per_second for have, per_second in debts if have < 0), default=0.0)

    def over_seconds(self, now: float) -> float:
        """Return the seconds from the beginning of the excess until its debt is paid. To be called when overdrawn.

        An excess ends when all buckets are half full.
        """
        self._over_since = min(self._over_since, now)
        return now - self._over_since + self.wait_seconds()
