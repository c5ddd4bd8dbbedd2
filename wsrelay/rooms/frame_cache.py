"""A cache of encoded frames: a run that stays in a log is deflated, or made events, once per encoding.

Shared by all rooms, bounded, and counted by the memory budget. Must not live here: encodings (:mod:`wsrelay.wire`),
plain frames (log), joined frames (batch).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from wsrelay.message import Run
from wsrelay.rooms.invariants import require
from wsrelay.settings import Settings
from wsrelay.wire.frames import Encoding, split

__all__ = ["ENTRY_BYTES", "SHORTEST_BYTES", "FrameCache", "encoded"]

#: The most bytes, as a share of the memory budget; and without a budget.
_SHARE: Final = 1 / 8
_MOST_BYTES: Final = 64 * 2**20

#: Upper bound of an entry's memory beside its frames: on CPython 3.11, 362 bytes.
ENTRY_BYTES: Final = 400

#: Shorter runs are not kept: encoding one takes a few µs.
SHORTEST_BYTES: Final = 256


class FrameCache:
    """Encoded frames of runs in logs, by run and encoding.

    The oldest go when it is full. A run must be forgotten when its log forgets it.

    Args:
        settings: an eighth of ``memory_budget`` is the most bytes; 64 MiB without a budget.

    Attributes:
        frames: run → encoding → its frames, joined; the oldest run first. Read only.
        size_bytes: their memory.
    """

    __slots__ = ("_settings", "frames", "size_bytes")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.frames: OrderedDict[Run, dict[Encoding, bytes]] = OrderedDict()
        self.size_bytes = 0

    def frames_of(self, run: Run, encoding: Encoding) -> bytes:
        """Return the frames of a run that is in a log, joined; the same object each time, while it is kept."""
        if len(run.plain) < SHORTEST_BYTES:
            return encoded(run, encoding)
        kept = self.frames.get(run)
        frames = None if kept is None else kept.get(encoding)
        if frames is None:
            frames = encoded(run, encoding)
            self._keep(run, encoding, frames)
        return frames

    def forget(self, runs: Sequence[Run]) -> None:
        """Forget runs; others than those kept may be among them."""
        for run in runs:
            kept = self.frames.pop(run, None)
            if kept is not None:
                self.size_bytes -= _size_bytes(run, kept)

    def clear(self) -> int:
        """Forget all; return the freed bytes."""
        freed_bytes, self.size_bytes = self.size_bytes, 0
        self.frames.clear()
        return freed_bytes

    def check(self, logged: Iterable[Run]) -> None:
        """Raise ``AssertionError`` if an invariant is broken. For tests.

        Args:
            logged: all runs in logs.

        Complexity:
            One look at each run.
        """
        require(
            {
                "frames are kept of a run that no log has": self.frames.keys() <= set(logged),
                "the sizes do not add up": self.size_bytes == sum([_size_bytes(*kept) for kept in self.frames.items()]),
                "there is more than may be kept": self.size_bytes <= self._most_bytes,
            }
        )

    @property
    def _most_bytes(self) -> float:
        return self._settings.memory_budget * _SHARE or _MOST_BYTES

    def _keep(self, run: Run, encoding: Encoding, frames: bytes) -> None:
        kept = self.frames.setdefault(run, {})
        self.size_bytes += (0 if kept else ENTRY_BYTES) + _frames_bytes(run, frames)
        kept[encoding] = frames
        while self.size_bytes > self._most_bytes:
            self.size_bytes -= _size_bytes(*self.frames.popitem(last=False))


def encoded(run: Run, encoding: Encoding) -> bytes:
    """Return the frames of a run in an encoding, joined."""
    first = run.id
    if first is not None:
        return b"".join([encoding(frame, first.plus(at)) for at, frame in enumerate(split(run.plain))])
    if run.count == 1:
        return encoding(run.plain)
    return b"".join([encoding(frame) for frame in split(run.plain)])


def _frames_bytes(run: Run, frames: bytes) -> int:
    """Return the memory of encoded frames; plain ones are the log's."""
    return 0 if frames is run.plain else len(frames)


def _size_bytes(run: Run, frames: dict[Encoding, bytes]) -> int:
    """Return the memory of an entry."""
    return ENTRY_BYTES + sum([_frames_bytes(run, joined) for joined in frames.values()])
