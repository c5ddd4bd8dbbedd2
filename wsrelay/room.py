"""A room: a bounded log of messages, and for each subscriber a cursor into it.

Pure: no I/O, no clock (times are passed in). What must not live here: the names of rooms (hub), sockets and
states of connections (protocol), how messages are framed and stored (message, frames, log).

How it works. ``publish`` appends to the log. ``flush``, once per reactor turn, gives the messages since
the last flush to the subscribers that have everything before them, in one write each. A subscriber whose
transport is paused is left where it is: only its cursor is kept, never a queue of its own. When its
transport resumes, it gets the rest of the log in slices until it has caught up or is paused again.
A cursor that falls off the log's tail meets the room's slow policy::

      tail                 flushed      head
    ────┬────────────────────┬───────────┬──▶ offsets
        │    log, bounded    │  pending  │
        ▲         ▲          ▲
        │         │          └ everyone in _current stands here
        │         └ a cursor in _behind
        └ a cursor left of this has missed messages: slow policy
"""

from collections.abc import Callable, Mapping
from typing import Final

from wsrelay import closecodes
from wsrelay.interfaces import Subscriber
from wsrelay.log import Batch, Log
from wsrelay.message import Message
from wsrelay.stats import Stats

__all__ = ["SLOW_POLICIES", "Room", "SlowPolicy"]

#: What becomes of a subscriber whose cursor has fallen off the log's tail. Returns the offset from which it
#: goes on, or ``None`` where it was evicted.
SlowPolicy = Callable[["Room", Subscriber], int | None]


def _disconnect(_room: "Room", subscriber: Subscriber) -> None:
    """Evict it. Peer sees: 1013 and "too slow"; it may come back when it can read."""
    subscriber.evict(closecodes.TOO_SLOW)


#: The slow policies by name. A new one is a function above and a row here.
SLOW_POLICIES: Final[Mapping[str, SlowPolicy]] = {"disconnect": _disconnect}


class Room:
    """One room.

    Args:
        log_bytes: what the log may cost; at least one largest message.
        stats: where to count.
        slow_policy: a name in :data:`SLOW_POLICIES`.
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
        #: Members that receive nothing: they may not, or will not any more, until they have left.
        self._silent: set[Subscriber] = set()
        #: Those whose last write raised, and what. Told after the flush: what they do then may flush again.
        self._failed: list[tuple[Subscriber, Exception]] = []

    @property
    def tail(self) -> int:
        """The offset of the oldest message in the log; counts from 0 for the room's first message."""
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

    def __len__(self) -> int:
        """Return the number of members, those that receive nothing included."""
        return len(self._current) + len(self._behind) + len(self._silent)

    def join(self, subscriber: Subscriber, *, can_subscribe: bool = True) -> None:
        """Add a member. It gets what is published from now on, if it may subscribe at all."""
        # A member at once: the flush may end with all others leaving, and the room with them.
        self._silent.add(subscriber)
        if can_subscribe:
            # What is pending was published before it came: the others get it now, the newcomer never.
            self.flush()
            self._silent.discard(subscriber)
            self._current[subscriber] = None

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a member; nothing happens if it is none. The messages it published stay."""
        self._current.pop(subscriber, None)
        self._stats.messages_missed += self._log.head - self._behind.pop(subscriber, self._log.head)
        self._silent.discard(subscriber)
        if not len(self):
            self._flushed = self._log.head
        self._release()

    def publish(self, message: Message, now: float = 0.0) -> None:
        """Append a message. It goes out at the next :meth:`flush`, or at once when the log is full.

        Complexity:
            Constant, but for the flush when the log is full.
        """
        message.published_at = now
        self._log.append(message)
        if self._log.size_bytes > self._log_bytes:
            self.flush()

    def flush(self) -> None:
        """Give everything pending to the subscribers that are not paused, then bound the log.

        Complexity:
            One write per current subscriber and :data:`wsrelay.log.SLICE_BYTES`; frames are joined once
            per encoding, and once more for each publisher. Who is behind already costs nothing.
        """
        while self._flushed < self._log.head:
            start = self._flushed
            batch = self._log.batch(start, self._log.head)
            self._flushed = batch.end
            # A snapshot: a write may end with its subscriber paused, failed or gone.
            for subscriber in tuple(self._current):
                if subscriber.paused:
                    del self._current[subscriber]
                    self._behind[subscriber] = start
                else:
                    self._deliver(batch, subscriber)
        if self._log.trim(self._log_bytes):
            self._meet_slow_policy()
        self._release()
        self._tell_failed()

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a subscriber that is no longer paused; nothing happens if it is not behind.

        Complexity:
            One write per :data:`wsrelay.log.SLICE_BYTES` it is behind, until it is paused again.
        """
        cursor = self._behind.get(subscriber)
        while cursor is not None and cursor < self._flushed and not subscriber.paused:
            # Not up to the head: what is pending comes with the next flush, to everybody.
            batch = self._log.batch(cursor, self._flushed)
            self._behind[subscriber] = batch.end
            self._deliver(batch, subscriber)
            cursor = self._behind.get(subscriber)
        if cursor == self._flushed:
            del self._behind[subscriber]
            self._current[subscriber] = None
        self._release()
        self._tell_failed()

    def expire(self, now: float) -> None:
        """Forget messages that are older than the retention and that nobody waits for."""
        waited_for = min(self._behind.values(), default=self._flushed)
        self._log.expire(waited_for, now - self._retention_seconds)

    def _deliver(self, batch: Batch, subscriber: Subscriber) -> None:
        data = batch.frames_for(subscriber)
        if not data:
            return
        try:
            subscriber.deliver(data)
        except Exception as error:  # noqa: BLE001 - whatever one subscriber raises, the others get their messages
            # Not leave(): it may clear the log, which those behind in this flush still need.
            self._current.pop(subscriber, None)
            self._behind.pop(subscriber, None)
            self._silent.add(subscriber)
            self._failed.append((subscriber, error))
            self._stats.messages_missed += batch.count_for(subscriber) + self._log.head - batch.end
        else:
            self._stats.deliveries += batch.count_for(subscriber)
            self._stats.bytes_out += len(data)

    def _meet_slow_policy(self) -> None:
        """Apply the slow policy to every cursor that has fallen off the tail."""
        for subscriber in [subscriber for subscriber, cursor in self._behind.items() if cursor < self._log.tail]:
            missed_from = self._behind.pop(subscriber)
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
