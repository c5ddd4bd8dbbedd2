"""Replays: subscribers that still get what was published before they joined.

They are in the room's log like those that lag, but nobody is to blame: they hold no publisher, and are late only by
their own time. Pure data. Must not live here: cursors (cursors), the slow policy (room).
"""

from collections import Counter
from typing import Final

from wsrelay.interfaces import Subscriber

__all__ = ["NO_REPLAYS", "Replays"]


class Replays:
    """Subscribers, each with the log's head when it joined.

    Attributes:
        cursors: offset → how many of them stand there. Read only.
    """

    __slots__ = ("_heads", "_since", "cursors")

    def __init__(self) -> None:
        #: Subscriber → the head when it joined, and its cursor.
        self._heads: dict[Subscriber, tuple[int, int]] = {}
        #: Subscriber → when it was seen first by :meth:`late`.
        self._since: dict[Subscriber, float] = {}
        self.cursors = Counter[int]()

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._heads)

    def __contains__(self, subscriber: object) -> bool:
        """Whether a subscriber gets old messages."""
        return subscriber in self._heads

    def begin(self, subscriber: Subscriber, cursor: int, head: int) -> "Replays":
        """A subscriber joins below the head; return the replays with it."""
        replays = Replays() if self is NO_REPLAYS else self
        replays._heads[subscriber] = head, cursor
        replays.cursors[cursor] += 1
        return replays

    def reach(self, subscriber: Subscriber, cursor: int) -> int:
        """A subscriber has reached an offset; from its own head on, it is one like the others.

        Returns:
            How many old messages it has been given now; 0 for others.
        """
        if subscriber not in self._heads:
            return 0
        head, before = self._heads[subscriber]
        self.end(subscriber)
        if cursor < head:
            self._heads[subscriber] = head, cursor
            self.cursors[cursor] += 1
        return min(cursor, head) - before

    def end(self, subscriber: Subscriber) -> int:
        """A subscriber leaves, any one; return the head when it joined, 0 for others."""
        head, cursor = self._heads.pop(subscriber, (0, 0))
        if head:
            self._since.pop(subscriber, None)
            self.cursors[cursor] -= 1
            if not self.cursors[cursor]:
                del self.cursors[cursor]
        return head

    def late(self, now: float, seconds: float) -> list[Subscriber]:
        """Return the subscribers whose replay takes longer than so many seconds.

        Args:
            now: the time; replays count from the first call after they have begun, so call this regularly.
            seconds: the limit.

        Complexity:
            One look at each.
        """
        since = self._since
        return [subscriber for subscriber in self._heads if now - since.setdefault(subscriber, now) >= seconds]

    def ended_but(self, subscribers: set[Subscriber]) -> bool:
        """Whether there are no others than these. For tests."""
        is_counted = self.cursors == Counter(cursor for _, cursor in self._heads.values())
        return self._since.keys() <= self._heads.keys() <= subscribers and is_counted and not NO_REPLAYS


#: Shared by rooms without any; never changed.
NO_REPLAYS: Final = Replays()
