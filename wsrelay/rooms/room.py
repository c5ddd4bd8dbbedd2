"""A room: a bounded log of messages, its members, and what becomes of those who fall behind.

Pure: no I/O, no clock (times are passed in). What must not live here: the names of rooms (hub), who gets which batch
when (subscribers), sockets and states of connections (protocol), how messages are framed and stored (message, log).

``publish`` appends to the log; ``flush``, once per reactor turn, brings it to the subscribers. The log keeps what any
of them waits for, up to its bound. Who would need more meets the room's slow policy (:mod:`wsrelay.policies`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.interfaces import Subscriber
from wsrelay.message import Message
from wsrelay.policies import DISCONNECT, SlowPolicy
from wsrelay.rooms.log import Age, Log
from wsrelay.rooms.publishers import Publishers
from wsrelay.rooms.subscribers import Subscribers
from wsrelay.stats import NOTHING, RoomStatus, Stats, Tally

__all__ = ["HIGH_WATER", "LOW_WATER", "SHED", "Room"]

#: How much of the log the slowest may be behind before publishers are held, and until when they are: far apart, so that
#: they are not held and released with every message.
HIGH_WATER: Final = 3 / 4
LOW_WATER: Final = 1 / 4

#: What evictions by :meth:`Room.shed` are counted as.
SHED: Final = "shed"


class Room:
    """One room.

    Args:
        log_bytes: what the log may cost; at least one largest message.
        stats: where to count.
        slow_policy: what becomes of those who fall behind.
        slow_seconds: how long a message may wait for anybody, where the policy evicts; 0 is for ever.
        retention_seconds: how long a message stays in the log when nobody waits for it any more.

    Attributes:
        log: the messages, for reading; between flushes it costs at most ``log_bytes`` and what one read has brought.
    """

    def __init__(
        self,
        log_bytes: int,
        stats: Stats,
        *,
        slow_policy: SlowPolicy = DISCONNECT,
        slow_seconds: float = 0.0,
        retention_seconds: float = 0.0,
    ) -> None:
        self.log = Log(stats)
        self._log_bytes = log_bytes
        self._stats = stats
        self._slow_policy = slow_policy
        self._age = Age(slow_seconds) if slow_seconds else None
        self._retention_seconds = retention_seconds
        self._subscribers = Subscribers(self.log, stats)
        #: Members that receive nothing: they may not, or will not any more, until they have left.
        self._silent: set[Subscriber] = set()
        self._publishers = Publishers(stats)

    @property
    def idle(self) -> bool:
        """Whether the room may disappear: it has no members and keeps nothing."""
        return not len(self) and self.log.tail == self.log.head

    @property
    def pending(self) -> bool:
        """Whether there is something left for :meth:`flush` to do."""
        return self._subscribers.pending

    @property
    def slow(self) -> int:
        """How many subscribers are behind the others: whether :meth:`tick` has something to look at."""
        return self._subscribers.slow

    @property
    def lag_messages(self) -> int:
        """How many messages the slowest of them is behind with."""
        return self.log.head - self._subscribers.slowest

    def __len__(self) -> int:
        """Return the number of members, those that receive nothing included."""
        return len(self._subscribers) + len(self._silent)

    def status(self, name: str) -> RoomStatus:
        """Return what is known of it now, under its name, which it does not know itself."""
        return RoomStatus(
            name=name,
            members=len(self),
            publishers=self._publishers.count(len(self)),
            subscribers=len(self._subscribers),
            slow=self.slow,
            lag_messages=self.lag_messages,
            log_bytes=self.log.size_bytes,
            messages=self.log.head,
            bytes=self.log.published_bytes,
            held=self._publishers.held,
        )

    def given(self, subscriber: Subscriber) -> Tally:
        """Return what a member has been given so far."""
        return self._subscribers.given(subscriber)

    def join(self, subscriber: Subscriber, *, can_subscribe: bool = True, can_publish: bool = True) -> None:
        """Add a member. It gets what is published from now on, if it may subscribe at all."""
        if can_subscribe:
            self._subscribers.add(subscriber)
        else:
            subscriber.tally = NOTHING
            self._silent.add(subscriber)
        self._publishers.add(subscriber, can_publish=can_publish)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a member; nothing happens if it is none. The messages it published stay."""
        self._stats.messages_missed += self._subscribers.discard(subscriber)
        self._silent.discard(subscriber)
        self._publishers.discard(subscriber)
        self._settle()

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
        returns how many are left. One per subscriber and :data:`wsrelay.rooms.log.SLICE_BYTES`; none for who is behind.
        """
        writes = self._subscribers.flush(writes)
        # Not before all had their turn: they would fall off the tail.
        if self.log.size_bytes > self._log_bytes and not self.pending:
            self.log.trim(self._log_bytes)
            self._meet_slow_policy()
        self._settle()
        self._tell_failed()
        return writes

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands: only its cursor is kept, never a queue of its own."""
        self._subscribers.pause(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a subscriber that was paused; one write per :data:`wsrelay.rooms.log.SLICE_BYTES` that it is
        behind.
        """
        self._subscribers.resume(subscriber)
        self._settle()
        self._tell_failed()

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber all that has been published, out of turn: it is about to leave."""
        self._subscribers.finish(subscriber)
        self._settle()
        self._tell_failed()

    def tick(self, now: float) -> None:
        """Evict those for whom a message waits since ``slow_seconds``, where the policy evicts.

        To be called now and then while anybody is behind. Who does not read is meant: who waits for its turn in a
        flush is not slow.

        Args:
            now: seconds on any clock that does not go back, and stands still when nobody was served.

        Complexity:
            That of those who are evicted, however many are behind.
        """
        if self._age is not None:
            old_before = self._age.old_before(now, self.log.head)
            if self._slow_policy.evicts:
                late = self._subscribers.paused_before(old_before)
                self._evict(late, closecodes.TOO_SLOW, self._slow_policy.name)

    def shed(self, size_bytes: int) -> None:
        """Evict the slowest until the log costs that much less, or keeps nothing for them; whatever the policy.

        What is only kept for its retention goes first.

        Complexity:
            That of who is evicted and of what is forgotten.
        """
        enough_bytes = self.log.size_bytes - size_bytes
        self.log.forget(self._subscribers.waited_for)
        while self.log.size_bytes > enough_bytes and (slowest := self._subscribers.furthest_behind()):
            self._evict(slowest, closecodes.OVERLOADED, SHED)
            self.log.forget(self._subscribers.waited_for)

    def set_slow_policy(self, policy: SlowPolicy) -> None:
        """Treat those who fall behind otherwise from now on; publishers are released where it does not hold them."""
        self._slow_policy = policy
        self._settle()

    def expire(self, now: float) -> None:
        """Forget messages that are older than the retention and that nobody waits for."""
        self.log.expire(self._subscribers.waited_for, now - self._retention_seconds)

    def _meet_slow_policy(self) -> None:
        """Apply the slow policy to every cursor that has fallen off the tail."""
        policy, fallen = self._slow_policy, self._subscribers.paused_before(self.log.tail)
        if policy.keep is None:
            self._evict(fallen, closecodes.TOO_SLOW, policy.name)
        elif fallen:
            onward = self.log.last(policy.keep * self._log_bytes)
            self._stats.evictions[policy.name] += len(fallen)
            self._stats.messages_missed += sum([self._subscribers.move(subscriber, onward) for subscriber in fallen])

    def _evict(self, subscribers: Iterable[Subscriber], reason: CloseReason, counted_as: str) -> None:
        for subscriber in subscribers:
            self._stats.messages_missed += self._subscribers.discard(subscriber)
            self._silent.add(subscriber)
            self._stats.evictions[counted_as] += 1
            subscriber.evict(reason)
            self.leave(subscriber)

    def _tell_failed(self) -> None:
        failed = self._subscribers.take_failed()
        if not failed:
            return
        self._silent.update([subscriber for subscriber, _ in failed])
        for subscriber, error in failed:
            subscriber.fail(error)
            self.leave(subscriber)

    def _settle(self) -> None:
        """Forget what nobody waits for, unless it is to be kept for a while; hold or release the publishers."""
        if not self._retention_seconds:
            self.log.forget(self._subscribers.waited_for)
        if self._publishers.held or self._slow_policy.holds_publishers:
            self._hold_or_release()

    def _hold_or_release(self) -> None:
        """Hold the publishers while somebody is far behind."""
        water = LOW_WATER if self._publishers.held else HIGH_WATER
        is_far = self.slow > 0 and self.log.size_from(self._subscribers.slowest) > water * self._log_bytes
        self._publishers.hold(is_far and self._slow_policy.holds_publishers, (*self._subscribers, *self._silent))
