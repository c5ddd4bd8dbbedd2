"""A batch: consecutive messages on their way out, joined once per encoding and shared by all who get them.

Pure but for the writes, which are the subscribers'. Which messages, and who gets them when, is the room's.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Final

from wsrelay.frames import Encoding
from wsrelay.interfaces import Subscriber
from wsrelay.message import Message
from wsrelay.stats import Stats

__all__ = ["WRITE_BYTES", "Batch"]

#: What counts as one more write in a stretch: copying this much takes about as long as a write of next to nothing.
WRITE_BYTES: Final = 16384


class Batch:
    """Consecutive messages that go out in one write; joined once per encoding, shared by all subscribers.

    Attributes:
        end: the offset behind the last message.
        own: publisher → its messages, as ranges of places in the batch.
        shared: encoding → all frames, for the encodings that were asked for.
    """

    __slots__ = ("_messages", "_offsets", "end", "own", "shared")

    def __init__(self, messages: Sequence[Message], end: int) -> None:
        self.end = end
        self._messages = messages
        self.shared: dict[Encoding, bytes] = {}
        self._offsets: dict[Encoding, list[int]] = {}
        self.own: dict[object, list[range]] = {}
        begin = 0
        # One read of a publisher's brings all that it has sent, so that its messages mostly stand together.
        for publisher, run in groupby(messages, attrgetter("publisher")):
            behind = begin + len(list(run))
            self.own.setdefault(publisher, []).append(range(begin, behind))
            begin = behind

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._messages)

    def count_for(self, subscriber: Subscriber) -> int:
        """Return how many of the messages one subscriber gets."""
        return len(self._messages) - sum(map(len, self.own.get(subscriber, ())))

    def frames(self, encoding: Encoding) -> bytes:
        """Return all frames; the same object each time."""
        joined = self.shared.get(encoding)
        if joined is None:
            joined = self.shared[encoding] = b"".join([message.frame(encoding) for message in self._messages])
        return joined

    def frames_for(self, subscriber: Subscriber) -> bytes:
        """Return the frames that one subscriber gets: all but those of its own messages.

        Complexity:
            Constant for all but publishers. For one, its own messages are looked at and the others' frames
            copied, so that a room of which everybody publishes costs its bytes and no more.
        """
        encoding = subscriber.encoding
        joined = self.frames(encoding)
        own = self.own.get(subscriber)
        if own is None:
            return joined
        offsets = self._offsets.get(encoding)
        if offsets is None:
            lengths = [len(message.frame(encoding)) for message in self._messages]
            offsets = self._offsets[encoding] = list(accumulate(lengths, initial=0))
        begins = [0, *(offsets[run.stop] for run in own)]
        ends = [*(offsets[run.start] for run in own), len(joined)]
        return b"".join([joined[begin:end] for begin, end in zip(begins, ends, strict=True)])

    def cost_for(self, subscriber: Subscriber) -> float:
        """Return what delivering to a subscriber costs, in writes of next to nothing."""
        return 1 + len(self.frames(subscriber.encoding)) / WRITE_BYTES

    def deliver(self, subscribers: Iterable[Subscriber], stats: Stats) -> list[tuple[Subscriber, Exception]]:
        """Write to subscribers.

        This loop is what the relay does most of its time. What one turn of it costs beside the write itself (0.2 µs
        of 3 µs) is why everybody shares one object and nothing is counted singly.

        Args:
            subscribers: none of them paused.
            stats: where to count.

        Returns:
            Those whose write raised, and what: whatever it is, the others get their messages.
        """
        own, shared, everything = self.own, self.shared, len(self)
        deliveries = bytes_out = 0
        failed = []
        for subscriber in subscribers:
            data, count = shared.get(subscriber.encoding), everything
            if data is None or subscriber in own:
                data, count = self.frames_for(subscriber), self.count_for(subscriber)
                if not count:
                    continue
            try:
                subscriber.deliver(data)
            except Exception as error:  # noqa: BLE001 - see above
                failed.append((subscriber, error))
            else:
                deliveries += count
                bytes_out += len(data)
        stats.deliveries += deliveries
        stats.bytes_out += bytes_out
        return failed
