"""Cursors: lagging subscribers by offset, the slowest first.

Pure data. Must not live here: messages (log), the slow policy (room).
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import Final

from wsrelay.interfaces import Subscriber
from wsrelay.rooms.invariants import require

__all__ = ["Cursors"]

#: Shared by rooms without cursors; never changed.
_NO_CURSORS: Final[dict[Subscriber, int]] = {}
_NO_GROUPS: Final[dict[int, dict[Subscriber, None]]] = {}
_NO_OFFSETS: Final[list[int]] = []


class Cursors:
    """Subscribers, each with an offset.

    Attributes:
        offsets: those with a subscriber, sorted; read only.

    Complexity:
        The slowest are known at once. Most subscribers that fall behind in one flush share an offset; a new offset
        costs a search, and a shift of larger ones, of which there mostly are none.
    """

    __slots__ = ("_cursors", "_groups", "offsets")

    def __init__(self) -> None:
        # Made with the first cursor: in most rooms there never is one.
        self._cursors: dict[Subscriber, int] = _NO_CURSORS
        self._groups: dict[int, dict[Subscriber, None]] = _NO_GROUPS
        self.offsets: list[int] = _NO_OFFSETS

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return len(self._cursors)

    def __iter__(self) -> Iterator[Subscriber]:
        """Iterate over the subscribers, in arbitrary order."""
        return iter(self._cursors)

    def get(self, subscriber: Subscriber) -> int | None:
        """Return the offset of a subscriber, ``None`` if it has none."""
        return self._cursors.get(subscriber)

    def put(self, subscriber: Subscriber, offset: int) -> None:
        """Set the offset of a subscriber, new or not."""
        self.pop(subscriber)
        if self._cursors is _NO_CURSORS:
            self._cursors, self._groups, self.offsets = {}, {}, []
        self._cursors[subscriber] = offset
        group = self._groups.get(offset)
        if group is None:
            group = self._groups[offset] = {}
            insort(self.offsets, offset)
        group[subscriber] = None

    def pop(self, subscriber: Subscriber) -> int | None:
        """Remove a subscriber; return its offset, ``None`` if it had none."""
        offset = self._cursors.pop(subscriber, None)
        if offset is not None:
            group = self._groups[offset]
            del group[subscriber]
            if not group:
                del self._groups[offset]
                del self.offsets[bisect_left(self.offsets, offset)]
        return offset

    def slowest(self, default: int) -> int:
        """Return the smallest offset, ``default`` without subscribers."""
        return self.offsets[0] if self.offsets else default

    def slowest_but(self, others: Mapping[int, int], default: int) -> int:
        """Return the smallest offset of a subscriber that is not among others; ``default`` without any.

        Args:
            others: offset → how many of the subscribers there are not meant.
            default: see above.

        Complexity:
            One look at each smaller offset.
        """
        return next((place for place in self.offsets if len(self._groups[place]) > others.get(place, 0)), default)

    def before(self, offset: int) -> list[Subscriber]:
        """Return the subscribers with a smaller offset, the slowest first."""
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
                "a shared container has changed": not (_NO_CURSORS or _NO_GROUPS or _NO_OFFSETS),
            }
        )
