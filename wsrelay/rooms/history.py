"""A room's history: its log kept longer, with ids, and where in it a client that comes later starts.

Pure: no I/O, no clock. Must not live here: cursors (subscribers), which rooms have a history (histories), rooms without
members (idle).

What is no longer known is never passed over in silence: :meth:`History.start` says that it is gone.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.invariants import require
from wsrelay.rooms.log import Log
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import Stats, Tally
from wsrelay.wanted import Start, Wanted

__all__ = ["SLACK", "SLACK_RUNS", "History", "Reading"]

#: So many messages more than wanted are kept, or an eighth, but at most as many again; and until so many runs have
#: come. So runs are not forgotten one by one: that cost a tenth where a run of 64 messages goes to ten.
SLACK: Final = 128
SLACK_RUNS: Final = 8


class Reading(NamedTuple):
    """Messages of a room's history.

    Attributes:
        at: everything up to this id has been read.
        messages: a run for each, the oldest first.
        is_complete: whether none is missing: there are as many as were asked for, or all that the room ever had.
    """

    at: MessageId
    messages: list[Run]
    is_complete: bool


class History(Log):
    """A log that keeps messages which no subscriber needs any more.

    A subclass, so that a room without history pays nothing: not even a test.

    Args:
        stats: as for the log, and where to count resumes.
        cache: as for the log.
        timeline: for the ids.
        settings: ``history_seconds`` and ``history_bytes`` are read at each use.
        seconds: the time.
        most_messages: so many are kept.
        greeting: so many are given to those who want nothing else.

    Attributes:
        forgotten_id: up to this id, nothing can be read any more.
    """

    __slots__ = (
        "_enough_runs",
        "_first",
        "_greeting",
        "_hidden_bytes",
        "_limit",
        "_most_messages",
        "_released",
        "_seconds",
        "_settings",
        "_timeline",
        "forgotten_id",
    )

    def __init__(
        self,
        stats: Stats,
        cache: FrameCache,
        *,
        timeline: Timeline,
        settings: Settings,
        seconds: Callable[[], float],
        most_messages: int,
        greeting: int = 0,
    ) -> None:
        super().__init__(stats, cache)
        self._timeline, self._settings, self._seconds = timeline, settings, seconds
        self._most_messages, self._greeting = most_messages, greeting
        self._limit = most_messages + min(most_messages, max(SLACK, most_messages >> 3))
        #: It is bounded when there are more runs.
        self._enough_runs = 0
        self.forgotten_id = timeline.floor
        #: The offset of the oldest message that can be read, if the log holds it; the cost of those held before it, for
        #: a subscriber that lags.
        self._first = self._hidden_bytes = 0
        #: Runs below this offset have no publisher.
        self._released = 0

    # --- as a log -----------------------------------------------------------------------------------

    def append(self, run: Run) -> None:
        """Add a run at the head; it gets its id and its time, where a broker has not given them."""
        if run.id is None:
            timeline, count = self._timeline, run.count
            timeline.head = head = (timeline.head[0] + count,)  # no call: for each message
            run.id = MessageId(timeline.begin.epoch, head if count == 1 else (head[0] - count + 1,))
            run.published_at = self._seconds()
        Log.append(self, run)  # a third of the time of super()

    def pass_by(self, run: Run, messages: int, size_bytes: int) -> Tally:
        """Add a run that all subscribers are given now; for its publisher see :meth:`forget`."""
        self.append(run)
        run.publisher, self._released = None, self.head
        is_over = self.head - self.tail > self._limit and len(self._runs) > self._enough_runs
        if is_over or self.size_bytes > self._settings.history_bytes:
            self._bound(self.head)
        return self.head, self.published_bytes

    def forget(self, before: int) -> None:
        """Bound the history after a flush; no subscriber needs what is before an offset.

        Such runs forget their publishers: else the history would keep connections that have ended.

        Complexity:
            That of the runs forgotten, and of those flushed.
        """
        if before > self._released:
            for at in range(self._index(max(self._released, self.tail)), self._index(before)):
                self._runs[at].publisher = None
            self._released = before
        is_over = self.head - self.tail > self._limit and len(self._runs) > self._enough_runs
        if is_over or self.size_bytes > self._settings.history_bytes:
            self._bound(before)

    def clear(self, before: int) -> None:
        """Forget all that is before an offset, which no subscriber needs; nothing of it can be read any more."""
        self._hide(math.inf, 0, before, before)
        self._drop(before)

    def expire(self, before: int) -> None:
        """Let nothing be read that is older than ``history_seconds``, or beyond ``history_bytes`` since the last flush;
        forget it as far as no subscriber needs it.
        """
        settings = self._settings
        self._hide(settings.history_bytes, settings.history_seconds, self._oldest, before)
        self._drop(before)

    def break_off(self) -> None:
        """Messages are missing behind those held: what was before cannot be read any more."""
        self._hide(math.inf, 0, self.head, 0)
        self.forgotten_id = max(self._timeline.floor, self.newest)

    def _bound(self, needed: int) -> None:
        self._hide(self._settings.history_bytes, 0, self.head - self._most_messages, needed)
        self._drop(needed)
        # Without the hidden ones: these are forgotten as soon as nobody needs them.
        self._enough_runs = len(self._runs) - self._index(self._oldest) + min(self._most_messages, SLACK_RUNS)

    def _hide(self, most_bytes: float, seconds: float, before: int, needed: int) -> None:
        """Let the oldest messages be read no more, though they may be held for a subscriber that lags.

        Args:
            most_bytes: those in front of the newest ones that cost so much.
            seconds: those that are older; 0: of any age.
            before: runs that end at this offset or before.
            needed: from this offset on, runs are needed, and are not cut: they may be on their way out.

        Complexity:
            That of the runs hidden.
        """
        size, horizon = self.size_bytes - self._hidden_bytes, self._seconds() - seconds if seconds else -math.inf
        at = begin = self._index(self._oldest)
        while at < len(self._runs):
            run, end = self._runs[at], self._start(at + 1)
            is_wanted = end > before and run.published_at >= horizon
            if is_wanted and size <= most_bytes:
                break
            if is_wanted and run.count > 1 and size - run.size_bytes < most_bytes and end <= needed:
                self._cut(at, min(run.count - 1, math.ceil((size - most_bytes) * run.count / run.size_bytes)))
                run = self._runs[at]
            size -= run.size_bytes
            at += 1
        if at > begin:
            self._hidden_bytes = self.size_bytes - size
            self._first, self.forgotten_id = self._start(at), max(self.forgotten_id, _last_id(self._runs[at - 1]))

    def _drop(self, needed: int) -> None:
        """Forget what cannot be read, and is not needed."""
        count = self._index(min(needed, self._oldest))
        if count > 0:
            self._forget(count, self.size_bytes - sum([run.size_bytes for run in self._runs[:count]]))

    def _forget(self, count: int, size_bytes: int) -> None:
        if count:
            self.forgotten_id = max(self.forgotten_id, _last_id(self._runs[count - 1]))
            self._hidden_bytes = max(0, self._hidden_bytes - (self.size_bytes - size_bytes))
            super()._forget(count, size_bytes)

    # --- for those who come later -------------------------------------------------------------------

    @property
    def newest(self) -> MessageId:
        """The id of the newest message; where none is held, of the newest that is not known any more."""
        return max(_last_id(self._runs[-1]), self.forgotten_id) if self._runs else self.forgotten_id

    @property
    def at(self) -> MessageId:
        """The id up to which everything is known now: with a broker, all that was delivered to this process."""
        timeline = self._timeline
        return max(self.newest, MessageId(timeline.epoch, timeline.head), timeline.begin)

    def start(self, wanted: Wanted) -> tuple[Start, int]:
        """Return where a new member starts, and the offset of its first message.

        Complexity:
            A search in the runs held.
        """
        offset = self._behind(wanted.id) if wanted.since else None
        is_gone = bool(wanted.since) and offset is None
        if wanted.since:
            self._stats.resumes["gone" if is_gone else "resumed"] += 1
        if offset is not None:
            return Start(wanted.id), offset
        last = wanted.last
        if last is None:
            last = self._greeting if wanted.may_greet and not wanted.since else 0
        offset = max(self._oldest, self.head - min(last, self._most_messages))
        return Start(max(self.id_before(offset), self.forgotten_id), is_gone), offset

    def read(self, wanted: Wanted) -> Reading | None:
        """Return what is wanted; ``None``: it is gone.

        Complexity:
            That of its messages.
        """
        start, offset = self.start(wanted._replace(may_greet=False))
        if start.is_gone and wanted.last is None:
            return None
        at = self._index(offset)
        messages = [message for run in self._runs[at:] for message in run.messages()][offset - self._start(at) :]
        has_all = bool(wanted.since) or len(messages) == wanted.last
        # With a broker, the epoch begins where this process has learnt it; the room may be older.
        is_first = not offset and self.forgotten_id <= self._timeline.begin and len(self._timeline.head) == 1
        return Reading(self.at, messages, (has_all or is_first) and not start.is_gone)

    def id_before(self, offset: int) -> MessageId:
        """Return the id up to which everything lies before an offset."""
        if offset == self.head:
            return self.at
        if offset <= self.tail:
            return self.forgotten_id
        at = self._index(offset - 1)
        return _id(self._runs[at]).plus(offset - 1 - self._starts[at])

    @property
    def _oldest(self) -> int:
        """The offset of the oldest message that can be read."""
        return max(self._first, self.tail)

    def _behind(self, identity: MessageId | None) -> int | None:
        """Return the offset behind an id; ``None``: it is not known what is there."""
        timeline = self._timeline
        if identity is None or identity.epoch != timeline.epoch or identity > self.at:
            return None
        if identity < max(self.forgotten_id, timeline.begin):
            return None
        if len(identity.place) > 1 and len(timeline.head) == 1:  # of a relay with a broker
            return None
        at = bisect_right(self._runs, identity, key=_id) - 1
        if at < 0:
            return self._oldest
        run, start, first = self._runs[at], self._starts[at], _id(self._runs[at])
        is_within = (first.epoch, first.place[:-1]) == (identity.epoch, identity.place[:-1])
        count = min(run.count, identity.place[-1] - first.place[-1] + 1) if is_within else run.count
        return max(self._oldest, start + count)

    def check(self) -> None:
        """Raise ``AssertionError`` if a counter is wrong, or ids do not ascend. For tests."""
        super().check()
        ids = [_id(message) for run in self._runs for message in run.messages()]
        hidden = self._runs[: self._index(self._oldest)]
        require(
            {
                "the ids do not ascend": ids == sorted(set(ids)),
                "the hidden bytes do not add up": self._hidden_bytes == sum(run.size_bytes for run in hidden),
            }
        )


def _id(run: Run) -> MessageId:
    """Return the id of a run's first message; there is one."""
    assert run.id is not None
    return run.id


def _last_id(run: Run) -> MessageId:
    return _id(run).plus(run.count - 1)
