"""A room: a bounded log of messages, its members, and the slow policy.

Pure: no I/O, no clock (times are passed in). Must not live here: names of rooms (hub), cursors and batches
(subscribers), what is kept for those who come later (history), sockets (connection), framing and storage (message,
log).

``publish`` sends at once to a few subscribers, or appends to the log; ``flush``, once per reactor turn, brings that to
the subscribers. The log holds what any subscriber still needs, up to its bound. One that would need more meets the slow
policy (:mod:`wsrelay.policies`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.interfaces import Subscriber
from wsrelay.message import Run
from wsrelay.policies import DISCONNECT, SlowPolicy
from wsrelay.rooms.accounts import Accounts
from wsrelay.rooms.due import ENCODED_BYTES, FEW, MANY, QUIET_TURNS, Due
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.history import History
from wsrelay.rooms.invariants import require
from wsrelay.rooms.log import Age, Log
from wsrelay.rooms.publishers import HIGH_WATER, LOW_WATER, Publishers
from wsrelay.rooms.replays import Replays
from wsrelay.rooms.subscribers import Subscribers
from wsrelay.settings import Settings
from wsrelay.stats import RoomStatus, Stats, Tally
from wsrelay.wanted import ALL_NEW, Start, Wanted

__all__ = ["SHED", "Room"]

#: The name under which evictions by :meth:`Room.shed` are counted.
SHED: Final = "shed"


_NO_HISTORY: Final = Start()

# An enum's members are looked up by name at each use.
_NOTHING, _END, _FLUSH = Due


class Room:
    """One room.

    Args:
        settings: ``room_log_bytes`` and ``slow_seconds`` are read at each use.
        stats: where to count.
        slow_policy: applied to slow subscribers.
        log: its log, which may be a history; by default one that keeps nothing.

    Attributes:
        log: the messages, for reading; between flushes it costs at most ``room_log_bytes`` and one read more.
        history: the same, if it is a history, else ``None``.
    """

    __slots__ = (
        "_accounts",
        "_age",
        "_publishers",
        "_quiet_turns",
        "_runs",
        "_settings",
        "_silent",
        "_slow_policy",
        "_stats",
        "_subscribers",
        "history",
        "log",
    )

    def __init__(
        self,
        settings: Settings,
        stats: Stats,
        *,
        slow_policy: SlowPolicy = DISCONNECT,
        log: Log | None = None,
    ) -> None:
        self.log = Log(stats, FrameCache(settings)) if log is None else log
        self.history = log if isinstance(log, History) else None
        self._settings = settings
        self._stats = stats
        self._slow_policy = slow_policy
        #: Made when a subscriber lags for the first time: most rooms need none.
        self._age: Age | None = None
        self._accounts = Accounts()
        self._subscribers = Subscribers(self.log, self._accounts, stats)
        #: Members that receive nothing: they may not subscribe, or are about to leave.
        self._silent: dict[Subscriber, None] = {}  # a dict as a set: smaller when empty
        self._publishers = Publishers(stats)
        #: How many turns in a row had one run, and the number of runs in this turn.
        self._quiet_turns, self._runs = QUIET_TURNS, 0

    @property
    def idle(self) -> bool:
        """Whether the room may disappear: no members, an empty log."""
        return not len(self) and self.log.tail == self.log.head

    @property
    def pending(self) -> bool:
        """Whether :meth:`flush` has anything to do."""
        return self._subscribers.pending

    @property
    def lagging(self) -> int:
        """The number of subscribers that lag behind the others: whether :meth:`tick` has anything to do."""
        return self._subscribers.lagging

    @property
    def replays(self) -> Replays:
        """The subscribers that get what was published before they joined."""
        return self._subscribers.replays

    @property
    def lag_messages(self) -> int:
        """The lag of the slowest subscriber, in messages."""
        return self.log.head - self._subscribers.slowest

    def __len__(self) -> int:
        """Return the number of members, those that receive nothing included."""
        return len(self._subscribers) + len(self._silent)

    def status(self, name: str) -> RoomStatus:
        """Return the status of the room, which does not know its own name."""
        return RoomStatus(
            name=name,
            members=len(self),
            publishers=self._publishers.count(len(self)),
            subscribers=len(self._subscribers),
            slow=self.lagging,
            lag_messages=self.lag_messages,
            log_bytes=self.log.size_bytes,
            messages=self.log.head,
            bytes=self.log.published_bytes,
            held=self._publishers.held,
        )

    def given(self, member: Subscriber) -> Tally:
        """Return the messages and the plain bytes that a member was given so far."""
        return self._subscribers.given(member)

    def join(
        self, subscriber: Subscriber, *, can_subscribe: bool = True, can_publish: bool = True, wanted: Wanted = ALL_NEW
    ) -> Start:
        """Add a member: if it may subscribe, it gets what it wants of the history, and what is published from now."""
        start = _NO_HISTORY
        if not can_subscribe:
            self._silent[subscriber] = None
        elif self.history is None:
            self._subscribers.add(subscriber)
        else:
            start, cursor = self.history.start(wanted)
            self._subscribers.add(subscriber, cursor)
        self._publishers.add(subscriber, can_publish=can_publish)
        return start

    def leave(self, member: Subscriber) -> Tally:
        """Remove a member, if it is one; its published messages stay. Return what it was given in all."""
        self._stats.messages_missed += self._subscribers.discard(member)
        self._silent.pop(member, None)
        self._publishers.discard(member)
        self._settle()
        return self._accounts.close(member)

    def publish(self, run: Run) -> Due:
        """Deliver a run, in one of three ways.

        * *At once* (:meth:`Subscribers.send_now`), if no message of others could join the writes: the room has at most
          :data:`FEW` members; or it has at most :data:`MANY`, this is its first run in this turn, and in each of the
          last :data:`QUIET_TURNS` that had any there was one only. All subscribers must have all that was published.
        * *In a flush*: it waits in the log for the end of the turn, and goes out together with others.
        * *From the log*: to each subscriber that lags, when it takes more.

        In a room with history all stay in the log. A full log is flushed at once.

        Returns:
            What is to be called at the end of the turn.

        Complexity:
            At once, a write for each of at most :data:`MANY` subscribers, which counts as the publisher's time; else a
            constant number of steps, unless the log is full.
        """
        count = self._subscribers.current.count
        is_few = count + len(self._silent) <= FEW
        may_send = is_few or (self._quiet_turns >= QUIET_TURNS and not self._runs and count <= MANY)
        if may_send and self._subscribers.send_now(run):
            if self._subscribers.failed:
                self._tell_failed()
            if is_few:
                return _NOTHING
            self._runs = 1
            return _END
        self._runs += 1
        self.log.append(run)
        if len(run.plain) > ENCODED_BYTES:
            self._subscribers.encode(run)
        if self.log.size_bytes > self._settings.room_log_bytes:
            self.flush()
        return _FLUSH

    def end_turn(self) -> None:
        """Count the turn, if it had one run. Called at each of a room's flushes, of which a turn may have several."""
        if self._runs:
            self._quiet_turns = self._quiet_turns + 1 if self._runs == 1 else 0
            self._runs = 0

    def flush(self, writes: float = math.inf) -> float:
        """Deliver everything pending to the subscribers that are not paused, then bound the log.

        Args:
            writes: stop, with :attr:`pending` still true, after about as many; a large write counts as several. There
                is one per subscriber and :data:`wsrelay.rooms.log.SLICE_BYTES`, and none for a paused subscriber.

        Returns:
            The number of writes left; with any left, nothing is pending.
        """
        writes = self._subscribers.flush(writes)
        # Not before all had their turn: they would fall off the tail.
        if self.log.size_bytes > self._settings.room_log_bytes and not self.pending:
            self.log.trim(self._settings.room_log_bytes)
            self._apply_slow_policy(self._subscribers.paused_before(self.log.tail))
        # As _settle(), without the call.
        self.log.forget(self._subscribers.low_watermark)
        if self._publishers.held or self._slow_policy.holds_publishers:
            self._hold_or_release()
        if self._subscribers.failed:
            self._tell_failed()
        self.end_turn()
        return writes

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands: only its cursor is kept, no queue."""
        if subscriber not in self._silent:
            self._subscribers.pause(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a paused subscriber, one write per :data:`wsrelay.rooms.log.SLICE_BYTES` of its lag."""
        self._subscribers.resume(subscriber)
        self._settle()
        self._tell_failed()

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber that is about to leave all that has been published, now."""
        self._subscribers.finish(subscriber)
        self._settle()
        self._tell_failed()

    def tick(self, now: float) -> None:
        """Apply the slow policy to paused subscribers by age of the oldest message that waits for them.

        Where the policy evicts, the limit is ``slow_seconds``; else its ``late_seconds``, after which they skip.

        Subscribers that wait for their turn in a flush are not slow.

        Args:
            now: seconds on any clock that does not go back, and stands still while the reactor is blocked. Call this
                regularly while any subscriber lags.

        Complexity:
            That of the evictions, however many lag; where the policy skips by age, one look at each late subscriber.
        """
        policy = self._slow_policy
        seconds = self._settings.slow_seconds if policy.evicts else policy.late_seconds
        if not seconds:
            return
        self._age = self._age or Age()
        late = self._subscribers.late(self._age.old_before(now, self.log.head, seconds), now, seconds)
        if late:
            self._apply_slow_policy(late)
            self._settle()

    def stalled(self) -> list[Subscriber]:
        """Return the subscribers that alone pin the log: paused, with the lowest cursor. Empty if the log is not kept
        for such.

        The history that none of them needs is forgotten here.
        """
        if self.lagging:
            self.forget()
        return self._subscribers.stalled()

    def shed(self, subscriber: Subscriber) -> None:
        """Evict a subscriber because memory is short, under any slow policy, and forget what only it needed."""
        self._evict([subscriber], closecodes.OVERLOADED, SHED)
        self.forget()

    def miss(self) -> None:
        """Messages of this room may be lost before they came here: all subscribers meet the slow policy.

        Where it evicts, the peer sees 1013 and "messages were lost"; else they go on, and each is counted. History from
        before is gone.
        """
        subscribers, history = tuple(self._subscribers), self.history
        if history is not None:
            self.flush()  # what was published before the gap
            history.break_off()
        if self._slow_policy.evicts:
            self._evict(subscribers, closecodes.MESSAGES_LOST, self._slow_policy.name)
            return
        self._stats.evictions[self._slow_policy.name] += len(subscribers)
        if history is not None:
            for subscriber in subscribers:
                subscriber.skipped(history.at, "lost")

    def set_slow_policy(self, policy: SlowPolicy) -> None:
        """Apply another slow policy from now on; publishers are released where it does not hold them."""
        if policy is not self._slow_policy:
            self._slow_policy, self._age = policy, None  # another limit on ages
        self._settle()

    def forget(self) -> None:
        """Forget all messages that no subscriber needs, history included."""
        self.log.clear(self._subscribers.low_watermark)

    def expire(self) -> None:
        """Forget history that is too old."""
        if self.history is not None:
            self.history.expire(self._subscribers.low_watermark)

    def _apply_slow_policy(self, slow: Sequence[Subscriber]) -> None:
        """Evict slow subscribers, or let them skip messages."""
        policy = self._slow_policy
        if policy.log_share is None:
            self._evict(slow, closecodes.TOO_SLOW, policy.name)
            return
        onward = self.log.last(policy.log_share * self._settings.room_log_bytes)
        skips = [skipped for one in slow if (skipped := self._skip(one, onward))]
        if skips:
            self._stats.evictions[policy.name] += len(skips)
            self._stats.messages_missed += sum(skips)

    def _skip(self, subscriber: Subscriber, onward: int) -> int:
        """Let a slow subscriber skip messages; return their number."""
        skipped = self._subscribers.skip_to(onward, subscriber)
        if skipped and self.history is not None:
            subscriber.skipped(self.history.id_before(skipped.stop), self._slow_policy.name)
        return len(skipped)

    def _evict(self, subscribers: Iterable[Subscriber], reason: CloseReason, counted_as: str) -> None:
        for subscriber in subscribers:
            self._stats.messages_missed += self._subscribers.discard(subscriber)
            self._silent[subscriber] = None
            self._stats.evictions[counted_as] += 1
            subscriber.evict(reason)
            self.leave(subscriber)

    def _tell_failed(self) -> None:
        failed = self._subscribers.take_failed()
        self._silent.update(dict.fromkeys([subscriber for subscriber, _ in failed]))
        for subscriber, error in failed:
            subscriber.fail(error)
            self.leave(subscriber)

    def _settle(self) -> None:
        """Forget what is not needed; hold or release the publishers."""
        self.log.forget(self._subscribers.low_watermark)
        if self._publishers.held or self._slow_policy.holds_publishers:
            self._hold_or_release()

    def _hold_or_release(self) -> None:
        """Hold the publishers while any subscriber is far behind."""
        water_bytes = (LOW_WATER if self._publishers.held else HIGH_WATER) * self._settings.room_log_bytes
        slowest = self._subscribers.slowest_live
        is_far = slowest < self.log.head and self.log.size_from(slowest) > water_bytes
        self._publishers.hold(is_far and self._slow_policy.holds_publishers, (*self._subscribers, *self._silent))

    def check(self) -> None:
        """Raise ``AssertionError`` if an invariant of the room or its subscribers is broken. For tests, between calls.

        Complexity:
            One look at each member, and at each message in the log.
        """
        self._subscribers.check({*self._silent})
        self._publishers.check({*self._subscribers, *self._silent})
        require({"a member receives, and does not": self._silent.keys().isdisjoint(self._subscribers)})
