"""A batch: consecutive messages on their way out, joined once per encoding and shared by all who get them.

Pure but for the writes, which are the subscribers'. Which messages, and who gets them when, is the room's.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, Final

from wsrelay.interfaces import Send, Subscriber
from wsrelay.message import Message
from wsrelay.stats import Stats, Tally, minus
from wsrelay.wire.frames import Encoding, plain

__all__ = ["WRITE_BYTES", "Batch", "Unsent"]

#: What counts as one more write in a stretch: copying this much takes about as long as a write of next to nothing.
WRITE_BYTES: Final = 16384

#: Subscriber → what was to be sent and how much of it was, or what its ``send`` raised.
Unsent = Mapping[Subscriber, tuple[bytes, int] | Exception]


class Batch:
    """Consecutive messages that go out in one write; joined once per encoding, shared by all subscribers.

    Attributes:
        start: the offset of the first message.
        end: the offset behind the last one.
        bytes: what it is as plain frames.
        cost: of delivering it to one subscriber, in writes of next to nothing; without deflate.
        own: publisher → its messages, as ranges of places in the batch.
    """

    __slots__ = ("_messages", "_offsets", "_shared", "bytes", "cost", "end", "own", "start")

    def __init__(self, messages: Sequence[Message], start: int) -> None:
        self.start = start
        self.end = start + len(messages)
        self.bytes = sum(map(len, [message.plain for message in messages]))
        self.cost = 1 + self.bytes / WRITE_BYTES
        self._messages = messages
        self._shared: dict[Encoding, bytes] = {}
        self._offsets: dict[Encoding, list[int]] = {}
        self.own: dict[Any, list[range]] = {}
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

    def own_tally(self, publisher: object) -> Tally:
        """Return what of it is one publisher's own.

        Complexity:
            That of its runs, mostly one.
        """
        own = self.own.get(publisher, ())
        if own and len(own[0]) == len(self._messages):  # the usual one
            return len(self._messages), self.bytes
        offsets = self._offsets_of(plain)
        return sum(map(len, own)), sum([offsets[run.stop] - offsets[run.start] for run in own])

    def tally_for(self, subscriber: object) -> Tally:
        """Return what one subscriber gets."""
        return minus((len(self._messages), self.bytes), self.own_tally(subscriber))

    def frames(self, encoding: Encoding) -> bytes:
        """Return all frames; the same object each time."""
        joined = self._shared.get(encoding)
        if joined is None:
            if encoding is plain:
                frames = [message.plain for message in self._messages]
            else:
                frames = [message.frame(encoding) for message in self._messages]
            joined = self._shared[encoding] = b"".join(frames)
        return joined

    def frames_for(self, subscriber: Subscriber) -> bytes:
        """Return the frames that one subscriber gets: all but those of its own messages.

        Complexity:
            Constant for all but publishers. For one, its own messages are looked at and the others' frames
            copied, so that a room of which everybody publishes costs its bytes and no more.
        """
        encoding = subscriber.encoding
        own = self.own.get(subscriber)
        if own is None:
            return self.frames(encoding)
        if len(own[0]) == len(self._messages):  # the usual one: nobody else has published anything
            return b""
        joined = self.frames(encoding)
        offsets = self._offsets_of(encoding)
        begins = [0, *(offsets[run.stop] for run in own)]
        ends = [*(offsets[run.start] for run in own), len(joined)]
        return b"".join([joined[begin:end] for begin, end in zip(begins, ends, strict=True)])

    def _offsets_of(self, encoding: Encoding) -> list[int]:
        """Return where each message begins in all frames, and at the end, where the last one ends."""
        offsets = self._offsets.get(encoding)
        if offsets is None:
            lengths = [len(message.frame(encoding)) for message in self._messages]
            offsets = self._offsets[encoding] = list(accumulate(lengths, initial=0))
        return offsets

    def deliver(self, encoding: Encoding, members: Mapping[Subscriber, Send], stats: Stats) -> Unsent:
        """Write to subscribers.

        The inner loop is what the relay does most of its time. Of the 4 µs and more that a turn of it takes all but 0.4
        are the kernel's, because everybody shares one object, nothing is counted singly, and no subscriber is looked
        at: in a large room, each would have to come from memory.

        Args:
            encoding: theirs.
            members: none of them paused, each with its ``send``.
            stats: where to count.

        Returns:
            Those to whom not all was sent.
        """
        publishers: dict[Send, Any] = {members[one]: one for one in self.own if one in members}
        # A list also because a send may pause its subscriber, which takes it from the members.
        others = [send for send in members.values() if send not in publishers]
        writes = [(self.frames(encoding), others)] if others else []
        writes += [(self.frames_for(publisher), [send]) for send, publisher in publishers.items()]
        unsent: dict[Send, tuple[bytes, int] | Exception] = {}
        for data, sends in writes:
            size = len(data)
            for send in sends if size else ():
                try:
                    sent = send(data)
                except Exception as error:  # noqa: BLE001 - whatever one raises, the others get their messages
                    unsent[send] = (data, 0) if isinstance(error, OSError) else error
                else:
                    if sent != size:
                        unsent[send] = (data, sent)
            stats.bytes_out += size * len(sends)
        stats.deliveries += len(self) * len(others) + sum(map(self.count_for, publishers.values()))
        return {subscriber: unsent[send] for subscriber, send in members.items() if send in unsent} if unsent else {}
