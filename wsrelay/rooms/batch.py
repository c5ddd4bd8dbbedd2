"""A batch: consecutive messages on their way out, joined once per encoding and shared by all their receivers.

Pure except for the writes through each subscriber's ``send``. Must not live here: which messages (log), which
subscribers and when (subscribers).
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, Final

from wsrelay.interfaces import Send, Subscriber
from wsrelay.message import Message
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.stats import Stats, Tally
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
        end: the offset after the last one.
        bytes: the size as plain frames.
        cost: of delivering it to one subscriber, in writes of next to nothing; without deflate.
        own: publisher → its messages, as ranges of places in the batch.
        cache: where encoded frames are kept for later batches with the same messages; ``None``: nowhere, because their
            log is about to forget them.
    """

    __slots__ = ("_messages", "_offsets", "_shared", "bytes", "cache", "cost", "end", "own", "start")

    def __init__(self, messages: Sequence[Message], start: int) -> None:
        self.start = start
        self.end = start + len(messages)
        self.bytes = sum([len(message.plain) for message in messages])
        self.cost = 1 + self.bytes / WRITE_BYTES
        self.cache: FrameCache | None = None
        self._messages = messages
        self._shared: dict[Encoding, bytes] = {}
        self._offsets: dict[Encoding, list[int]] = {}
        # Any object can be a publisher; only subscribers are looked up.
        self.own: dict[Any, list[range]] = {}
        begin = 0
        # One read brings all that a publisher has sent, so its messages mostly stand together.
        for publisher, run in groupby(messages, attrgetter("publisher")):
            behind = begin + len(list(run))
            self.own.setdefault(publisher, []).append(range(begin, behind))
            begin = behind

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._messages)

    def own_tally(self, publisher: Subscriber) -> Tally:
        """Return the number and the bytes of one publisher's own messages.

        Complexity:
            That of its runs, mostly one.
        """
        messages, size_bytes, offsets = 0, 0, self._offsets.get(plain) or self._offsets_of(plain)
        for run in self.own.get(publisher, ()):
            messages += run.stop - run.start
            size_bytes += offsets[run.stop] - offsets[run.start]
        return messages, size_bytes

    def tally_for(self, subscriber: Subscriber) -> Tally:
        """Return the number and the bytes of the messages that one subscriber gets."""
        messages, size_bytes = self.own_tally(subscriber) if subscriber in self.own else (0, 0)
        return len(self._messages) - messages, self.bytes - size_bytes

    def frames(self, encoding: Encoding) -> bytes:
        """Return all frames; the same object each time."""
        joined = self._shared.get(encoding)
        if joined is None:
            frames = self._encoded(encoding)
            if encoding is not plain:  # made for this call only
                self._offsets[encoding] = list(accumulate(map(len, frames), initial=0))
            joined = self._shared[encoding] = b"".join(frames)
        return joined

    def forget_encoded(self) -> None:
        """Forget the joined frames of other encodings than plain; they are made again if needed.

        Joined plain frames have 64 KiB at most, or are those of one message.
        """
        self._shared = {encoding: joined for encoding, joined in self._shared.items() if encoding is plain}

    def frames_for(self, subscriber: Subscriber) -> bytes:
        """Return the frames that one subscriber gets: all except its own messages.

        Complexity:
            Constant for all but publishers. For one, its runs are looked up and the others' frames copied, so that a
            room in which all publish costs its bytes and no more.
        """
        encoding = subscriber.encoding
        own = self.own.get(subscriber)
        if own is None:
            return self.frames(encoding)
        if len(self.own) == 1:  # all are its own
            return b""
        joined, offsets = self.frames(encoding), self._offsets_of(encoding)
        if len(own) == 1:
            return joined[: offsets[own[0].start]] + joined[offsets[own[0].stop] :]
        begins = [0, *(offsets[run.stop] for run in own)]
        ends = [*(offsets[run.start] for run in own), len(joined)]
        return b"".join([joined[begin:end] for begin, end in zip(begins, ends, strict=True)])

    def _encoded(self, encoding: Encoding) -> list[bytes]:
        """Return the frame of each message."""
        if encoding is plain:
            return [message.plain for message in self._messages]
        if self.cache is None:
            return [encoding(message.plain) for message in self._messages]
        return [self.cache.frame(message, encoding) for message in self._messages]

    def _offsets_of(self, encoding: Encoding) -> list[int]:
        """Return where each message begins in :meth:`frames`, and at the end, where the last one ends."""
        offsets = self._offsets.get(encoding)
        if offsets is None:  # plain; for others, frames() has noted them
            offsets = self._offsets[encoding] = list(accumulate(map(len, self._encoded(encoding)), initial=0))
        return offsets

    def deliver(self, encoding: Encoding, members: Mapping[Subscriber, Send], stats: Stats) -> Unsent:
        """Write to subscribers.

        The relay spends most of its time in the inner loop. Of the 4 µs and more per turn, all but 0.4 are the
        kernel's: all share one object, nothing is counted singly, and no subscriber is touched, which in a large room
        would have to come from memory.

        Args:
            encoding: of all members.
            members: none of them paused, each with its ``send``.
            stats: where to count.

        Returns:
            The subscribers that did not take all.
        """
        publishers: dict[Send, Subscriber] = {members[one]: one for one in self.own if one in members}
        # A list also because a send may pause its subscriber, which takes it from the members.
        others = [send for send in members.values() if send not in publishers] if publishers else list(members.values())
        writes = [(self.frames(encoding), others)] if others else []
        deliveries = len(self._messages) * len(others)
        if publishers and len(self.own) > 1:  # else all messages are the publisher's own
            for send, publisher in publishers.items():
                writes.append((self.frames_for(publisher), [send]))
                deliveries += len(self._messages) - sum(map(len, self.own[publisher]))
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
        stats.deliveries += deliveries
        return {subscriber: unsent[send] for subscriber, send in members.items() if send in unsent} if unsent else {}
