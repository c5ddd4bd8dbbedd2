"""One message, and the frames it is sent as. No room, no offsets: those are the log's."""

from typing import Final, Self

from wsrelay.wire import frames
from wsrelay.wire.frames import Encoding

__all__ = ["FRAME_OVERHEAD_BYTES", "MESSAGE_OVERHEAD_BYTES", "Message"]

#: The most that a message costs beside its payload (object, frame header, list entry), so that a log full of empty
#: messages is bounded too. On CPython 3.11: 80 + 33 + 10 + 8 bytes, rounded up.
MESSAGE_OVERHEAD_BYTES: Final = 256

#: The same beside its frame, whose header is 10 bytes at most.
FRAME_OVERHEAD_BYTES: Final = MESSAGE_OVERHEAD_BYTES - 10


class Message:
    """A text or binary message on its way to a room. Not changed once made.

    A plain class with slots: a frozen dataclass takes 1 µs to make, and one is made per message.

    Args:
        frame: the plain frame, as :mod:`wsrelay.wire.frames` makes it.
        publisher: who must not receive it: compared by identity, ``None`` for nobody.

    Attributes:
        plain: that frame.
        publisher: that publisher.
        size_bytes: what it costs in a log.
        published_at: when the room took it, in the hub's seconds; 0 where nobody asks.
    """

    __slots__ = ("_encoded", "plain", "published_at", "publisher", "size_bytes")

    def __init__(self, frame: bytes, publisher: object = None) -> None:
        self.plain = frame
        self.publisher = publisher
        self.size_bytes = len(frame) + FRAME_OVERHEAD_BYTES
        self.published_at = 0.0
        self._encoded: dict[Encoding, bytes] | None = None

    @classmethod
    def of(cls, opcode: int, payload: bytes, publisher: object = None) -> Self:
        """Return a message with this type and payload.

        Args:
            opcode: :data:`wsrelay.wire.frames.TEXT` or :data:`wsrelay.wire.frames.BINARY`.
            payload: of any length; UTF-8 for text, which is not checked.
            publisher: see the class.
        """
        return cls(frames.encode(opcode, payload), publisher)

    @property
    def opcode(self) -> int:
        """:data:`wsrelay.wire.frames.TEXT` or :data:`wsrelay.wire.frames.BINARY`."""
        return frames.opcode_of(self.plain)

    @property
    def payload(self) -> bytes:
        """The payload; a copy each time, because only the frame is kept."""
        return frames.payload_of(self.plain)

    def frame(self, encoding: Encoding) -> bytes:
        """Return the frame for an encoding; made at most once."""
        if encoding is frames.plain:
            return self.plain
        if self._encoded is None:
            self._encoded = {}
        frame = self._encoded.get(encoding)
        if frame is None:
            frame = self._encoded[encoding] = encoding(self.plain)
        return frame
