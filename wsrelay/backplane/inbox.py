"""What a reader of the log knows of each node, so that it skips duplicates and notices gaps.

Pure; time is passed in. Must not live here: the layout of entries (:mod:`wsrelay.backplane.entry`), where reading
starts and what a gap means to a room (:mod:`wsrelay.backplane.tail`).
"""

from enum import Enum, auto
from typing import Final

import msgspec

from wsrelay.backplane.entry import Entry

__all__ = ["FORGET_SECONDS", "KNOWN_NODES", "Inbox", "Verdict"]

#: Only nodes that are silent for so long are forgotten, and only those over this number. A node that is forgotten and
#: comes back costs a false gap, a known one some 200 bytes.
FORGET_SECONDS: Final = 600.0
KNOWN_NODES: Final = 1024

#: Ages are rounded to ms.
_ROUNDING_SECONDS: Final = 0.001


class Verdict(Enum):
    """What to do with an entry."""

    #: Deliver: it follows the last one of its node.
    DELIVER = auto()
    #: Skip: it was read before.
    DUPLICATE = auto()
    #: Skip: it was published before this reader started, and is sent again.
    LEARNED = auto()
    #: The same, and some before it are lost.
    LEARNED_GAP = auto()
    #: Deliver, and tell: some before it are lost.
    GAP = auto()


class _Node(msgspec.Struct, eq=False, gc=False):
    """What is known of a node: seq of its last entry, when it was read, whether the node stopped."""

    last: int
    read_at: float
    stopped: bool = False


class Inbox:
    """The reader's side of one log.

    An unknown node is one whose last entry has seq 0: a reader that reads on without a loss sees each node that starts
    from its first entry, and knows the others from the entries that the log has when the reader starts. A known node
    that is sent again is sorted out by seq, or, if that does not help, by age.

    Args:
        now: the time in seconds, when the last id of the log is known: messages from before it are not owed.
    """

    __slots__ = ("_nodes", "_started_at", "_unknown_at")

    def __init__(self, now: float) -> None:
        self._nodes: dict[str, _Node] = {}
        #: Entries that are sent again, and were sent first before this, are skipped; those of unknown nodes before the
        #: second, because a node of that time may have been forgotten.
        self._started_at = self._unknown_at = now - _ROUNDING_SECONDS

    def learn(self, entry: Entry) -> Verdict:
        """Note an entry that the log had when this reader started.

        Returns:
            ``LEARNED``, ``LEARNED_GAP``, or ``DUPLICATE`` if it was noted before. Entries before a node's first one are
            not missed: the log was trimmed.
        """
        known = self._nodes.setdefault(entry.node, _Node(0, self._started_at))
        known.stopped |= entry.bye
        seq, last = entry.seq, known.last
        if seq <= last:
            return Verdict.DUPLICATE
        known.last = seq
        return Verdict.LEARNED_GAP if 0 < last < seq - 1 else Verdict.LEARNED

    def accept(self, entry: Entry, now: float) -> Verdict:
        """Return what to do with an entry that was read.

        Complexity:
            One look-up.
        """
        known = self._nodes.get(entry.node)
        if known is None:
            known = self._nodes[entry.node] = _Node(0, now)
        known.read_at = now
        seq, last = entry.seq, known.last
        if seq <= last:
            return Verdict.DUPLICATE
        known.last = seq
        known.stopped = entry.bye
        if entry.age_seconds is not None:
            since = self._started_at if last else self._unknown_at
            if now - entry.age_seconds < since:
                return Verdict.LEARNED_GAP if 0 < last < seq - 1 else Verdict.LEARNED
        return Verdict.DELIVER if seq == last + 1 else Verdict.GAP

    def forget(self, now: float) -> None:
        """Forget the nodes over :data:`KNOWN_NODES` that are silent for longest, and for :data:`FORGET_SECONDS`.

        Complexity:
            Constant below that number, else all nodes.
        """
        over = len(self._nodes) - KNOWN_NODES
        if over <= 0:
            return
        silent = sorted((known.read_at, node) for node, known in self._nodes.items())[:over]
        for read_at, node in silent:
            if read_at < now - FORGET_SECONDS:
                del self._nodes[node]
                self._unknown_at = max(self._unknown_at, now - FORGET_SECONDS / 2)

    def last_of(self, since: float) -> dict[str, int]:
        """Return the number of the last entry of each node that was read since a time, and has not said bye."""
        nodes = self._nodes.items()
        return {node: known.last for node, known in nodes if known.read_at >= since and not known.stopped}

    def seen(self, now: float, within_seconds: float) -> int:
        """Return the number of nodes that were read within this time and have not said bye.

        Complexity:
            All nodes.
        """
        return len(self.last_of(now - within_seconds))
