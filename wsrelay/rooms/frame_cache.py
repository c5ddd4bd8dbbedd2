"""A cache of encoded frames: a message that stays in a log is deflated, or made an event, once per encoding.

Shared by all rooms, bounded, and counted by the memory budget. Must not live here: encodings (:mod:`wsrelay.wire`),
plain frames (log), joined frames (batch).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from wsrelay.message import Message
from wsrelay.rooms.invariants import require
from wsrelay.settings import Settings
from wsrelay.wire.frames import Encoding

__all__ = ["ENTRY_BYTES", "SHORTEST_BYTES", "FrameCache"]

#: The most bytes, as a share of the memory budget; and without a budget.
_SHARE: Final = 1 / 8
_MOST_BYTES: Final = 64 * 2**20

#: Upper bound of an entry's memory beside its frames: on CPython 3.11, 362 bytes.
ENTRY_BYTES: Final = 400

#: Shorter messages are not kept: encoding one takes a few µs.
SHORTEST_BYTES: Final = 256


class FrameCache:
    """Encoded frames of messages in logs, by message and encoding.

    The oldest go when it is full. A message must be forgotten when its log forgets it.

    Args:
        settings: an eighth of ``memory_budget`` is the most bytes; 64 MiB without a budget.

    Attributes:
        frames: message → encoding → frame; the oldest message first. Read only.
        size_bytes: their memory.
    """

    __slots__ = ("_settings", "frames", "size_bytes")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.frames: OrderedDict[Message, dict[Encoding, bytes]] = OrderedDict()
        self.size_bytes = 0

    def frame(self, message: Message, encoding: Encoding) -> bytes:
        """Return the frame of a message that is in a log; the same object each time, while it is kept."""
        if len(message.plain) < SHORTEST_BYTES:
            return encoding(message.plain)
        kept = self.frames.get(message)
        frame = None if kept is None else kept.get(encoding)
        if frame is None:
            frame = encoding(message.plain)
            self._keep(message, encoding, frame)
        return frame

    def forget(self, messages: Sequence[Message]) -> None:
        """Forget messages; others than those kept may be among them."""
        for message in messages:
            kept = self.frames.pop(message, None)
            if kept is not None:
                self.size_bytes -= _size_bytes(message, kept)

    def clear(self) -> int:
        """Forget all; return the freed bytes."""
        freed_bytes, self.size_bytes = self.size_bytes, 0
        self.frames.clear()
        return freed_bytes

    def check(self, logged: Iterable[Message]) -> None:
        """Raise ``AssertionError`` if an invariant is broken. For tests.

        Args:
            logged: all messages in logs.

        Complexity:
            One look at each message.
        """
        require(
            {
                "a frame is kept of a message that no log has": self.frames.keys() <= set(logged),
                "the sizes do not add up": self.size_bytes == sum([_size_bytes(*kept) for kept in self.frames.items()]),
                "there is more than may be kept": self.size_bytes <= self._most_bytes,
            }
        )

    @property
    def _most_bytes(self) -> float:
        return self._settings.memory_budget * _SHARE or _MOST_BYTES

    def _keep(self, message: Message, encoding: Encoding, frame: bytes) -> None:
        kept = self.frames.setdefault(message, {})
        self.size_bytes += (0 if kept else ENTRY_BYTES) + _frame_bytes(message, frame)
        kept[encoding] = frame
        while self.size_bytes > self._most_bytes:
            self.size_bytes -= _size_bytes(*self.frames.popitem(last=False))


def _frame_bytes(message: Message, frame: bytes) -> int:
    """Return the memory of a frame; the plain one is the log's."""
    return 0 if frame is message.plain else len(frame)


def _size_bytes(message: Message, frames: dict[Encoding, bytes]) -> int:
    """Return the memory of an entry."""
    return ENTRY_BYTES + sum([_frame_bytes(message, frame) for frame in frames.values()])
