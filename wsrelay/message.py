"""One message, as its plain frame.

Must not live here: rooms and offsets (:mod:`wsrelay.rooms.log`), the layout of frames (:mod:`wsrelay.wire.frames`),
other encodings (:mod:`wsrelay.rooms.frame_cache`).
"""

from typing import Final, Self

import msgspec

from wsrelay.wire import frames

__all__ = ["FRAME_OVERHEAD_BYTES", "MESSAGE_OVERHEAD_BYTES", "Message"]

#: Upper bound of a message's memory beside its payload (object, frame header, list entry), so that a log full of empty
#: messages is bounded too. On CPython 3.11: 48 + 33 + 10 + 8 bytes, rounded up.
MESSAGE_OVERHEAD_BYTES: Final = 256

#: The same beside its frame, whose header is 10 bytes at most.
FRAME_OVERHEAD_BYTES: Final = MESSAGE_OVERHEAD_BYTES - 10


class Message(msgspec.Struct, eq=False, gc=False):
    """A text or binary message for a room. Not changed once made. Make one with :meth:`text` or :meth:`binary`.

    Made once per message on the hot path: a struct without a Python ``__init__`` takes 50 ns, a third of a class with
    one. The garbage collector does not track it, so a publisher must not keep references to its own messages.

    Attributes:
        plain: the frame without compression, as :mod:`wsrelay.wire.frames` makes it.
        publisher: the subscriber that does not get it, compared by identity; ``None``: all subscribers get it.
        published_at: when the room took it, in the hub's seconds; 0 in rooms without retention.
    """

    plain: bytes
    publisher: object = None
    published_at: float = 0.0

    @classmethod
    def text(cls, text: str | bytes, publisher: object = None) -> Self:
        """Return a text message.

        Args:
            text: of any length; bytes must be UTF-8, which is not checked.
            publisher: see the class.
        """
        return cls(frames.encode(frames.TEXT, text.encode() if isinstance(text, str) else text), publisher)

    @classmethod
    def binary(cls, payload: bytes, publisher: object = None) -> Self:
        """Return a binary message.

        Args:
            payload: of any length.
            publisher: see the class.
        """
        return cls(frames.encode(frames.BINARY, payload), publisher)

    @property
    def opcode(self) -> int:
        """Message type, 1 for text and 2 for binary (RFC 6455 section 5.2)."""
        return frames.opcode_of(self.plain)

    @property
    def payload(self) -> bytes:
        """The payload; a copy each time, because only the frame is stored."""
        return frames.payload_of(self.plain)

    @property
    def size_bytes(self) -> int:
        """The cost in a log: the plain frame and :data:`FRAME_OVERHEAD_BYTES`."""
        return len(self.plain) + FRAME_OVERHEAD_BYTES
