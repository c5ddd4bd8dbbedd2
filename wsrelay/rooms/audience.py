"""An audience: subscribers that stand at one place in a room's log, by encoding, ready to be written to.

Where that place is, and what is written, is the room's.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

from wsrelay.interfaces import Send, Subscriber
from wsrelay.wire.frames import Encoding

__all__ = ["Audience"]


class Audience:
    """Subscribers in the order in which they came, each with its ``send``.

    What a write to one of thousands costs beside the kernel's part is mostly the memory that it touches. Here that is
    the ``send`` and its socket; the subscriber is not looked at.
    """

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[Encoding, dict[Subscriber, Send]] = {}

    def __len__(self) -> int:
        """Return the number of subscribers."""
        return sum(map(len, self._groups.values()))

    def __bool__(self) -> bool:
        """Whether there is anybody."""
        return bool(self._groups)

    def __contains__(self, subscriber: object) -> bool:
        """Whether a subscriber is there."""
        return any(subscriber in group for group in self._groups.values())

    def __iter__(self) -> Iterator[tuple[Encoding, Mapping[Subscriber, Send]]]:
        """Iterate over encodings and who has each; subscribers may be removed meanwhile."""
        return iter(list(self._groups.items()))

    def add(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        self._groups.setdefault(subscriber.encoding, {})[subscriber] = subscriber.send

    def discard(self, subscriber: Subscriber) -> bool:
        """Remove a subscriber; return whether it was there."""
        group = self._groups.get(subscriber.encoding)
        if group is None or group.pop(subscriber, None) is None:
            return False
        if not group:
            del self._groups[subscriber.encoding]
        return True

    def copy(self) -> "Audience":
        """Return the same subscribers as an audience of its own."""
        copied = Audience()
        copied._groups = {encoding: group.copy() for encoding, group in self._groups.items()}
        return copied

    def next_encoding(self) -> Encoding:
        """Return the encoding of those whose turn is next."""
        return next(iter(self._groups))

    def take(self, encoding: Encoding, count: float) -> Mapping[Subscriber, Send]:
        """Remove and return the first with that encoding: as many as ``count``, but at least one."""
        group = self._groups[encoding]
        count = max(1, count)
        if count >= len(group):
            return self._groups.pop(encoding)
        taken = dict(islice(group.items(), int(count)))
        # Not a list of items: thousands of tuples at a time keep the garbage collector busy.
        self._groups[encoding] = dict(islice(group.items(), int(count), None))
        return taken
