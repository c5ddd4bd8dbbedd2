"""The subscribers of a room: for each a cursor into its log, and who gets which batch when.

Pure: no I/O, no clock. What must not live here: how long the log may be, and what becomes of those who fall off it
(room); sockets and states of connections (protocol); how messages are framed and stored (message, frames, log).

How it works. ``flush`` gives the messages since the last flush to the subscribers that have everything before them, in
one write each. A subscriber that does not take all is left where it is: only its cursor is kept, never a queue of its
own. When it resumes, it gets the rest of the log in slices until it has caught up or is paused again::

      tail                 flushed      head
    ────┬────────────────────┬───────────┬──▶ offsets
        │        log         │  pending  │
        ▲         ▲          ▲           ▲
        │         │          │           └ who joins now stands here: in _behind, and one of the _newcomers
        │         │          └ everyone in _current stands here, but for those who are _due the last _batch
        │         └ a cursor in _behind
        └ a cursor left of this has missed messages

A flush to many is done in stretches, so that one room does not hold the reactor: those whose turn comes later are due.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from wsrelay.interfaces import Send, Subscriber
from wsrelay.rooms.audience import Audience
from wsrelay.rooms.batch import Batch
from wsrelay.rooms.cursors import Cursors
from wsrelay.rooms.log import Log
from wsrelay.stats import NOTHING, Stats, Tally, minus, plus
from wsrelay.wire.frames import Encoding

__all__ = ["Subscribers"]

_NO_BATCH: Final = Batch([], 0)


class Subscribers:
    """The subscribers of one room.

    Args:
        log: of the room, which adds to it and bounds it.
        stats: where to count.
    """

    def __init__(self, log: Log, stats: Stats) -> None:
        self._log = log
        self._stats = stats
        #: The offset up to which everyone in _current has everything.
        self._flushed = 0
        self._total: Tally = NOTHING  #: what that is: everyone in _current has a mark in it (see wsrelay.stats)
        #: Subscribers that stand at _flushed.
        self._current = Audience()
        #: The batch that is being delivered, and those of _current that have not got it.
        self._batch, self._due = _NO_BATCH, Audience()
        #: Those that stand elsewhere: the paused, ...
        self._behind = Cursors()
        self._paused: set[Subscriber] = set()
        #: ... and those that join the others when the flush has come to where they stand. Some may have left.
        self._newcomers: deque[Subscriber] = deque()
        #: Those whose last write raised, and what, until they are taken.
        self._failed: list[tuple[Subscriber, Exception]] = []

    @property
    def pending(self) -> bool:
        """Whether there is something left for :meth:`flush` to do."""
        return self._flushed < self._log.head or bool(self._due or self._newcomers)

    @property
    def slow(self) -> int:
        """How many do not stand with the others."""
        return len(self._behind)

    @property
    def slowest(self) -> int:
        """The smallest cursor of those who are behind; the head where nobody is."""
        return self._behind.slowest(self._log.head)

    @property
    def waited_for(self) -> int:
        """The offset below which nobody waits for anything."""
        standing = self._standing
        return min(standing, self._behind.slowest(standing))

    def __len__(self) -> int:
        """Return their number, those that have failed and are not taken yet included."""
        return len(self._current) + len(self._behind) + len(self._failed)

    def __iter__(self) -> Iterator[Subscriber]:
        """Iterate over all, those that have failed included; nobody may come or go meanwhile."""
        for _, members in self._current:
            yield from members
        yield from self._behind
        yield from (subscriber for subscriber, _ in self._failed)

    def add(self, subscriber: Subscriber) -> None:
        """Add one, who gets what is published from now on."""
        subscriber.tally = NOTHING
        if self.pending:
            # What is pending was published before it came.
            self._behind.put(subscriber, self._log.head)
            self._newcomers.append(subscriber)
        else:
            self._stand_with_others(subscriber)

    def given(self, subscriber: Subscriber) -> Tally:
        """Return what a subscriber has been given so far; also of one that has left."""
        if subscriber not in self._current:
            return subscriber.tally
        given = minus(self._flushed_to(subscriber), subscriber.tally)
        return minus(given, self._batch.tally_for(subscriber)) if subscriber in self._due else given

    def discard(self, subscriber: Subscriber) -> int:
        """Remove one; nothing happens if it is none. Return how many messages it was behind with."""
        self._fall_behind(subscriber)
        self._paused.discard(subscriber)
        cursor = self._behind.pop(subscriber)
        if not len(self):
            self._flushed = self._log.head
            self._total = (self._flushed, self._log.published_bytes)
            self._newcomers.clear()
        return 0 if cursor is None else self._log.head - cursor

    def flush(self, writes: float = math.inf) -> float:
        """Give everything pending to those that are not paused. See :meth:`wsrelay.rooms.room.Room.flush`."""
        while writes > 0 and self.pending:
            if self._due:
                writes -= self._deliver_due(writes)
            elif self._flushed < self._log.head:
                writes -= self._deliver_next(writes)
            else:
                writes -= self._catch_up(self._newcomers.popleft(), self._flushed)
        self._drop_batch()
        return writes

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands: only its cursor is kept, never a queue of its own."""
        self._paused.add(subscriber)
        self._fall_behind(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a subscriber that was paused; one write per :data:`wsrelay.rooms.log.SLICE_BYTES` that it is
        behind.
        """
        self._paused.discard(subscriber)
        self._catch_up(subscriber, self._flushed)  # not up to the head: the next flush brings that

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber all that has been published, out of turn: it is about to leave."""
        self._fall_behind(subscriber)
        self._catch_up(subscriber, self._log.head)

    def paused_before(self, offset: int) -> list[Subscriber]:
        """Return those that do not read, and stand at a smaller offset; the slowest first."""
        return [subscriber for subscriber in self._behind.before(offset) if subscriber in self._paused]

    def furthest_behind(self) -> list[Subscriber]:
        """Return those for whom alone the oldest messages are kept; nobody where the next flush needs all of them."""
        return self.paused_before(self.slowest + 1) if self.slowest < self._standing else []

    def move(self, subscriber: Subscriber, offset: int) -> int:
        """Let one that is behind go on from a later offset; return how many messages it misses."""
        cursor = self._behind.get(subscriber)
        self._behind.put(subscriber, offset)
        return 0 if cursor is None else offset - cursor

    def take_failed(self) -> list[tuple[Subscriber, Exception]]:
        """Return those whose write raised, and what; they are not among the subscribers any more."""
        failed, self._failed = self._failed, []
        return failed

    @property
    def _standing(self) -> int:
        """The offset of the first message that a flush has still to bring to anybody."""
        return self._batch.start if self._due else self._flushed

    def _fall_behind(self, subscriber: Subscriber) -> None:
        """Give a subscriber that stands with the others, or is due what they have, a cursor of its own."""
        if subscriber in self._current:
            subscriber.tally = self.given(subscriber)
            self._current.discard(subscriber)
            self._behind.put(subscriber, self._batch.start if self._due.discard(subscriber) else self._flushed)
        self._drop_batch()

    def _stand_with_others(self, subscriber: Subscriber) -> None:
        subscriber.tally = minus(self._flushed_to(subscriber), subscriber.tally)
        self._current.add(subscriber)

    def _flushed_to(self, subscriber: Subscriber) -> Tally:
        """Return what was ever flushed but for a subscriber's own, of which some may be pending."""
        pending = NOTHING if (own := subscriber.own) is NOTHING else self._log.tally_of(subscriber, self._flushed)
        return minus(self._total, minus(own, pending))

    def _drop_batch(self) -> None:
        if not self._due:
            self._batch = _NO_BATCH  # or it would keep its messages, and their publishers

    def _catch_up(self, subscriber: Subscriber, end: int) -> float:
        """Write to a subscriber that is behind until it stands at ``end`` or is paused; return the cost in writes."""
        cost = 0.0
        cursor = self._behind.get(subscriber)
        while cursor is not None and cursor < end and subscriber not in self._paused:
            batch = self._log.batch(cursor, end)
            self._behind.put(subscriber, batch.end)
            subscriber.tally = plus(subscriber.tally, batch.tally_for(subscriber))
            self._deliver(batch, subscriber.encoding, {subscriber: subscriber.send})
            cost += batch.cost
            cursor = self._behind.get(subscriber)
        if cursor is not None and subscriber not in self._paused:
            if cursor > self._flushed:  # ahead of the others
                self._newcomers.append(subscriber)
            else:
                self._behind.pop(subscriber)
                self._stand_with_others(subscriber)
        return cost

    def _deliver_next(self, writes: float) -> float:
        """Write the next batch to all, or let it be due to all where that is too much; return the cost in writes."""
        batch = self._log.batch(self._flushed, self._log.head)
        self._flushed = batch.end
        self._total = (batch.end, self._total[1] + batch.bytes)
        cost = batch.cost * len(self._current)
        if cost > writes:
            self._batch, self._due = batch, self._current.copy()
            return 0
        for encoding, members in self._current:
            self._deliver(batch, encoding, members)
        return cost

    def _deliver_due(self, writes: float) -> float:
        """Write the batch to those who are due it, or to as many of them as may be; return the cost in writes."""
        batch, encoding = self._batch, self._due.next_encoding()
        members = self._due.take(encoding, writes / batch.cost)
        self._deliver(batch, encoding, members)
        return batch.cost * len(members)

    def _deliver(self, batch: Batch, encoding: Encoding, members: Mapping[Subscriber, Send]) -> None:
        for subscriber, rest in batch.deliver(encoding, members, self._stats).items():
            if not isinstance(rest, Exception):
                self.pause(subscriber)
                subscriber.keep(*rest)
                continue
            # Not discard(): with nobody left it would skip what those behind in this flush still need.
            self._fall_behind(subscriber)
            self._behind.pop(subscriber)
            self._failed.append((subscriber, rest))
            subscriber.tally = minus(subscriber.tally, batch.tally_for(subscriber))
            self._stats.deliveries -= batch.count_for(subscriber)
            self._stats.messages_missed += batch.count_for(subscriber) + self._log.head - batch.end
