"""The publishers of a room: which members may publish, and whether they are held.

Pure. Must not live here: when to hold them (room), what a held connection does (connection).
"""

from collections.abc import Iterable
from typing import Final

from wsrelay.interfaces import Subscriber
from wsrelay.rooms.invariants import require
from wsrelay.stats import Stats

__all__ = ["HIGH_WATER", "LOW_WATER", "Publishers"]

#: Hysteresis of the policy pause-publishers, as shares of the log: publishers are held when the slowest subscriber lags
#: by more than the first, and released when it lags by less than the second.
HIGH_WATER: Final = 3 / 4
LOW_WATER: Final = 1 / 4


class Publishers:
    """The members of a room that may publish. Only the others are stored, as they are few.

    Args:
        stats: where to count.

    Attributes:
        held: whether they are held.
    """

    __slots__ = ("_read_only", "_stats", "held")

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        #: A dict as a set: most rooms have none, and an empty set takes 150 bytes more.
        self._read_only: dict[Subscriber, None] = {}
        self.held = False

    def add(self, member: Subscriber, *, can_publish: bool) -> None:
        """Add a member; if it may publish, it is held as the others are."""
        if not can_publish:
            self._read_only[member] = None
        elif self.held:
            member.hold()

    def discard(self, member: Subscriber) -> None:
        """Remove a member, if it is one; it is released."""
        self._read_only.pop(member, None)
        if self.held:
            member.release()

    def count(self, members: int) -> int:
        """Return how many of ``members`` members may publish."""
        return members - len(self._read_only)

    def hold(self, held: bool, members: Iterable[Subscriber]) -> None:
        """Hold or release all publishers; nothing happens where that is so already.

        Complexity:
            One call per publisher when it changes.
        """
        if held == self.held:
            return
        self.held = held
        self._stats.pauses += held
        for publisher in set(members) - self._read_only.keys():
            if held:
                publisher.hold()
            else:
                publisher.release()

    def check(self, members: set[Subscriber]) -> None:
        """Raise ``AssertionError`` unless all members stored are members of the room. For tests."""
        require({"a stored member has left": self._read_only.keys() <= members})
