"""Limiter: a rate limit per kind of log line, with a count of the rest. Pure: the caller has the clock.

Must not live here: the kinds, and the line with the count (the callers).
"""

from typing import Final, Generic, TypeVar

__all__ = ["LINES_PER_TICK", "TICK_SECONDS", "Limiter"]

#: Seconds between two ticks of a limiter, by convention.
TICK_SECONDS: Final = 0.5

#: The maximum number of lines per tick of a kind that a client can cause without joining a room.
LINES_PER_TICK: Final = 10

_Kind = TypeVar("_Kind")


class Limiter(Generic[_Kind]):
    """A token bucket for each kind of line, refilled by :meth:`tick`.

    Kinds are hashable, and few: a kind is forgotten when its bucket is full.

    Args:
        burst: lines of one kind that pass at once.
        refill: lines of one kind that pass per tick, on average.
    """

    def __init__(self, burst: int = LINES_PER_TICK, refill: int = LINES_PER_TICK) -> None:
        self._burst = burst
        self._refill = refill
        self._used: dict[_Kind, int] = {}

    def __bool__(self) -> bool:
        """Return whether any bucket is not full: ticks are needed."""
        return bool(self._used)

    def admit(self, kind: _Kind) -> bool:
        """Return whether a line passes; one that does not is counted."""
        used = self._used[kind] = self._used.get(kind, 0) + 1
        return used <= self._burst

    def tick(self) -> dict[_Kind, int]:
        """Refill all buckets.

        Returns:
            Kind → number of its lines that did not pass since the last tick.
        """
        left_out = {kind: used - self._burst for kind, used in self._used.items() if used > self._burst}
        rest = {kind: min(used, self._burst) - self._refill for kind, used in self._used.items()}
        self._used = {kind: used for kind, used in rest.items() if used > 0}
        return left_out
