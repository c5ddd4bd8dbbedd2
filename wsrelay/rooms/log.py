"""A room's log: messages with consecutive offsets, kept in runs.

Pure data. Must not live here: cursors (subscribers), the slow policy (room), joined runs (batch), messages that no
subscriber needs any more (history).

A run goes in and out as a whole. Only where a subscriber must go on, or the log end, in the middle of one, it is
replaced by a run for each of its messages: so every cursor stands at the begin of a run.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from wsrelay.message import FRAME_OVERHEAD_BYTES, RUN_BYTES, Run
from wsrelay.rooms.batch import Batch
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.invariants import require
from wsrelay.stats import Stats, Tally

__all__ = ["OWN_MESSAGES", "SLICE_BYTES", "Age", "Log"]

#: The most bytes written to a subscriber before it is asked again whether it is paused (one run may be more).
#: Twisted pauses at 64 KiB of unsent bytes, so a transport holds about twice that at most.
SLICE_BYTES: Final = RUN_BYTES

#: How many messages of its own a subscriber skips back at most, to the newest one of another.
OWN_MESSAGES: Final = 256

#: Marks per maximum age. More are more exact, and cost memory in rooms that lag.
_MARKS: Final = 16


class Log:
    """Runs by the offset of their first message. The room bounds it with :meth:`trim`.

    Args:
        stats: where the cost of all logs is added up.
        cache: the encoded frames of runs; forgets those that the log forgets.

    Attributes:
        cache: the same.
        tail: the offset of the oldest message held.
        head: the offset that the next message will get.
        size_bytes: the cost of the messages held.
        published_bytes: the size of all messages that were ever added, as plain frames.
    """

    __slots__ = ("_runs", "_starts", "_stats", "cache", "head", "published_bytes", "size_bytes", "tail")

    def __init__(self, stats: Stats, cache: FrameCache) -> None:
        self._stats = stats
        self.cache = cache
        self._runs: list[Run] = []
        #: The offset of each run, in the same order.
        self._starts: list[int] = []
        self.tail = 0
        self.head = 0
        self.size_bytes = 0
        self.published_bytes = 0

    def __iter__(self) -> Iterator[Run]:
        """Iterate over the runs held, the oldest first; none may come or go meanwhile."""
        return iter(self._runs)

    def append(self, run: Run) -> None:
        """Add a run at the head."""
        size_bytes = len(run.plain)
        self._runs.append(run)
        self._starts.append(self.head)
        self.head += run.count
        self.published_bytes += size_bytes
        size_bytes += FRAME_OVERHEAD_BYTES * run.count
        self.size_bytes += size_bytes
        self._stats.log_bytes += size_bytes

    def pass_by(self, run: Run, messages: int, size_bytes: int) -> Tally:
        """Count a run that all subscribers are given now, so that the log stays empty.

        Args:
            run: the run.
            messages: their number.
            size_bytes: of its plain frames.

        Returns:
            The number and bytes of all messages so far.
        """
        self.head = self.tail = head = self.head + messages
        self.published_bytes = published_bytes = self.published_bytes + size_bytes
        return head, published_bytes

    def batch(self, start: int, end: int) -> Batch:
        """Return runs from an offset on, at most :data:`SLICE_BYTES` of them but at least one.

        Args:
            start: from :attr:`tail` to below ``end``; the offset of a run.
            end: the offset to stop at, at most :attr:`head`; behind a run.

        Raises:
            ValueError: there is no message; an empty batch would never end a wait for more.

        Complexity:
            That of the slice, however long the log is.
        """
        if not self.tail <= start < end:
            raise ValueError(f"there is nothing from {start} to {end} in a log from {self.tail} on")
        if start == self.tail and end == self.head and self.size_bytes <= SLICE_BYTES:  # the usual flush
            return Batch(self._runs.copy(), start)
        first, size_bytes = self._index(start), 0
        runs: list[Run] = []
        for at in range(first, len(self._runs)):
            size_bytes += len(self._runs[at].plain)
            if self._starts[at] >= end or (size_bytes > SLICE_BYTES and runs):
                break
            runs.append(self._runs[at])
        return Batch(runs, start)

    def size_from(self, start: int) -> int:
        """Return the cost of the messages from an offset on, which is that of a run.

        Complexity:
            That of the runs before it, or behind it, whichever are fewer.
        """
        at = self._index(start)
        if 2 * at < len(self._runs):
            return self.size_bytes - sum(_sizes(self._runs[:at]))
        return sum(_sizes(self._runs[at:]))

    def last(self, most_bytes: float) -> int:
        """Return the lowest offset from which on messages cost at most ``most_bytes``; the newest one always counts.

        Complexity:
            That of the runs from there on, and of the messages of one.
        """
        at, left_bytes = len(self._runs), most_bytes
        while at and self._runs[at - 1].size_bytes <= left_bytes:
            at -= 1
            left_bytes -= self._runs[at].size_bytes
        may_fit = left_bytes > FRAME_OVERHEAD_BYTES or at == len(self._runs)  # a part of the next run
        if at and may_fit and self._runs[at - 1].count > 1:
            self._split(at - 1)
            return self.last(most_bytes)
        return self._start(min(at, len(self._runs) - 1)) if self._runs else self.head

    def not_of(self, publisher: object, start: int) -> int:
        """Return the highest offset, at most ``start``, of a message that is not of a publisher.

        ``start`` itself without one among the last :data:`OWN_MESSAGES`: a publisher that does not read would fill the
        log, and each of its messages cost a search of all.

        Complexity:
            That of :data:`OWN_MESSAGES` runs, and of the messages of one.
        """
        at, lowest = self._index(start), max(self.tail, start - OWN_MESSAGES + 1)
        while self._runs[at].publisher is publisher:
            if self._starts[at] <= lowest:
                return start
            at -= 1
        offset = min(start, self._start(at + 1) - 1)
        if self._runs[at].count > 1 and offset != start:
            self._split(at)
        return offset

    def cut(self, offset: int) -> None:
        """Let an offset from the tail to the head be that of a run, so that a cursor can stand there."""
        at = self._index(offset)
        if offset < self.head and self._starts[at] != offset:
            self._cut(at, offset - self._starts[at])

    def trim(self, most_bytes: int) -> None:
        """Forget the oldest messages until the rest costs at most ``most_bytes``."""
        count, size = 0, self.size_bytes
        while size > most_bytes:
            run = self._runs[count]
            if run.count > 1 and size - run.size_bytes < most_bytes:
                self._split(count)
                continue
            size -= run.size_bytes
            count += 1
        self._forget(count, size)

    def forget(self, before: int) -> None:
        """Forget messages with smaller offsets, which no subscriber needs, if there are any; offsets go on.

        Complexity:
            That of the runs before ``before``; that of freeing them where no other is left.
        """
        if before >= self.head:  # the usual case, on the path of each flush
            if self.cache.frames:
                self.cache.forget(self._runs)
            self._runs.clear()
            self._starts.clear()
            self.tail = self.head
            self._stats.log_bytes -= self.size_bytes
            self.size_bytes = 0
        elif before > self.tail:
            self._forget(self._index(before), self.size_from(before))

    def clear(self, before: int) -> None:
        """Forget all messages with smaller offsets."""
        self.forget(before)

    def _index(self, start: int) -> int:
        """Return the place of the run that has an offset; their number for the head."""
        return len(self._runs) if start >= self.head else bisect_right(self._starts, start) - 1

    def _start(self, at: int) -> int:
        """Return the offset of the run at a place; the head behind the last one."""
        return self._starts[at] if at < len(self._starts) else self.head

    def _split(self, at: int) -> None:
        """Replace a run by its messages, so that a cursor can stand at each."""
        run, start = self._runs[at], self._starts[at]
        if self.cache.frames:
            self.cache.forget([run])
        self._runs[at : at + 1] = run.messages()
        self._starts[at : at + 1] = range(start, start + run.count)

    def _cut(self, at: int, count: int) -> None:
        """Replace a run by two, the first with so many messages."""
        run = self._runs[at]
        if self.cache.frames:
            self.cache.forget([run])
        self._runs[at : at + 1] = run.cut(count)
        self._starts.insert(at + 1, self._starts[at] + count)

    def _forget(self, count: int, size_bytes: int) -> None:
        if self.cache.frames:
            self.cache.forget(self._runs[:count])
        self.tail = self._start(count)
        del self._runs[:count]
        del self._starts[:count]
        self._stats.log_bytes += size_bytes - self.size_bytes
        self.size_bytes = size_bytes

    def check(self) -> None:
        """Raise ``AssertionError`` if a counter is wrong. For tests.

        Complexity:
            One look at each run.
        """
        offsets = list(accumulate((run.count for run in self._runs), initial=self.tail))
        require(
            {
                "the offsets are not consecutive": [*self._starts, self.head] == offsets,
                "the cost is not that of the messages": self.size_bytes == sum(_sizes(self._runs)),
            }
        )


def _sizes(runs: Sequence[Run]) -> list[int]:
    """Return the cost of each run."""
    return [len(run.plain) + FRAME_OVERHEAD_BYTES * run.count for run in runs]


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
