"""An audience: subscribers at one place in a room's log, grouped by encoding, each with its ``send``.

Must not live here: cursors (subscribers), bytes (batch).
"""

from collections.abc import Iterator
from itertools import islice

from wsrelay.interfaces import Send, Subscriber
from wsrelay.wire.frames import Encoding

__all__ = ["Audience"]


class Audience:
    """Subscribers in the order in which they came.

    Beside the kernel's part, a write to one of thousands costs mostly the memory that it touches. Here that is the
    ``send`` and its socket; the subscriber itself is not touched.

    Attributes:
        groups: encoding → subscriber → its ``send``; no group is empty. Read only; iterate over a copy while any
            subscriber may leave.
        count: the number of subscribers. Read only.
    """

    __slots__ = ("count", "groups")

    def __init__(self) -> None:
        self.groups: dict[Encoding, dict[Subscriber, Send]] = {}
        self.count = 0

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return self.count

    def __contains__(self, subscriber: object) -> bool:
        """Whether a subscriber is there."""
        return any(subscriber in group for group in self.groups.values())

    def __iter__(self) -> Iterator[Subscriber]:
        """Iterate over the subscribers; none may come or go meanwhile."""
        for group in self.groups.values():
            yield from group

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber, which is not there."""
        self.count += 1
        self.groups.setdefault(subscriber.encoding, {})[subscriber] = subscriber.send

    def discard(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber; return whether it was there."""
        group = self.groups.get(subscriber.encoding)
        if group is None or group.pop(subscriber, None) is None:
            return False
        self.count -= 1
        if not group:
            del self.groups[subscriber.encoding]
        return True

    def copy(self) -> "Audience":
        """Return an audience of its own with the same subscribers."""
        copied = Audience()
        copied.groups = {encoding: group.copy() for encoding, group in self.groups.items()}
        copied.count = self.count
        return copied

    def next_encoding(self) -> Encoding:
        """Return the first encoding; there must be a subscriber."""
        return next(iter(self.groups))

    def take(self, encoding: Encoding, count: float) -> dict[Subscriber, Send]:
        """Remove and return the first ``count`` subscribers with that encoding, at least one."""
        group = self.groups[encoding]
        count = max(1, count)
        if count >= len(group):
            self.count -= len(group)
            return self.groups.pop(encoding)
        taken = dict(islice(group.items(), int(count)))
        self.count -= len(taken)
        # One by one: a new dict of the rest for each call would cost a hundred times as much in a very large room.
        for subscriber in taken:
            del group[subscriber]
        return taken
