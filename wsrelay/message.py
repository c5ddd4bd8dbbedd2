"""Messages on their way to a room, as a run: plain frames of one publisher, one behind the other.

Must not live here: rooms and offsets (:mod:`wsrelay.rooms.log`), the layout of frames (:mod:`wsrelay.wire.frames`),
other encodings (:mod:`wsrelay.rooms.frame_cache`).
"""

from typing import Final, Self

import msgspec

from wsrelay.message_id import MessageId
from wsrelay.wire import frames

__all__ = ["FRAME_OVERHEAD_BYTES", "MESSAGE_OVERHEAD_BYTES", "RUN_BYTES", "Run"]

#: Upper bound of a message's memory beside its payload (object, frame header, list entries), so that a log full of
#: empty messages is bounded too, also where the log holds each of them alone. On CPython 3.11: 64 + 33 + 10 + 48 bytes,
#: rounded up.
MESSAGE_OVERHEAD_BYTES: Final = 256

#: The same beside its frame, whose header is 10 bytes at most.
FRAME_OVERHEAD_BYTES: Final = MESSAGE_OVERHEAD_BYTES - 10

#: From this size on a run ends, so that one write of it is bounded. A single message may be longer.
RUN_BYTES: Final = frames.MOST_BYTES


class Run(msgspec.Struct, eq=False, gc=False):
    """Consecutive text or binary messages of one publisher for one room; mostly those of one read.

    Made once per read on the hot path: a struct without a Python ``__init__`` takes 50 ns, a third of a class with one.
    Messages are not looked at singly unless a subscriber needs them encoded, or skips some. The garbage collector does
    not track a run, so a publisher must not keep references to its own.

    Make one of a single message with :meth:`text` or :meth:`binary`.

    Attributes:
        plain: the frames without compression, as :mod:`wsrelay.wire.frames` makes them, joined.
        count: their number, at least 1.
        publisher: the subscriber that does not get them, compared by identity; or the handle of one on another node;
            ``None``: all subscribers get them.
        published_at: when they were published, in the hub's seconds; 0 in rooms without history.
        id: the first message's; the others' follow. ``None`` in rooms without history.
    """

    plain: bytes
    count: int = 1
    publisher: object = None
    published_at: float = 0.0
    id: MessageId | None = None

    @classmethod
    def text(cls, text: str | bytes, publisher: object = None) -> Self:
        """Return a text message.

        Args:
            text: of any length; bytes must be UTF-8, which is not checked.
            publisher: see the class.
        """
        return cls(frames.encode(frames.TEXT, text.encode() if isinstance(text, str) else text), 1, publisher)

    @classmethod
    def binary(cls, payload: bytes, publisher: object = None) -> Self:
        """Return a binary message.

        Args:
            payload: of any length.
            publisher: see the class.
        """
        return cls(frames.encode(frames.BINARY, payload), 1, publisher)

    @property
    def size_bytes(self) -> int:
        """The cost in a log: the plain frames, and :data:`FRAME_OVERHEAD_BYTES` for each."""
        return len(self.plain) + FRAME_OVERHEAD_BYTES * self.count

    def cut(self, count: int) -> "tuple[Run, Run]":
        """Return two runs, the first with so many messages, of which there are more.

        Complexity:
            A look at the header of each message of the first, and a copy.
        """
        of, at, place = self.publisher, self.published_at, frames.offset_of(self.plain, count)
        rest_id = None if self.id is None else self.id.plus(count)
        first = Run(self.plain[:place], count, of, at, self.id)
        return first, Run(self.plain[place:], self.count - count, of, at, rest_id)

    def messages(self) -> "list[Run]":
        """Return a run for each message.

        Complexity:
            That of its messages.
        """
        split = frames.split(self.plain)
        if self.id is None:
            return [Run(frame, 1, self.publisher, self.published_at) for frame in split]
        first, of, at = self.id, self.publisher, self.published_at
        return [Run(frame, 1, of, at, first.plus(place)) for place, frame in enumerate(split)]
