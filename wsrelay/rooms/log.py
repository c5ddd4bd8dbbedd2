"""A room's log: messages with consecutive offsets.

Pure data. Must not live here: cursors (subscribers), the slow policy (room), joined frames (batch).
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate, takewhile
from operator import attrgetter
from typing import Final

from wsrelay.message import FRAME_OVERHEAD_BYTES, Message
from wsrelay.rooms.batch import Batch
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.invariants import require
from wsrelay.stats import Stats

__all__ = ["OWN_MESSAGES", "SLICE_BYTES", "Age", "Log"]

#: The most bytes written to a subscriber before it is asked again whether it is paused (a single message may be more).
#: Twisted pauses at 64 KiB of unsent bytes, so a transport holds about twice that at most.
SLICE_BYTES: Final = 65536

#: The most messages in a slice.
_MOST_MESSAGES: Final = SLICE_BYTES // Message.binary(b"").size_bytes + 1

#: How many messages of its own a subscriber skips back at most, to the newest one of another.
OWN_MESSAGES: Final = 256

_PLAIN: Final = attrgetter("plain")

#: Marks per maximum age. More are more exact, and cost memory in rooms that lag.
_MARKS: Final = 16


class Log:
    """Messages by offset. The room bounds it with :meth:`trim`.

    Args:
        stats: where the cost of all logs is added up.
        cache: the encoded frames of messages; forgets those that the log forgets.

    Attributes:
        cache: the same.
        tail: the offset of the oldest message held.
        head: the offset that the next message will get.
        size_bytes: the cost of the messages held.
        published_bytes: the size of all messages that were ever added, as plain frames.
    """

    __slots__ = ("_messages", "_stats", "cache", "head", "published_bytes", "size_bytes", "tail")

    def __init__(self, stats: Stats, cache: FrameCache) -> None:
        self._stats = stats
        self.cache = cache
        self._messages: list[Message] = []
        self.tail = 0
        self.head = 0
        self.size_bytes = 0
        self.published_bytes = 0

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the messages held, the oldest first; none may come or go meanwhile."""
        return iter(self._messages)

    def extend(self, messages: Sequence[Message]) -> int:
        """Add messages at the head; return their bytes, as plain frames."""
        self._messages.extend(messages)
        self.head += len(messages)
        published_bytes = sum(map(len, map(_PLAIN, messages)))
        size_bytes = published_bytes + FRAME_OVERHEAD_BYTES * len(messages)
        self.published_bytes += published_bytes
        self.size_bytes += size_bytes
        self._stats.log_bytes += size_bytes
        return published_bytes

    def batch(self, start: int, end: int) -> Batch:
        """Return messages from an offset on, at most :data:`SLICE_BYTES` of them but at least one.

        Args:
            start: from :attr:`tail` to below ``end``.
            end: the offset to stop at, at most :attr:`head`.

        Raises:
            ValueError: there is no message; an empty batch would never end a wait for more.

        Complexity:
            That of the slice, however long the log is.
        """
        if not self.tail <= start < end:
            raise ValueError(f"there is nothing from {start} to {end} in a log from {self.tail} on")
        behind = min(end, start + _MOST_MESSAGES)
        messages = self._messages[start - self.tail : behind - self.tail]
        if self.size_bytes > SLICE_BYTES:  # only then need they be added up
            messages = messages[: max(1, bisect_right(list(accumulate(_sizes(messages))), SLICE_BYTES))]
        return Batch(messages, start)

    def size_from(self, start: int) -> int:
        """Return the cost of the messages from an offset on.

        Complexity:
            That of the messages before it.
        """
        return self.size_bytes - sum(_sizes(self._messages[: start - self.tail]))

    def last(self, most_bytes: float) -> int:
        """Return the lowest offset from which on messages cost at most ``most_bytes``; the newest one always counts.

        Complexity:
            That of these messages.
        """
        sizes = accumulate(message.size_bytes for message in reversed(self._messages))
        count = sum(1 for _ in takewhile(lambda size: size <= most_bytes, sizes))
        return max(self.tail, self.head - max(1, count))

    def not_of(self, publisher: object, start: int) -> int:
        """Return the highest offset, at most ``start``, of a message that is not of a publisher.

        ``start`` itself without one among the last :data:`OWN_MESSAGES`: a publisher that does not read would fill the
        log, and each of its messages cost a search of all.
        """
        last = max(self.tail, start - OWN_MESSAGES + 1)
        others = (at for at in range(start, last - 1, -1) if self._messages[at - self.tail].publisher is not publisher)
        return next(others, start)

    def trim(self, most_bytes: int) -> None:
        """Forget the oldest messages until the rest costs at most ``most_bytes``."""
        count, size = 0, self.size_bytes
        while size > most_bytes:
            size -= self._messages[count].size_bytes
            count += 1
        self._forget(count, size)

    def expire(self, before: int, horizon: float) -> None:
        """Forget messages with an offset smaller than ``before`` that were published before ``horizon``."""
        count, size = 0, self.size_bytes
        while self.tail + count < before and self._messages[count].published_at < horizon:
            size -= self._messages[count].size_bytes
            count += 1
        self._forget(count, size)

    def forget(self, before: int) -> None:
        """Forget messages with smaller offsets, if there are any; offsets go on.

        Complexity:
            That of the messages before ``before``; that of freeing them where no other is left.
        """
        if before >= self.head:  # the usual case, on the path of each flush
            if self.cache.frames:
                self.cache.forget(self._messages)
            self._messages.clear()
            self.tail = self.head
            self._stats.log_bytes -= self.size_bytes
            self.size_bytes = 0
        elif before > self.tail:
            self._forget(before - self.tail, self.size_from(before))

    def _forget(self, count: int, size_bytes: int) -> None:
        if self.cache.frames:
            self.cache.forget(self._messages[:count])
        del self._messages[:count]
        self.tail += count
        self._stats.log_bytes += size_bytes - self.size_bytes
        self.size_bytes = size_bytes

    def check(self) -> None:
        """Raise ``AssertionError`` if a counter is wrong. For tests.

        Complexity:
            One look at each message.
        """
        require(
            {
                "the offsets are not consecutive": self.head - self.tail == len(self._messages),
                "the cost is not that of the messages": self.size_bytes == sum(_sizes(self._messages)),
            }
        )


def _sizes(messages: Sequence[Message]) -> list[int]:
    """Return the cost of each message."""
    return [len(message.plain) + FRAME_OVERHEAD_BYTES for message in messages]


class Age:
    """Which messages of a log are old, without a time on each: notes now and then where the head was."""

    __slots__ = ("_marks", "_old")

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._old = 0

    def old_before(self, now: float, head: int, seconds: float) -> int:
        """Return the offset below which all messages are old.

        Args:
            now: seconds on any clock that does not go back.
            head: of the log, now; noted, so call this regularly.
            seconds: the age from which on a message is old. Reported up to a sixteenth of this, and one call, late.

        Complexity:
            Constant, in time and in memory.
        """
        if not self._marks or now - self._marks[-1][0] >= seconds / _MARKS:
            self._marks.append((now, head))
        while self._marks and now - self._marks[0][0] >= seconds:
            self._old = self._marks.popleft()[1]
        return self._old
