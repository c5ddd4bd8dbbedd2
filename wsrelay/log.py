"""A room's log: messages with consecutive offsets, and batches of them as bytes to write.

Pure data. Who stands where in the log, and what happens to those who fall off it, is the room's.
"""

from collections import Counter
from typing import Final

from wsrelay.interfaces import Subscriber
from wsrelay.message import Message

__all__ = ["SLICE_BYTES", "Batch", "Log"]

#: The most that is written to a subscriber before it is asked again whether it is paused (a single message
#: may be more). Twisted pauses at 64 KiB of unsent bytes, so a transport holds about twice that at most.
SLICE_BYTES: Final = 65536


class Batch:
    """Consecutive messages that go out in one write; joined once per encoding, shared by all subscribers.

    Attributes:
        end: the offset behind the last message.
    """

    __slots__ = ("_joined", "_messages", "_publishers", "end")

    def __init__(self, messages: list[Message], end: int) -> None:
        self.end = end
        self._messages = messages
        self._publishers = Counter(message.publisher for message in messages)
        self._joined: dict[int, bytes] = {}

    def count_for(self, subscriber: Subscriber) -> int:
        """Return how many of the messages one subscriber gets."""
        return len(self._messages) - self._publishers[subscriber]

    def frames_for(self, subscriber: Subscriber) -> bytes:
        """Return the frames that one subscriber gets: all but those of its own messages.

        Complexity:
            Constant for all but publishers: everybody else with the same encoding gets the same object.
        """
        encoding = subscriber.encoding
        if subscriber in self._publishers:
            return b"".join(
                [message.frame(encoding) for message in self._messages if message.publisher is not subscriber]
            )
        joined = self._joined.get(encoding)
        if joined is None:
            joined = self._joined[encoding] = b"".join([message.frame(encoding) for message in self._messages])
        return joined


class Log:
    """Messages by offset. Bounded by whoever calls :meth:`trim`.

    Attributes:
        tail: the offset of the oldest message held.
        head: the offset that the next message will get.
        size_bytes: what the messages held cost.
    """

    __slots__ = ("_messages", "head", "size_bytes", "tail")

    def __init__(self) -> None:
        # A dict, because a cursor may stand anywhere in it: a deque would be walked from its end.
        self._messages: dict[int, Message] = {}
        self.tail = 0
        self.head = 0
        self.size_bytes = 0

    def append(self, message: Message) -> None:
        """Add a message at the head."""
        self._messages[self.head] = message
        self.head += 1
        self.size_bytes += message.size_bytes

    def batch(self, start: int, end: int) -> Batch:
        """Return messages from an offset on, :data:`SLICE_BYTES` of them but at least one.

        Args:
            start: from :attr:`tail` to below ``end``.
            end: the offset to stop at, at most :attr:`head`.
        """
        messages: list[Message] = []
        size = 0
        for offset in range(start, end):
            message = self._messages[offset]
            size += message.size_bytes
            if messages and size > SLICE_BYTES:
                break
            messages.append(message)
        return Batch(messages, start + len(messages))

    def trim(self, keep_bytes: int) -> bool:
        """Forget the oldest messages until the rest costs at most ``keep_bytes``; return whether any was."""
        tail = self.tail
        while self.size_bytes > keep_bytes:
            self._forget()
        return self.tail > tail

    def expire(self, before: int, horizon: float) -> None:
        """Forget messages with an offset smaller than ``before`` that were published before ``horizon``."""
        while self.tail < before and self._messages[self.tail].published_at < horizon:
            self._forget()

    def clear(self) -> None:
        """Forget all messages; offsets go on."""
        self._messages = {}
        self.tail = self.head
        self.size_bytes = 0

    def _forget(self) -> None:
        self.size_bytes -= self._messages.pop(self.tail).size_bytes
        self.tail += 1
