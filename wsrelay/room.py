"""A room: a bounded log of messages, and for each subscriber a cursor into it.

Pure: no I/O, no clock (times are passed in). What must not live here: the names of rooms (hub), sockets and
states of connections (protocol), how messages are framed and stored (message, frames, log).

How it works. ``publish`` appends to the log. ``flush``, once per reactor turn, gives the messages since the last
flush to the subscribers that have everything before them, in one write each. A subscriber that does not take all is
left where it is: only its cursor is kept, never a queue of its own. When it resumes, it gets the rest of the log in
slices until it has caught up or is paused again. A cursor off the log's tail meets the slow policy::

      tail                 flushed      head
    ────┬────────────────────┬───────────┬──▶ offsets
        │    log, bounded    │  pending  │
        ▲         ▲          ▲           ▲
        │         │          │           └ who joins now stands here: in _behind, and one of the _newcomers
        │         │          └ everyone in _current stands here, but for those who are _due the last _batch
        │         └ a cursor in _behind
        └ a cursor left of this has missed messages: slow policy

A flush to many is done in stretches, so that one room does not hold the reactor: those whose turn comes later are due.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from wsrelay.audience import Audience
from wsrelay.batch import Batch
from wsrelay.frames import Encoding
from wsrelay.interfaces import Send, Subscriber
from wsrelay.log import Log
from wsrelay.message import Message
from wsrelay.slow import SLOW_POLICIES
from wsrelay.stats import Stats

__all__ = ["Room"]


_NO_BATCH: Final = Batch([], 0)


class Room:
    """One room.

    Args:
        log_bytes: what the log may cost; at least one largest message.
        stats: where to count.
        slow_policy: a name in :data:`wsrelay.slow.SLOW_POLICIES`.
        retention_seconds: how long a message stays in the log when nobody waits for it any more.

    Attributes:
        log: the messages, for reading; between flushes it costs at most ``log_bytes`` and what one read has brought.
    """

    def __init__(
        self, log_bytes: int, stats: Stats, *, slow_policy: str = "disconnect", retention_seconds: float = 0.0
    ) -> None:
        self.log = Log()
        self._log_bytes = log_bytes
        self._stats = stats
        self._slow_policy = slow_policy
        self._retention_seconds = retention_seconds
        #: The offset up to which everyone in _current has everything.
        self._flushed = 0
        #: Subscribers that stand at _flushed.
        self._current = Audience()
        #: The batch that is being delivered, and those of _current that have not got it.
        self._batch = _NO_BATCH
        self._due = Audience()
        #: Subscriber → cursor, for those that stand elsewhere: the paused, ...
        self._behind: dict[Subscriber, int] = {}
        self._paused: set[Subscriber] = set()
        #: ... and those that join the others when the flush has come to where they stand. Some may have left.
        self._newcomers: deque[Subscriber] = deque()
        #: Members that receive nothing: they may not, or will not any more, until they have left.
        self._silent: set[Subscriber] = set()
        #: Those whose last write raised, and what. Told after the flush: what they do then may flush again.
        self._failed: list[tuple[Subscriber, Exception]] = []

    @property
    def idle(self) -> bool:
        """Whether the room may disappear: it has no members and keeps nothing."""
        return not len(self) and self.log.tail == self.log.head

    @property
    def pending(self) -> bool:
        """Whether there is something left for :meth:`flush` to do."""
        return self._flushed < self.log.head or bool(self._due or self._newcomers)

    def __len__(self) -> int:
        """Return the number of members, those that receive nothing included."""
        return len(self._current) + len(self._behind) + len(self._silent)

    def join(self, subscriber: Subscriber, *, can_subscribe: bool = True) -> None:
        """Add a member. It gets what is published from now on, if it may subscribe at all."""
        if not can_subscribe:
            self._silent.add(subscriber)
        elif self.pending:
            # What is pending was published before it came.
            self._behind[subscriber] = self.log.head
            self._newcomers.append(subscriber)
        else:
            self._current.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a member; nothing happens if it is none. The messages it published stay."""
        self._fall_behind(subscriber)
        self._paused.discard(subscriber)
        self._stats.messages_missed += self.log.head - self._behind.pop(subscriber, self.log.head)
        self._silent.discard(subscriber)
        if not len(self):
            self._flushed = self.log.head
            self._newcomers.clear()
        self._release()

    def publish(self, messages: Sequence[Message], now: float = 0.0) -> None:
        """Append messages. They go out at the next :meth:`flush`, or at once when the log is full."""
        if self._retention_seconds:
            for message in messages:
                message.published_at = now
        self.log.extend(messages)
        if self.log.size_bytes > self._log_bytes:
            self.flush()

    def flush(self, writes: float = math.inf) -> float:
        """Give everything pending to the subscribers that are not paused, then bound the log.

        It stops, with :attr:`pending` still true, after about as many ``writes`` (a large one counts as several), and
        returns how many are left. One per subscriber and :data:`wsrelay.log.SLICE_BYTES`; none for who is behind.
        """
        while writes > 0 and self.pending:
            if self._due:
                writes -= self._deliver_due(writes)
            elif self._flushed < self.log.head:
                writes -= self._deliver_next(writes)
            else:
                writes -= self._catch_up(self._newcomers.popleft(), self._flushed)
        # Not before all had their turn: they would fall off the tail.
        if not self.pending and self.log.trim(self._log_bytes):
            self._meet_slow_policy()
        self._release()
        self._tell_failed()
        return writes

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands: only its cursor is kept, never a queue of its own."""
        self._paused.add(subscriber)
        self._fall_behind(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a subscriber that was paused; one write per :data:`wsrelay.log.SLICE_BYTES` that it is behind."""
        self._paused.discard(subscriber)
        self._catch_up(subscriber, self._flushed)  # not up to the head: the next flush brings that
        self._release()
        self._tell_failed()

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber all that has been published, out of turn: it is about to leave."""
        self._fall_behind(subscriber)
        self._catch_up(subscriber, self.log.head)
        self._tell_failed()

    def expire(self, now: float) -> None:
        """Forget messages that are older than the retention and that nobody waits for."""
        standing = self._batch.start if self._due else self._flushed
        self.log.expire(min([standing, *self._behind.values()]), now - self._retention_seconds)

    def _fall_behind(self, subscriber: Subscriber) -> None:
        """Give a subscriber that stands with the others, or is due what they have, a cursor of its own."""
        cursor = self._batch.start if self._due.discard(subscriber) else self._flushed
        if self._current.discard(subscriber):
            self._behind[subscriber] = cursor

    def _catch_up(self, subscriber: Subscriber, end: int) -> float:
        """Write to a subscriber that is behind until it stands at ``end`` or is paused; return the cost in writes."""
        cost = 0.0
        cursor = self._behind.get(subscriber)
        while cursor is not None and cursor < end and subscriber not in self._paused:
            batch = self.log.batch(cursor, end)
            self._behind[subscriber] = batch.end
            self._deliver(batch, subscriber.encoding, {subscriber: subscriber.send})
            cost += batch.cost
            cursor = self._behind.get(subscriber)
        if cursor is not None and subscriber not in self._paused:
            if cursor > self._flushed:  # ahead of the others
                self._newcomers.append(subscriber)
            else:
                del self._behind[subscriber]
                self._current.add(subscriber)
        return cost

    def _deliver_next(self, writes: float) -> float:
        """Write the next batch to all, or let it be due to all where that is too much; return the cost in writes."""
        self._batch = self.log.batch(self._flushed, self.log.head)
        self._flushed = self._batch.end
        cost = self._batch.cost * len(self._current)
        if cost > writes:
            self._due = self._current.copy()
            return 0
        for encoding, members in self._current:
            self._deliver(self._batch, encoding, members)
        return cost

    def _deliver_due(self, writes: float) -> float:
        """Write the batch to those who are due it, or to as many of them as may be; return the cost in writes."""
        encoding = self._due.next_encoding()
        members = self._due.take(encoding, writes / self._batch.cost)
        self._deliver(self._batch, encoding, members)
        return self._batch.cost * len(members)

    def _deliver(self, batch: Batch, encoding: Encoding, members: Mapping[Subscriber, Send]) -> None:
        for subscriber, rest in batch.deliver(encoding, members, self._stats).items():
            if not isinstance(rest, Exception):
                self.pause(subscriber)
                subscriber.keep(*rest)
                continue
            # Not leave(): it may clear the log, which those behind in this flush still need.
            self._current.discard(subscriber)
            self._behind.pop(subscriber, None)
            self._silent.add(subscriber)
            self._failed.append((subscriber, rest))
            count = batch.count_for(subscriber)
            self._stats.deliveries -= count
            self._stats.messages_missed += count + self.log.head - batch.end

    def _meet_slow_policy(self) -> None:
        """Apply the slow policy to every cursor that has fallen off the tail."""
        for subscriber, missed_from in [item for item in self._behind.items() if item[1] < self.log.tail]:
            del self._behind[subscriber]
            self._silent.add(subscriber)
            self._stats.evictions[self._slow_policy] += 1
            cursor = SLOW_POLICIES[self._slow_policy](self, subscriber)
            self._silent.discard(subscriber)
            if cursor is not None:
                self._behind[subscriber] = cursor
            self._stats.messages_missed += (self.log.head if cursor is None else cursor) - missed_from

    def _tell_failed(self) -> None:
        failed, self._failed = self._failed, []
        for subscriber, error in failed:
            subscriber.fail(error)
            self.leave(subscriber)

    def _release(self) -> None:
        """Forget what everybody has, unless it is to be kept for a while."""
        if not self._due:
            self._batch = _NO_BATCH  # or it would keep its messages, and their publishers
            if not self._behind and not self._retention_seconds and self._flushed == self.log.head:
                self.log.clear()
