"""Scheduler: which rooms have something to deliver, and when that is done. Pure: times are asked from outside.

Must not live here: what a flush brings to whom (room). Only the order of rooms, the work of one reactor turn, and how
long it took.
"""

import math
from collections.abc import Callable
from typing import Final

from wsrelay.rooms.room import Room
from wsrelay.stats import Stats

__all__ = ["LEAST_WRITES", "STRETCH_SECONDS", "STRETCH_WRITES", "Scheduler"]

#: How many writes, about, are done in one reactor turn before others have theirs. One costs 3 to 24 µs, most of it the
#: kernel's, so that the reactor is held for 25 ms.
STRETCH_WRITES: Final = 1024

#: Rooms get equal parts of these writes, but at least so many, and in turn what others leave: a room whose flush takes
#: several turns does not keep small ones waiting (deficit round robin).
LEAST_WRITES: Final = 16

#: The time of a stretch in seconds, compared after each room: deflate takes longer than the writes.
STRETCH_SECONDS: Final = 0.025

#: Stands for any number of writes; infinite ones cannot be subtracted.
_ENDLESS: Final = 1e18


class Scheduler:
    """One flush per reactor turn in which anything was published.

    Args:
        stats: where to count how much a turn has brought, and how long that took.
        call_soon: calls a function at the end of this reactor turn.
        seconds: the time on a clock that is fine enough to measure a flush.

    Attributes:
        lagging: rooms with lagging subscribers, and, until the next tick, those that had some. A dict as an ordered
            set.
        crowded: name → room for crowded rooms, see :class:`wsrelay.rooms.hub.Hub`; forgotten when they are flushed.
    """

    def __init__(
        self, stats: Stats, call_soon: Callable[[Callable[[], None]], object], seconds: Callable[[], float]
    ) -> None:
        self._stats = stats
        self._call_soon = call_soon
        self._seconds = seconds
        #: Rooms with messages for this turn's flush, in the order of their first ones → the bytes published since.
        self._pending: dict[Room, int] = {}
        #: Rooms whose messages of this turn were sent at once.
        self._ending: list[Room] = []
        self._scheduled = False
        self.lagging: dict[Room, None] = {}
        self.crowded: dict[str, Room] = {}

    def __contains__(self, room: Room) -> bool:
        """Whether a room is going to be flushed."""
        return room in self._pending

    def add(self, room: Room, size_bytes: int) -> int:
        """Flush a room at the end of this turn.

        Args:
            room: that room.
            size_bytes: of what is published in it now.

        Returns:
            The bytes that were published in it since its last flush.
        """
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush_stretch)
        published = self._pending[room] = self._pending.get(room, 0) + size_bytes
        return published

    def add_end(self, room: Room) -> None:
        """Tell a room when this turn ends."""
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush_stretch)
        self._ending.append(room)

    def flush(self, writes: float = math.inf, until: float = math.inf) -> None:
        """Deliver all pending messages. See :meth:`wsrelay.rooms.hub.Hub.flush`.

        Args:
            writes: as there.
            until: begin no further room after this time.
        """
        pending, unfinished = self._pending, dict[Room, int]()
        writes = min(writes, _ENDLESS)
        share = max(LEAST_WRITES, writes / len(pending)) if len(pending) > 1 else writes
        try:
            while pending and writes > 0:
                for room in list(pending):
                    published = pending.pop(room)
                    given = share if share < writes else writes
                    left = room.flush(given)
                    writes += left - given
                    if room.log.size_bytes and room.lagging:
                        self.lagging[room] = None
                    if left <= 0 and room.pending:
                        unfinished[room] = published
                    if writes <= 0 or self._seconds() > until:
                        return
                if not unfinished:
                    return
                pending |= unfinished
                unfinished.clear()
        finally:
            # Also when a room raises: the others must not wait until something is published to them again.
            if unfinished:
                pending |= unfinished
            if pending and not self._scheduled:
                self._scheduled = True
                self._call_soon(self._flush_stretch)

    def _flush_stretch(self) -> None:
        self._scheduled = False
        if self._ending:
            for room in self._ending:
                room.end_turn()
            self._ending.clear()
            if not self._pending:
                self.crowded.clear()
                return
        stats = self._stats
        began, deliveries = self._seconds(), stats.deliveries
        self.flush(STRETCH_WRITES, began + STRETCH_SECONDS)
        if self.crowded:
            for name in [name for name, room in self.crowded.items() if room not in self._pending]:
                del self.crowded[name]
        # Once a turn, half a µs: of the 25 that the shortest turn takes.
        stats.flush_seconds.observe(self._seconds() - began)
        stats.flush_deliveries.observe(stats.deliveries - deliveries)
