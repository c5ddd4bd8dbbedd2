"""Scheduler: the rooms with something to deliver, and when that is done. Pure: the time is asked from outside.

What a flush brings to whom is the room's. Here is only whose turn it is, how much is done in one turn of the reactor,
and how long that took.
"""

import math
from collections.abc import Callable
from typing import Any, Final

from wsrelay.rooms.room import Room
from wsrelay.stats import Stats

__all__ = ["STRETCH_WRITES", "Scheduler"]

#: How many writes, about, are done in one reactor turn before others have theirs. One costs 3 to 24 µs, most of it the
#: kernel's, so that the reactor is held for 25 ms.
STRETCH_WRITES: Final = 1024


class Scheduler:
    """One flush per reactor turn in which anything was published.

    Args:
        stats: where to count how much a turn has brought, and how long that took.
        call_soon: calls a function at the end of this reactor turn.
        seconds: the time on a clock that is fine enough to measure a flush.

    Attributes:
        lagging: rooms that keep something for somebody who is behind; also such that did. A dict as an ordered set.
    """

    def __init__(
        self, stats: Stats, call_soon: Callable[[Callable[[], None]], Any], seconds: Callable[[], float]
    ) -> None:
        self._stats = stats
        self._call_soon = call_soon
        self._seconds = seconds
        #: Rooms with messages that wait for this turn's flush. A dict as an ordered set.
        self._pending: dict[Room, None] = {}
        self._scheduled = False
        self.lagging: dict[Room, None] = {}

    def add(self, room: Room) -> None:
        """Something is about to be published in a room: it is flushed at the end of this turn."""
        self._pending[room] = None
        self._schedule()

    def flush(self, writes: float = math.inf) -> None:
        """Deliver what is pending. See :meth:`wsrelay.rooms.hub.Hub.flush`."""
        turns, unfinished = list(self._pending), dict[Room, None]()
        try:
            for room in turns:
                if writes <= 0:
                    break
                del self._pending[room]
                writes = room.flush(writes)
                if room.log.size_bytes:
                    self.lagging[room] = None
                if room.pending:
                    unfinished[room] = None
        finally:
            # Also when a room raises: the others must not wait until somebody publishes to them again.
            self._pending |= unfinished
            if self._pending:
                self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush_stretch)

    def _flush_stretch(self) -> None:
        self._scheduled = False
        stats = self._stats
        began, deliveries = self._seconds(), stats.deliveries
        self.flush(STRETCH_WRITES)
        # Once a turn, half a µs: of the 25 that the shortest turn takes.
        stats.flush_seconds.observe(self._seconds() - began)
        stats.flush_deliveries.observe(stats.deliveries - deliveries)
