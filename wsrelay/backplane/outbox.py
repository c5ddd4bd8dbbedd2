"""A node's entries on their way to the broker: numbered, one in flight, kept for a broker that loses them.

Pure; time is passed in. Must not live here: the layout of entries (:mod:`wsrelay.backplane.entry`), commands
(:mod:`wsrelay.backplane.sender`), what is read (:mod:`wsrelay.backplane.inbox`).
"""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Final

import msgspec

from wsrelay.backplane.entry import EMPTY, ENTRY_BYTES, Entry, Id, Record, pack, parse
from wsrelay.message import FRAME_OVERHEAD_BYTES, Run

__all__ = ["ENTRY_OVERHEAD_BYTES", "WINDOW_BYTES", "WINDOW_SECONDS", "Batch", "Outbox"]

#: How long acknowledged entries are kept; a broker that lost more than this leaves gaps.
WINDOW_SECONDS: Final = 10.0
WINDOW_BYTES: Final = 16 * 2**20

#: Upper bound of an entry's memory in the window beside its blob.
ENTRY_OVERHEAD_BYTES: Final = 256

#: The messages of an entry with their rooms.
Batch = list[tuple[str, Run]]


class _Sent(msgspec.Struct, eq=False, gc=False):
    """An entry that was sent.

    Attributes:
        entry: as it was sent first, but for its epoch, which is that of the last time.
        cost_bytes: of its messages in ``Outbox.pending_bytes``.
        sent_at: when it was sent first.
        acknowledged_at: when it was acknowledged last; infinite: never.
    """

    entry: Entry
    cost_bytes: int
    sent_at: float
    acknowledged_at: float = inf

    @property
    def size_bytes(self) -> int:
        """Its memory in the window."""
        return len(self.entry.blob) + ENTRY_OVERHEAD_BYTES


class Outbox:
    """The publisher's side of one log.

    One entry is in flight at most: what is published meanwhile forms the next (group commit). So the entries of a node
    are contiguous in the log even if the broker refuses one and takes the next attempt. After every reconnect the owner
    asks the broker for the entry with the id ``newest_id``; if there is none, or :meth:`is_newest` denies it, the owner
    calls :meth:`rewind`.

    Args:
        node: identifies this outbox among all, also among those before it in this process: seqs start at 1.
        window_seconds: how long acknowledged entries are kept, by acknowledgements: an outage does not age them.
        window_bytes: how much of them is kept. The newest one is kept in any case.

    Attributes:
        pending_bytes: memory of the messages that are published and not acknowledged.
        unread_bytes: of those that were sent and not read back; the entry in flight is in both.
        newest_id: of the newest acknowledged entry, where it was acknowledged last.
    """

    __slots__ = (
        "_batch",
        "_batch_bytes",
        "_batches",
        "_closing",
        "_flying",
        "_newest",
        "_node",
        "_repeat",
        "_seq",
        "_unread",
        "_watched",
        "_window",
        "_window_bytes",
        "_window_limits",
        "newest_id",
        "pending_bytes",
        "unread_bytes",
    )

    def __init__(self, node: str, window_seconds: float = WINDOW_SECONDS, window_bytes: int = WINDOW_BYTES) -> None:
        self._node = node
        self._window_limits = window_seconds, window_bytes
        self._seq = 0
        #: The batch that takes what is published, the sum of its frames, and those before it, which are full.
        self._batch: Batch = []
        self._batch_bytes = 0
        self._batches: deque[Batch] = deque()
        self._flying: _Sent | None = None
        #: To be sent again before anything new: some of the window, then one that was not acknowledged.
        self._repeat: deque[_Sent] = deque()
        self._window: deque[_Sent] = deque()
        self._window_bytes = 0
        self._newest: _Sent | None = None
        #: By seq, ascending: what has not been read back, and its cost.
        self._unread: dict[int, tuple[Batch, int]] = {}
        #: Seq of an acknowledged entry that has not been read back, and when it was acknowledged.
        self._watched: tuple[int, float] | None = None
        self._closing = False
        self.pending_bytes = self.unread_bytes = 0
        self.newest_id: Id | None = None

    def add(self, room: str, run: Run) -> None:
        """Publish messages.

        Complexity:
            Constant: no copy, no encoding.
        """
        size = len(run.plain)
        self.pending_bytes += size + FRAME_OVERHEAD_BYTES * run.count
        self._batch_bytes += size
        if self._batch_bytes > ENTRY_BYTES and self._batch:
            self._batches.append(self._batch)
            self._batch = []
            self._batch_bytes = size
        self._batch.append((room, run))

    def next(self, now: float, *, heartbeat: bool = False) -> Entry | None:
        """Return the entry to send now; ``None``: one is in flight, or there is nothing to send.

        Args:
            now: the time in seconds.
            heartbeat: if there are no messages, return an entry without any.

        Complexity:
            One copy of the frames of an entry.
        """
        if self._flying is not None:
            return None
        if self._repeat:
            return self._again(now)
        if self._batches:
            batch = self._batches.popleft()
        elif self._batch or heartbeat or self._closing:
            batch = self._batch
            self._batch = []
            self._batch_bytes = 0
        else:
            return None
        return self._first(batch, now)

    def _first(self, batch: Batch, now: float) -> Entry:
        """Send a batch for the first time."""
        bye = self._closing and not self._batches and not self._batch
        self._closing = self._closing and not bye
        self._seq = seq = self._seq + 1
        blob = pack([_record(room, run) for room, run in batch]) if batch else EMPTY
        cost = sum([len(run.plain) + FRAME_OVERHEAD_BYTES * run.count for _, run in batch])
        self._unread[seq] = batch, cost
        self.unread_bytes += cost
        entry = Entry(self._node, seq, blob, None, bye)
        self._flying = _Sent(entry, cost, now)
        return entry

    def _again(self, now: float) -> Entry:
        """Send an entry again; marked if the broker has acknowledged it once."""
        self._flying = sent = self._repeat.popleft()
        entry = sent.entry
        if sent.acknowledged_at == inf:
            return entry
        return Entry(entry.node, entry.seq, entry.blob, max(0.0, now - sent.sent_at), entry.bye)

    def acknowledged(self, entry_id: Id, now: float) -> None:
        """Note that the broker has the entry in flight.

        Args:
            entry_id: the id that the broker gave it. Replies of a connection that was given up must not come here.
            now: the time in seconds.
        """
        sent = self._flying
        if sent is None:
            return
        self._flying = None
        if sent.acknowledged_at == inf:
            self.pending_bytes -= sent.cost_bytes
            self._window.append(sent)
            self._window_bytes += sent.size_bytes
        sent.acknowledged_at = now
        self._newest = sent
        self.newest_id = entry_id
        if self._watched is None and sent.entry.seq in self._unread:
            self._watched = sent.entry.seq, now
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop the oldest entries over the window's limits."""
        seconds, most_bytes = self._window_limits
        window = self._window
        while len(window) > 1 and (self._window_bytes > most_bytes or window[0].acknowledged_at < now - seconds):
            self._window_bytes -= window.popleft().size_bytes

    def is_newest(self, fields: Sequence[bytes]) -> bool:
        """Return whether the entry at ``newest_id`` is ours: a broker that lost it may give its id to another.

        Args:
            fields: of the entry there; empty: there is none.
        """
        newest = self._newest
        try:
            found = parse(fields)
        except ValueError:  # not written by a relay
            return False
        return newest is not None and (newest.entry.node, newest.entry.seq) == (found.node, found.seq)

    def lost(self) -> None:
        """Note that the connection is gone: the entry in flight is sent again first, as it is."""
        self._watched = None
        if self._flying is not None:
            self._repeat.appendleft(self._flying)
            self._flying = None

    def rewind(self) -> int:
        """Send the window again before anything else, as the broker lost its newest entry; return its length.

        Entries of it are marked with their age. Readers skip what they have, and what is from before their start.
        """
        self.lost()
        unacknowledged = [sent for sent in self._repeat if sent.acknowledged_at == inf]
        self._repeat = deque([*self._window, *unacknowledged])
        return len(self._window)

    def take(self, seq: int) -> Batch | None:
        """Return the messages of an own entry that was read back, as they were added; once.

        Args:
            seq: of an entry that the inbox does not skip. Messages of entries before it are dropped: they are lost.

        Returns:
            Empty for a heartbeat; ``None``: they were taken, or dropped.
        """
        unread = self._unread
        if self._watched is not None and self._watched[0] <= seq:
            self._watched = None
        if seq not in unread:
            return None
        while (oldest := next(iter(unread))) < seq:
            self.unread_bytes -= unread.pop(oldest)[1]
        batch, cost = unread.pop(seq)
        self.unread_bytes -= cost
        return batch

    @property
    def unread_since(self) -> float | None:
        """When an own entry was acknowledged that has not been read back since; ``None``: no such entry.

        It starts anew with each connection. The oldest such entry may be one entry older.
        """
        return None if self._watched is None else self._watched[1]

    def bye(self) -> None:
        """Send what is left, the last entry marked as such; then add nothing and send no heartbeat."""
        self._closing = True

    @property
    def finished(self) -> bool:
        """Whether the last entry, after :meth:`bye`, was acknowledged."""
        return self._newest is not None and self._newest.entry.bye


def _record(room: str, run: Run) -> Record:
    publisher = run.publisher
    return Record(room, run.plain, run.count, publisher if isinstance(publisher, str) else "")
