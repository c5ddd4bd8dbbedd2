"""The publishers of a room: who of its members may publish, and whether they are held.

Pure. When they are to be held is the room's slow policy's; what being held means, the connection's.
"""

from collections.abc import Iterable

from wsrelay.interfaces import Subscriber
from wsrelay.stats import Stats

__all__ = ["Publishers"]


class Publishers:
    """Those of a room's members that may publish. Only the others are remembered, as they are few.

    Args:
        stats: where to count.

    Attributes:
        held: whether they are held.
    """

    __slots__ = ("_read_only", "_stats", "held")

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._read_only: set[Subscriber] = set()
        self.held = False

    def add(self, member: Subscriber, *, can_publish: bool) -> None:
        """A member has come; if it may publish, it is held as the others are."""
        if not can_publish:
            self._read_only.add(member)
        elif self.held:
            member.hold()

    def discard(self, member: Subscriber) -> None:
        """A member has left; nothing happens if it was none."""
        self._read_only.discard(member)
        if self.held:
            member.release()

    def count(self, members: int) -> int:
        """Return how many of the members may publish."""
        return members - len(self._read_only)

    def hold(self, held: bool, members: Iterable[Subscriber]) -> None:
        """Hold all of them, or release them; nothing happens where that is so already.

        Complexity:
            One call per member when it changes.
        """
        if held == self.held:
            return
        self.held = held
        self._stats.pauses += held
        for publisher in set(members) - self._read_only:
            if held:
                publisher.hold()
            else:
                publisher.release()
