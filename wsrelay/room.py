"""A room: a bounded log of messages, and for each subscriber a cursor into it.

Pure: no I/O, no clock (times are passed in). What must not live here: the names of rooms (hub), sockets and
states of connections (protocol), how messages are framed and stored (message, frames, log).

How it works. ``publish`` appends to the log. ``flush``, once per reactor turn, gives the messages since the last
flush to the subscribers that have everything before them, in one write each. A subscriber whose transport is paused is
left where it is: only its cursor is kept, never a queue of its own. When its transport resumes, it gets the rest of
the log in slices until it has caught up or is paused again. A cursor off the log's tail meets the slow policy::

      tail                 flushed      head
    ────┬────────────────────┬───────────┬──▶ offsets
        │    log, bounded    │  pending  │
        ▲         ▲          ▲           ▲
        │         │          │           └ who joins now stands here: in _behind, and one of the _newcomers
        │         │          └ everyone in _current stands here
        │         └ a cursor in _behind; in _waiting, too, if it waits for nothing but its turn
        └ a cursor left of this has missed messages: slow policy

A flush to many is done in stretches, so that one room does not hold the reactor: those whose turn has not come are left
behind as if they had been paused, and come first in the next stretch.
"""

import math
from collections import deque
from collections.abc import Sequence

from wsrelay.batch import Batch
from wsrelay.interfaces import Subscriber
from wsrelay.log import Log
from wsrelay.message import Message
from wsrelay.slow import SLOW_POLICIES
from wsrelay.stats import Stats

__all__ = ["Room"]


class Room:
    """One room.

    Args:
        log_bytes: what the log may cost; at least one largest message.
        stats: where to count.
        slow_policy: a name in :data:`wsrelay.slow.SLOW_POLICIES`.
        retention_seconds: how long a message stays in the log when nobody waits for it any more.
    """

    def __init__(
        self, log_bytes: int, stats: Stats, *, slow_policy: str = "disconnect", retention_seconds: float = 0.0
    ) -> None:
        self._log = Log()
        self._log_bytes = log_bytes
        self._stats = stats
        self._slow_policy = slow_policy
        self._retention_seconds = retention_seconds
        #: The offset up to which everyone in _current has everything.
        self._flushed = 0
        #: Subscribers that stand at _flushed. A dict as an ordered set: delivery goes in join order.
        self._current: dict[Subscriber, None] = {}
        #: Subscriber → cursor, for those that were paused when a batch went out.
        self._behind: dict[Subscriber, int] = {}
        #: Those behind that could be written to, in the order of their turns, and those that join the others when
        #: the flush has come to where they stand. Both may name some that have left.
        self._waiting: deque[Subscriber] = deque()
        self._newcomers: list[Subscriber] = []
        #: Members that receive nothing: they may not, or will not any more, until they have left.
        self._silent: set[Subscriber] = set()
        #: Those whose last write raised, and what. Told after the flush: what they do then may flush again.
        self._failed: list[tuple[Subscriber, Exception]] = []

    @property
    def tail(self) -> int:
        """The offset of the oldest message in the log; the room's first message has 0."""
        return self._log.tail

    @property
    def head(self) -> int:
        """The offset that the next message will get."""
        return self._log.head

    @property
    def log_size_bytes(self) -> int:
        """What the log costs now; between flushes at most ``log_bytes`` and one message."""
        return self._log.size_bytes

    @property
    def idle(self) -> bool:
        """Whether the room may disappear: it has no members and keeps nothing."""
        return not len(self) and self.tail == self.head

    @property
    def pending(self) -> bool:
        """Whether there is something left for :meth:`flush` to do."""
        return self._flushed < self._log.head or bool(self._waiting or self._newcomers)

    def __len__(self) -> int:
        """Return the number of members, those that receive nothing included."""
        return len(self._current) + len(self._behind) + len(self._silent)

    def join(self, subscriber: Subscriber, *, can_subscribe: bool = True) -> None:
        """Add a member. It gets what is published from now on, if it may subscribe at all."""
        if not can_subscribe:
            self._silent.add(subscriber)
        elif self.pending:
            # What is pending was published before it came.
            self._behind[subscriber] = self._log.head
            self._newcomers.append(subscriber)
        else:
            self._current[subscriber] = None

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a member; nothing happens if it is none. The messages it published stay."""
        self._current.pop(subscriber, None)
        self._stats.messages_missed += self._log.head - self._behind.pop(subscriber, self._log.head)
        self._silent.discard(subscriber)
        if not len(self):
            self._flushed = self._log.head
            self._waiting.clear()
            self._newcomers.clear()
        self._release()

    def publish(self, messages: Sequence[Message], now: float = 0.0) -> None:
        """Append messages. They go out at the next :meth:`flush`, or at once when the log is full."""
        if self._retention_seconds:
            for message in messages:
                message.published_at = now
        self._log.extend(messages)
        if self._log.size_bytes > self._log_bytes:
            self.flush()

    def flush(self, writes: float = math.inf) -> float:
        """Give everything pending to the subscribers that are not paused, then bound the log.

        Args:
            writes: when to stop, with :attr:`pending` still true: after about as many writes, of which a large one
                counts as several. Returns how many of them are left.

        Complexity:
            One write per current subscriber and :data:`wsrelay.log.SLICE_BYTES`; frames are joined once
            per encoding, and once more for each publisher. Who is behind already costs nothing.
        """
        while writes > 0 and self.pending:
            if self._waiting:
                writes -= self._catch_up(self._waiting.popleft(), self._flushed)
            elif self._flushed < self._log.head:
                writes -= self._deliver_batch(writes)
            else:
                self._waiting.extend(self._newcomers)
                self._newcomers.clear()
        # Not before all had their turn: they would fall off the tail.
        if not self.pending and self._log.trim(self._log_bytes):
            self._meet_slow_policy()
        self._release()
        self._tell_failed()
        return writes

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a subscriber that is no longer paused; nothing happens if it is not behind.

        Complexity:
            One write per :data:`wsrelay.log.SLICE_BYTES` it is behind, until it is paused again.
        """
        # Not up to the head: what is pending comes with the next flush, to everybody.
        self._catch_up(subscriber, self._flushed)
        self._release()
        self._tell_failed()

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber all that has been published, out of turn: it is about to leave."""
        if subscriber in self._current and self._flushed < self._log.head:
            self._leave_behind([subscriber], self._flushed)
        self._catch_up(subscriber, self._log.head)
        if subscriber in self._behind and not subscriber.paused:
            self._newcomers.append(subscriber)  # ahead of the others, should it stay
        self._tell_failed()

    def expire(self, now: float) -> None:
        """Forget messages that are older than the retention and that nobody waits for."""
        waited_for = min(self._behind.values(), default=self._flushed)
        self._log.expire(waited_for, now - self._retention_seconds)

    def _catch_up(self, subscriber: Subscriber, end: int) -> float:
        """Write to a subscriber that is behind until it stands at ``end`` or is paused; return the cost in writes."""
        cost = 0.0
        cursor = self._behind.get(subscriber)
        while cursor is not None and cursor < end and not subscriber.paused:
            batch = self._log.batch(cursor, end)
            self._behind[subscriber] = batch.end
            self._deliver(batch, [subscriber])
            cost += batch.cost_for(subscriber)
            cursor = self._behind.get(subscriber)
        if cursor == self._flushed:
            del self._behind[subscriber]
            self._current[subscriber] = None
        return cost

    def _deliver_batch(self, writes: float) -> float:
        """Write the next batch to all who are not paused, or to as many as may be; return the cost in writes."""
        start = self._flushed
        batch = self._log.batch(start, self._log.head)
        self._flushed = batch.end
        ready = [subscriber for subscriber in self._current if not subscriber.paused]
        if len(ready) < len(self._current):
            self._leave_behind([subscriber for subscriber in self._current if subscriber.paused], start)
        if not ready:
            return 0
        cost = batch.cost_for(ready[0])
        turns = math.ceil(min(writes / cost, len(ready)))
        if turns < len(ready):
            self._leave_behind(ready[turns:], start)
            self._waiting.extend(ready[turns:])
        self._deliver(batch, ready[:turns])
        return turns * cost

    def _leave_behind(self, subscribers: list[Subscriber], cursor: int) -> None:
        for subscriber in subscribers:
            del self._current[subscriber]
            self._behind[subscriber] = cursor

    def _deliver(self, batch: Batch, subscribers: list[Subscriber]) -> None:
        for subscriber, error in batch.deliver(subscribers, self._stats):
            # Not leave(): it may clear the log, which those behind in this flush still need.
            self._current.pop(subscriber, None)
            self._behind.pop(subscriber, None)
            self._silent.add(subscriber)
            self._failed.append((subscriber, error))
            self._stats.messages_missed += batch.count_for(subscriber) + self._log.head - batch.end

    def _meet_slow_policy(self) -> None:
        """Apply the slow policy to every cursor that has fallen off the tail."""
        for subscriber, missed_from in [item for item in self._behind.items() if item[1] < self._log.tail]:
            del self._behind[subscriber]
            self._silent.add(subscriber)
            self._stats.evictions[self._slow_policy] += 1
            cursor = SLOW_POLICIES[self._slow_policy](self, subscriber)
            self._silent.discard(subscriber)
            if cursor is not None:
                self._behind[subscriber] = cursor
            self._stats.messages_missed += (self._log.head if cursor is None else cursor) - missed_from

    def _tell_failed(self) -> None:
        failed, self._failed = self._failed, []
        for subscriber, error in failed:
            subscriber.fail(error)
            self.leave(subscriber)

    def _release(self) -> None:
        """Forget what everybody has, unless it is to be kept for a while."""
        if not self._behind and not self._retention_seconds and self._flushed == self._log.head:
            self._log.clear()
