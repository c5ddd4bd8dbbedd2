"""Cursors: subscribers that do not stand with the others, by where they stand; the slowest first.

Pure data. What there is to read from where they stand, and what becomes of the slowest, is the room's.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from wsrelay.interfaces import Subscriber
from wsrelay.rooms.invariants import require

__all__ = ["Cursors"]


class Cursors:
    """Subscribers, each with an offset.

    Attributes:
        offsets: those with a subscriber, sorted; read only.

    Complexity:
        The slowest are known at once, however many there are. Most that fall behind in one flush stand at one offset; a
        place that is new costs a search, and a shift of the offsets behind it, of which there mostly are none.
    """

    __slots__ = ("_cursors", "_groups", "offsets")

    def __init__(self) -> None:
        self._cursors: dict[Subscriber, int] = {}
        self._groups: dict[int, dict[Subscriber, None]] = {}
        self.offsets: list[int] = []

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._cursors)

    def __iter__(self) -> Iterator[Subscriber]:
        """Iterate over the subscribers, in no order that means anything."""
        return iter(self._cursors)

    def get(self, subscriber: Subscriber) -> int | None:
        """Return where a subscriber stands; ``None`` where it is not here."""
        return self._cursors.get(subscriber)

    def put(self, subscriber: Subscriber, offset: int) -> None:
        """Let a subscriber stand at an offset, wherever it was before."""
        self.pop(subscriber)
        self._cursors[subscriber] = offset
        group = self._groups.get(offset)
        if group is None:
            group = self._groups[offset] = {}
            insort(self.offsets, offset)
        group[subscriber] = None

    def pop(self, subscriber: Subscriber) -> int | None:
        """Remove a subscriber; return where it stood, ``None`` where it was not here."""
        offset = self._cursors.pop(subscriber, None)
        if offset is not None:
            group = self._groups[offset]
            del group[subscriber]
            if not group:
                del self._groups[offset]
                del self.offsets[bisect_left(self.offsets, offset)]
        return offset

    def slowest(self, default: int) -> int:
        """Return the smallest offset at which anybody stands, ``default`` where nobody is here."""
        return self.offsets[0] if self.offsets else default

    def before(self, offset: int) -> list[Subscriber]:
        """Return those that stand at a smaller offset, the slowest first."""
        places = self.offsets[: bisect_left(self.offsets, offset)]
        return [subscriber for place in places for subscriber in self._groups[place]]

    def check(self) -> None:
        """Raise ``AssertionError`` if the indexes disagree. For tests.

        Complexity:
            One look at each subscriber.
        """
        placed = {subscriber: offset for offset, group in self._groups.items() for subscriber in group}
        require(
            {
                "the groups are not those of the cursors": placed == self._cursors,
                "the offsets are not those of the groups": self.offsets == sorted(self._groups),
                "a group is empty": all(self._groups.values()),
            }
        )
