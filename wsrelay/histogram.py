"""A histogram: how many observed values are at most so large. Pure data.

Not prometheus-client's: one of its observations costs a microsecond and more, most of it for a lock, and flushes are
observed one by one. What is exported, and under which name, is :mod:`wsrelay.admin.metrics`'.
"""

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Histogram"]


class Histogram:
    """Counts values by size.

    Args:
        bounds: ascending; a value falls under the first bound that it does not exceed, or beyond the last.

    Attributes:
        bounds: the same.
        counts: how many fell under each bound and under none smaller, and at the end, how many beyond the last.
        total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def __bool__(self) -> bool:
        """Whether anything was observed."""
        return any(self.counts)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
