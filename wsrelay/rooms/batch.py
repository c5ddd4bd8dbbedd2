"""A batch: consecutive runs on their way out, joined once per encoding and shared by all their receivers.

Pure except for the writes through each subscriber's ``send``. Must not live here: which runs (log), which
subscribers and when (subscribers).
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from wsrelay.interfaces import Send, Subscriber
from wsrelay.message import Run
from wsrelay.rooms.frame_cache import FrameCache, encoded
from wsrelay.stats import NOTHING, Stats, Tally
from wsrelay.wire.frames import Encoding, plain
from wsrelay.wire.native import send_all

__all__ = ["WRITE_BYTES", "Batch", "Unsent"]

#: What counts as one more write in a stretch: copying this much takes about as long as a write of next to nothing.
WRITE_BYTES: Final = 16384


#: Subscriber → what was to be sent and how much of it was, or what its ``send`` raised.
Unsent = dict[Subscriber, tuple[bytes, int] | Exception]


class Batch:
    """Consecutive runs that go out in one write; joined once per encoding, shared by all subscribers.

    Attributes:
        start: the offset of the first message.
        end: the offset after the last one.
        bytes: the size as plain frames.
        cost: of delivering it to one subscriber, in writes of next to nothing; without deflate.
        own: publisher → the number and the bytes of its messages, which it does not get.
        cache: where encoded frames are kept for later batches with the same runs; ``None``: nowhere, because their
            log is about to forget them.
    """

    __slots__ = ("_offsets", "_places", "_runs", "_shared", "bytes", "cache", "cost", "end", "own", "start")

    def __init__(self, runs: Sequence[Run], start: int) -> None:
        self.start = start
        self.cache: FrameCache | None = None
        self._runs = runs
        self._shared: dict[Encoding, bytes] = {}
        self._offsets: dict[Encoding, list[int]] = {}
        # Any object can be a publisher; only subscribers are looked up.
        self.own: dict[Any, Tally] = {}
        #: Publisher → the places of its runs in the batch.
        self._places: dict[Any, list[int]] = {}
        batch_bytes = 0
        for place, run in enumerate(runs):
            size_bytes = len(run.plain)
            batch_bytes += size_bytes
            start += run.count
            if run.publisher in self.own:
                own = self.own[run.publisher]
                self.own[run.publisher] = own[0] + run.count, own[1] + size_bytes
                self._places[run.publisher].append(place)
            else:
                self.own[run.publisher] = run.count, size_bytes
                self._places[run.publisher] = [place]
        self.end = start
        self.bytes = batch_bytes
        self.cost = 1 + batch_bytes / WRITE_BYTES

    def __len__(self) -> int:
        """Return the number of messages."""
        return self.end - self.start

    def tally_for(self, subscriber: Subscriber) -> Tally:
        """Return the number and the bytes of the messages that one subscriber gets."""
        messages, size_bytes = self.own.get(subscriber, NOTHING)
        return self.end - self.start - messages, self.bytes - size_bytes

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

        Joined plain frames have 64 KiB at most, or are those of one run.
        """
        self._shared = {encoding: joined for encoding, joined in self._shared.items() if encoding is plain}

    def frames_for(self, subscriber: Subscriber) -> bytes:
        """Return the frames that one subscriber gets: all except its own messages.

        Complexity:
            Constant for all but publishers. For one, its runs are looked up and the others' frames copied, so that a
            room in which all publish costs its bytes and no more.
        """
        encoding = subscriber.encoding
        own = self._places.get(subscriber)
        if own is None:
            return self.frames(encoding)
        if len(self.own) == 1:  # all are its own
            return b""
        joined, offsets = self.frames(encoding), self._offsets_of(encoding)
        if len(own) == 1:
            return joined[: offsets[own[0]]] + joined[offsets[own[0] + 1] :]
        begins = [0, *(offsets[place + 1] for place in own)]
        ends = [*(offsets[place] for place in own), len(joined)]
        return b"".join([joined[begin:end] for begin, end in zip(begins, ends, strict=True)])

    def _encoded(self, encoding: Encoding) -> list[bytes]:
        """Return the frames of each run."""
        if encoding is plain:
            return [run.plain for run in self._runs]
        if self.cache is None:
            return [encoded(run, encoding) for run in self._runs]
        return [self.cache.frames_of(run, encoding) for run in self._runs]

    def _offsets_of(self, encoding: Encoding) -> list[int]:
        """Return where each run begins in :meth:`frames`, and at the end, where the last one ends."""
        offsets = self._offsets.get(encoding)
        if offsets is None:  # plain; for others, frames() has noted them
            offsets = self._offsets[encoding] = list(accumulate(map(len, self._encoded(encoding)), initial=0))
        return offsets

    def deliver(self, encoding: Encoding, members: dict[Subscriber, Send], stats: Stats) -> Unsent:
        """Write to subscribers.

        All others than the publishers of the batch share one object and one call of
        :func:`wsrelay.wire.pure.send_all`, where the relay spends most of its time. Nothing is counted singly, and no
        attribute of a subscriber is read, which in a large room would have to come from memory.

        Args:
            encoding: of all members.
            members: none of them paused, each with its ``send``.
            stats: where to count.

        Returns:
            The subscribers that did not take all.
        """
        unsent: Unsent = {}
        publishers = {one: members[one] for one in self.own if one in members}
        others, but = members, next(iter(publishers), None)
        if len(publishers) > 1:
            others, but = members.copy(), None
            for one in publishers:
                del others[one]
        if number := len(members) - len(publishers):
            data = self.frames(encoding)
            unsent = send_all(others, but, data)
            stats.bytes_out += len(data) * number
            stats.deliveries += (self.end - self.start) * number
        if len(self.own) > 1:  # else all messages are the publisher's own
            for publisher, send in publishers.items():
                data = self.frames_for(publisher)
                unsent |= send_all({publisher: send}, None, data)
                stats.bytes_out += len(data)
                stats.deliveries += self.end - self.start - self.own[publisher][0]
        return unsent
