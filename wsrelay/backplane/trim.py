"""Trimming: which entries of a shard's stream the broker may forget, by age and by bytes.

Every node reads everything, so each can compute it. Pure. Must not live here: the command
(:mod:`wsrelay.backplane.trimmer`).
"""

from collections import deque
from typing import Final

from wsrelay.backplane.entry import Id

__all__ = ["Marks"]

#: Bytes between two marks: the stream may be longer than its bound by as much.
_MARK_BYTES: Final = 256 * 1024


class Marks:
    """Remembers some ids of a stream, with the bytes before each.

    Memory: one mark for each :data:`_MARK_BYTES` of the bound.
    """

    __slots__ = ("_marks", "_total_bytes")

    def __init__(self) -> None:
        #: Ids, and the bytes of all entries before each.
        self._marks: deque[tuple[Id, int]] = deque()
        self._total_bytes = 0

    def add(self, size_bytes: int, newest: bytes) -> None:
        """Count entries that were read, the last of them with this id."""
        marks = self._marks
        self._total_bytes += size_bytes
        if not marks or self._total_bytes - marks[-1][1] >= _MARK_BYTES:
            marks.append((Id.parse(newest), self._total_bytes))

    def oldest_kept(self, newest: Id, seconds: float, most_bytes: int) -> Id:
        """Return the id below which entries are older than ``seconds``, or lie before the newest ``most_bytes``.

        Args:
            newest: the newest id read. Ages count from it: no clock of a node is used.
            seconds: how long entries are kept.
            most_bytes: how many bytes are kept, about.
        """
        kept = newest.earlier(seconds)
        marks = self._marks
        while marks and (self._total_bytes - marks[0][1] > most_bytes or marks[0][0] < kept):
            kept = max(kept, marks.popleft()[0])
        return kept

    def clear(self) -> None:
        """Forget all: the stream is read from its start again."""
        self._marks.clear()
        self._total_bytes = 0
