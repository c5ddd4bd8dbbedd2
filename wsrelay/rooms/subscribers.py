"""The subscribers of a room: a cursor into its log for each, and when each gets which batch.

Pure: no I/O, no clock. Must not live here: the log's bound and the slow policy (room), sockets and connection states
(connection), framing and storage (message, log), sums per subscriber (accounts).

``flush`` writes the messages since the last flush to all up-to-date subscribers, one write each. A subscriber that does
not take all of a write is paused: only its cursor is kept, no queue. When it resumes, it gets the rest of the log in
slices until it has caught up or is paused again::

      tail                 flushed      head
    ────┬────────────────────┬───────────┬──▶ offsets
        │        log         │  pending  │
        ▲         ▲          ▲           ▲
        │         │          │           └ cursor of a subscriber that joins now
        │         │          └ all in current;  those in _due still need the last _batch
        │         └ a cursor in _behind
        └ a cursor left of this has missed messages

States, and the containers that have a subscriber in each::

    state       current   _due  _behind  _paused  _newcomers  failed
    current        x                                                   has everything flushed
    due            x       x                                           has everything but _batch
    newcomer                       x                  x                ahead of the flush, and waits for it
    catching up                    x                                   within resume, finish and flush only
    paused                         x        x        (x)               takes no more; its cursor stays
    failed                                           (x)         x     its write raised; gets nothing more
    gone                                             (x)

    (x): _newcomers is not searched; an entry that is out of date is skipped when its turn comes.

Transitions, and what each changes::

    add           → current; → newcomer while anything is pending, or for a replay
    flush         current → due → current           _due
                  newcomer → current                _newcomers, _behind, current
    pause         current, due, newcomer → paused   current, _due, _behind, _paused; so does a write not taken whole
    resume        paused → catching up              _paused
    catching up   → current, newcomer or paused     _behind, current, _newcomers, _paused
    finish        current, due → catching up        current, _due, _behind; a paused one stays
    skip_to       paused → paused                   _behind
    a write raises: any → failed                    all, failed
    take_failed   failed → gone                     failed
    discard       any but failed → gone             all
"""

import math
from collections import deque
from collections.abc import Collection, Iterator
from typing import Any, Final

from wsrelay.interfaces import Subscriber
from wsrelay.message import Run
from wsrelay.rooms.accounts import Accounts
from wsrelay.rooms.audience import Audience
from wsrelay.rooms.batch import Batch, Unsent
from wsrelay.rooms.cursors import Cursors
from wsrelay.rooms.frame_cache import SHORTEST_BYTES, encoded
from wsrelay.rooms.invariants import require
from wsrelay.rooms.log import Log
from wsrelay.rooms.replays import NO_REPLAYS
from wsrelay.stats import Stats, Tally
from wsrelay.wire.frames import plain
from wsrelay.wire.native import send_all

__all__ = ["Subscribers"]

#: Shared by all rooms, and never changed.
_NO_NEWCOMERS: Final[deque[Subscriber]] = deque(maxlen=0)
_NONE_DUE: Final = Audience()
_NO_BATCH: Final = Batch([], 0)


class Subscribers:
    """The subscribers of one room. States and transitions: see the module.

    Args:
        log: of the room, which adds to it and bounds it.
        accounts: of the room.
        stats: where to count.

    Attributes:
        current: the up-to-date subscribers. Read only.
        failed: subscribers whose write raised, each with the exception, until :meth:`take_failed`.
        replays: those of the lagging ones that still get what was published before they joined. Read only.
    """

    __slots__ = (
        "_accounts",
        "_batch",
        "_behind",
        "_due",
        "_flushed",
        "_log",
        "_newcomers",
        "_paused",
        "_stats",
        "current",
        "failed",
        "replays",
    )

    def __init__(self, log: Log, accounts: Accounts, stats: Stats) -> None:
        self._log, self._accounts, self._stats = log, accounts, stats
        #: The offset up to which all in current have everything.
        self._flushed = 0
        self.current = Audience()
        #: The batch that is being delivered, and those that have still to get it.
        self._batch, self._due = _NO_BATCH, _NONE_DUE
        self._behind = Cursors()
        #: This and the next: mostly empty, so a dict as a set, and a deque only once there is a newcomer.
        self._paused: dict[Subscriber, None] = {}
        self._newcomers, self.replays = _NO_NEWCOMERS, NO_REPLAYS
        self.failed: list[tuple[Subscriber, Exception]] = []

    @property
    def pending(self) -> bool:
        """Whether :meth:`flush` has anything to do."""
        return self._flushed < self._log.head or bool(self._due.groups or self._newcomers)

    @property
    def lagging(self) -> int:
        """The number of subscribers with a cursor of their own."""
        return len(self._behind)

    @property
    def slowest(self) -> int:
        """The smallest cursor of a subscriber that lags; the head where none does."""
        return self._behind.slowest(self._log.head)

    @property
    def slowest_live(self) -> int:
        """The same, without replays."""
        return self._behind.slowest_but(self.replays.cursors, self._log.head) if self.replays else self.slowest

    @property
    def low_watermark(self) -> int:
        """The lowest offset that is still needed."""
        standing = self._batch.start if self._due.groups else self._flushed
        cursors = self._behind.offsets
        return cursors[0] if cursors and cursors[0] < standing else standing

    def __len__(self) -> int:
        """Return their number, failed ones included."""
        return len(self.current) + len(self._behind) + len(self.failed)

    def __iter__(self) -> Iterator[Subscriber]:
        """Iterate over all, failed ones included; none may come or go meanwhile."""
        yield from self.current
        yield from self._behind
        yield from (subscriber for subscriber, _ in self.failed)

    def add(self, subscriber: Subscriber, cursor: int | None = None) -> None:
        """Add a subscriber: it gets what is published from now on; with a cursor, first what the log has behind it."""
        if cursor is not None and cursor < self._log.head:
            self._log.cut(cursor)
            self._batch.cache = None  # as in skip_to()
            self._behind.put(subscriber, cursor)
            self.replays = self.replays.begin(subscriber, cursor, self._log.head)
            self._add_newcomer(subscriber)
        elif self.pending:
            # What is pending was published before it came.
            self._behind.put(subscriber, self._log.head)
            self._add_newcomer(subscriber)
        else:
            self._follow(subscriber)

    def given(self, member: Subscriber) -> Tally:
        """Return the messages and bytes that a member of the room was given."""
        if member in self.current:
            return self._accounts.given_of_flushed(member, self._batch if member in self._due else _NO_BATCH)
        return self._accounts.given(member)

    def discard(self, subscriber: Subscriber) -> int:
        """Remove a subscriber, if it is one; return its lag in messages. Its account stays until the room closes it."""
        self._leave_current(subscriber)
        self._paused.pop(subscriber, None)
        joined = self.replays.end(subscriber)  # it can ask again for what is older
        cursor = self._behind.pop(subscriber)
        if not len(self):
            self._flushed = self._log.head
            self._accounts.skip_to(self._flushed, self._log.published_bytes)
            self._newcomers = _NO_NEWCOMERS
        return self._log.head - max(cursor, joined) if cursor is not None else 0

    def encode(self, run: Run) -> None:
        """Make the frames of a run in the encodings of those that will get it in the next flush."""
        for encoding, members in self.current.groups.items():
            has_receivers = len(members) > 1 or run.publisher not in members
            if encoding is not plain and has_receivers and len(run.plain) >= SHORTEST_BYTES:  # else it is not kept
                self._log.cache.frames_of(run, encoding)

    def send_now(self, run: Run) -> bool:
        """Deliver a run that passes by the log, if all subscribers have everything that was published.

        Returns:
            Whether it was delivered; else it goes to the log.

        Complexity:
            One write per subscriber, without a batch.
        """
        log = self._log
        if log.head != self._flushed or self._behind.offsets or self._batch is not _NO_BATCH:
            return False
        publisher: Any = run.publisher  # one that is no subscriber is in no group
        count, size_bytes, accounts = run.count, len(run.plain), self._accounts
        accounts.flushed = flushed = log.pass_by(run, count, size_bytes)
        self._flushed = flushed[0]
        for encoding, members in [*self.current.groups.items()]:
            number = len(members)
            if publisher in members:
                accounts.leave_out(publisher, count, size_bytes)
                number -= 1
            if number:
                data = run.plain if encoding is plain else encoded(run, encoding)
                unsent = send_all(members, publisher, data)
                stats = self._stats
                stats.deliveries += count * number
                stats.bytes_out += len(data) * number
                if unsent:
                    self._set_aside(Batch([run], log.head - count), unsent)
        return True

    def flush(self, writes: float = math.inf) -> float:
        """Deliver everything pending; a batch that costs more than ``writes`` becomes due. See
        :meth:`wsrelay.rooms.room.Room.flush`.

        Complexity:
            One write per up-to-date subscriber and batch; what costs nothing per subscriber is done per batch.
        """
        while writes > 0:
            if self._due.groups:
                writes -= self._deliver_due(writes)
            elif self._flushed < self._log.head:
                batch, current = self._log.batch(self._flushed, self._log.head), self.current.groups
                self._flushed = batch.end
                self._accounts.flush(batch, current.values())
                cost = batch.cost * self.current.count
                if cost > writes:
                    batch.cache = self._log.cache
                    self._batch, self._due = batch, self.current.copy()
                    continue
                if self._behind.offsets or self._log.cache.frames:  # needed again, or made before
                    batch.cache = self._log.cache
                writes -= cost
                for encoding, members in list(current.items()):
                    if unsent := batch.deliver(encoding, members, self._stats):
                        self._set_aside(batch, unsent)
            elif self._newcomers:
                writes -= self._catch_up(self._newcomers.popleft(), self._flushed)
            else:
                break
        if self._due.groups:
            self._batch.forget_encoded()  # not in the memory budget
        else:
            self._batch = _NO_BATCH  # it would keep its messages, and their publishers
        return writes

    def pause(self, subscriber: Subscriber) -> None:
        """Leave a subscriber where it stands: only its cursor is kept, no queue."""
        self._paused[subscriber] = None
        self._leave_current(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """Go on with a paused subscriber, one write per :data:`wsrelay.rooms.log.SLICE_BYTES` of its lag."""
        self._paused.pop(subscriber, None)
        self._catch_up(subscriber, self._flushed)  # not up to the head: the next flush brings that

    def finish(self, subscriber: Subscriber) -> None:
        """Give a subscriber that is about to leave all that has been published, now."""
        self._leave_current(subscriber)
        self._catch_up(subscriber, self._log.head)

    def paused_before(self, offset: int) -> list[Subscriber]:
        """Return the paused subscribers with a smaller cursor, the slowest first."""
        return [subscriber for subscriber in self._behind.before(offset) if subscriber in self._paused]

    def late(self, offset: int, now: float, seconds: float) -> list[Subscriber]:
        """Return the paused subscribers below an offset, and replays that take longer than ``seconds``."""
        late = [subscriber for subscriber in self.paused_before(offset) if subscriber not in self.replays]
        return late + [subscriber for subscriber in self.replays.late(now, seconds) if subscriber in self._paused]

    def stalled(self) -> list[Subscriber]:
        """Return the paused subscribers that alone pin the log's tail; none where the next flush needs it as well."""
        slowest = self.slowest
        standing = self._batch.start if self._due.groups else self._flushed
        return self.paused_before(slowest + 1) if slowest < standing else []

    def skip_to(self, offset: int, subscriber: Subscriber) -> range:
        """Let a paused subscriber go on from a later offset, or from a little before: the newest message of another.

        Returns:
            The offsets that it skips; none if it is not before the offset.

        Complexity:
            That of its own messages that end at the offset, see :meth:`wsrelay.rooms.log.Log.not_of`.
        """
        self._batch.cache = None  # its runs may have been taken apart: their frames would be kept, and never forgotten
        cursor = self._behind.get(subscriber)
        onward = self._log.not_of(subscriber, offset)
        if cursor is None or cursor >= onward:
            return range(0)
        self._behind.put(subscriber, onward)
        self.replays.reach(subscriber, onward)
        return range(cursor, onward)

    def take_failed(self) -> list[tuple[Subscriber, Exception]]:
        """Remove and return the failed subscribers, each with its exception."""
        failed, self.failed = self.failed, []
        return failed

    def _follow(self, subscriber: Subscriber) -> None:
        self._accounts.follow(subscriber)
        self.current.add(subscriber)

    def _leave_current(self, subscriber: Subscriber) -> None:
        """Give an up-to-date subscriber a cursor of its own."""
        if self.current.discard(subscriber):
            due = self._batch if self._due.discard(subscriber) else _NO_BATCH
            self._accounts.part(subscriber, due)
            self._behind.put(subscriber, self._flushed - len(due))
        if not self._due.groups:
            self._batch = _NO_BATCH

    def _add_newcomer(self, subscriber: Subscriber) -> None:
        if self._newcomers is _NO_NEWCOMERS:
            self._newcomers = deque()
        self._newcomers.append(subscriber)

    def _catch_up(self, subscriber: Subscriber, end: int) -> float:
        """Write to a lagging subscriber until it stands at ``end`` or is paused; return the cost in writes."""
        cost = 0.0
        cursor = self._behind.get(subscriber)
        while cursor is not None and cursor < end and subscriber not in self._paused:
            batch = self._log.batch(cursor, end)
            batch.cache = self._log.cache
            self._behind.put(subscriber, batch.end)
            self._stats.replayed_messages += self.replays.reach(subscriber, batch.end)
            self._accounts.add(subscriber, batch)
            self._set_aside(batch, batch.deliver(subscriber.encoding, {subscriber: subscriber.send}, self._stats))
            cost += batch.cost
            cursor = self._behind.get(subscriber)
        if cursor is not None and subscriber not in self._paused:
            self.replays.end(subscriber)
            if cursor > self._flushed:  # ahead of the others
                self._add_newcomer(subscriber)
            else:
                self._behind.pop(subscriber)
                self._follow(subscriber)
        return cost

    def _deliver_due(self, writes: float) -> float:
        """Write the batch to some that are due it, one at least; return the cost in writes."""
        batch, encoding = self._batch, self._due.next_encoding()
        members = self._due.take(encoding, writes / batch.cost)
        self._set_aside(batch, batch.deliver(encoding, members, self._stats))
        return batch.cost * len(members)

    def _set_aside(self, batch: Batch, unsent: Unsent) -> None:
        """Pause the subscribers that did not take all of a batch; those whose write raised have failed."""
        for subscriber, rest in unsent.items():
            if not isinstance(rest, Exception):
                self.pause(subscriber)
                subscriber.write_later(*rest)
                continue
            # Not discard(): with no subscriber left it would skip what lagging ones of this flush still need.
            self._leave_current(subscriber)
            self._behind.pop(subscriber)
            self._paused.pop(subscriber, None)
            self.replays.end(subscriber)
            self.failed.append((subscriber, rest))
            self._accounts.take_back(subscriber, batch)
            missed, _ = batch.tally_for(subscriber)
            self._stats.deliveries -= missed
            self._stats.messages_missed += missed + self._log.head - batch.end

    def check(self, silent: Collection[Subscriber] = ()) -> None:
        """Raise ``AssertionError`` if an invariant is broken; ``silent`` members do not subscribe. For tests."""
        current, behind, cursors = set(self.current), set(self._behind), self._behind.offsets
        failed = {subscriber for subscriber, _ in self.failed}
        self._log.check()
        self._behind.check()
        self._accounts.check(self._flushed, current, {*behind, *failed, *silent})
        require(
            {
                "a subscriber is in two states": len(current | behind | failed) == len(self),
                "a subscriber is due, but not current": set(self._due) <= current,
                "a paused subscriber, or a replay, has no cursor": self.replays.ended_but(behind)
                and self._paused.keys() <= behind,
                "a lagging subscriber is neither paused nor a newcomer": behind
                <= self._paused.keys() | {*self._newcomers},
                "the batch is not the last one flushed": self._batch.end == self._flushed
                if self._due.groups
                else self._batch is _NO_BATCH,
                "needed messages were forgotten": self._log.tail <= self.low_watermark,
                "the flushed bytes are not counted": self.pending
                or self._accounts.flushed[1] == self._log.published_bytes,
                "an offset is beyond the head": max([self._flushed, *cursors]) <= self._log.head,
            }
        )
