"""One message, and the frames it is sent as. No room, no offsets: those are the log's."""

from typing import Final

from wsrelay import frames

__all__ = ["MESSAGE_OVERHEAD_BYTES", "Message"]

#: What a message costs beside its payload (object, frame header, dict entry), so that a log full of empty
#: messages is bounded too. On CPython 3.11: 72 + 33 + 10 bytes and up to 100 of the dict, rounded up.
MESSAGE_OVERHEAD_BYTES: Final = 256


class Message:
    """A text or binary message on its way to a room. Not changed once made.

    A plain class with slots: a frozen dataclass takes 1 µs to make, and one is made per message.

    Attributes:
        opcode: :data:`wsrelay.frames.TEXT` or :data:`wsrelay.frames.BINARY`.
        publisher: who must not receive it: compared by identity, ``None`` for nobody.
        size_bytes: what it costs in a log.
        published_at: when the room took it, in the hub's seconds; 0 where nobody asks.
    """

    __slots__ = ("_deflated", "_frame", "opcode", "published_at", "publisher", "size_bytes")

    def __init__(self, opcode: int, payload: bytes, publisher: object = None) -> None:
        self.opcode = opcode
        self.publisher = publisher
        self._frame = frames.encode(opcode, payload)
        self._deflated: dict[int, bytes] | None = None
        self.published_at = 0.0
        self.size_bytes = len(payload) + MESSAGE_OVERHEAD_BYTES

    @property
    def payload(self) -> bytes:
        """The payload; a copy each time, because only the frame is kept."""
        return frames.payload_of(self._frame)

    def frame(self, encoding: int) -> bytes:
        """Return the frame for an encoding; made at most once."""
        if encoding == frames.PLAIN:
            return self._frame
        if self._deflated is None:
            self._deflated = {}
        frame = self._deflated.get(encoding)
        if frame is None:
            frame = self._deflated[encoding] = frames.encode_deflated(self.opcode, self.payload, encoding)
        return frame
