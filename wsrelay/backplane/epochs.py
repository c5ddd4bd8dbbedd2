"""Epochs: for how long the ids of a stream mean the same on all nodes, as one node knows it.

An id is a cursor into one order. It may be used on another node if that node has delivered nothing before it which this
one has not. A broker that loses entries breaks that: they are sent again and get later places, where some nodes skip
them, because they had read them before. So the epoch changes: all ids of before are void.

Entries carry the epoch that their node knows, and readers take the largest they have seen: nobody has to agree with
anybody, and the order of reconnects does not matter. A node that finds a loss goes through two epochs: a *private* one,
whose ids no other node takes, until all that it has read and the broker has lost has come again; then a *shared* one,
which it sends. Meanwhile it sends a *void* one, so that nodes without the lost entries take no old ids either. Of those
that are made of the same epoch, void ones are smaller than private ones, and these than shared ones.

Pure; time is passed in. Must not live here: how a loss is found (:mod:`wsrelay.backplane.shard`), what a room knows of
messages before (:mod:`wsrelay.rooms.history`).
"""

from collections.abc import Callable, Mapping
from secrets import randbelow
from typing import Final

from wsrelay.backplane.entry import Entry
from wsrelay.message_id import EPOCH_CHARS, epoch_number, epoch_of
from wsrelay.rooms.timeline import Timeline

__all__ = ["START_PLACE", "Epochs"]

#: The number of epochs, and the least steps to a void, a private and a shared one; to twice as much at random, because
#: two nodes may make one at the same time. Enough for 16 000 losses of one stream.
_EPOCHS: Final = 32**EPOCH_CHARS
_VOID_STEP: Final = 2**16
_PRIVATE_STEP: Final = 2**20
_SHARED_STEP: Final = 2**24

#: So much larger is an epoch at most, some losses later.
_FOLLOWING: Final = 2**28

#: Before the first entry of a stream.
START_PLACE: Final = (0, 0)


class Epochs:
    """The epochs of one stream.

    Args:
        timeline: of the shard's rooms; changed here.
        below: returns a random number below another one.

    Attributes:
        stamp: the epoch for the entries of this node; empty while it shares none.
    """

    __slots__ = ("_below", "_largest", "_owed", "_timeline", "_until", "stamp")

    def __init__(self, timeline: Timeline, below: Callable[[int], int] = randbelow) -> None:
        self._timeline = timeline
        self._below = below
        #: The largest epoch that was read.
        self._largest = ""
        #: Node → number of its last entry that was read before a loss and has not come again, nor a later one.
        self._owed: dict[str, int] = {}
        self._until = 0.0
        self.stamp = ""

    @property
    def is_unknown(self) -> bool:
        """Whether there is no epoch yet."""
        return not self._timeline.epoch

    def read(self, found: Entry, place: tuple[int, ...]) -> None:
        """Note the epoch of an entry, before its messages are delivered.

        Args:
            found: the entry.
            place: behind everything before it, and before its first message.
        """
        if found.epoch > self._largest:
            self._largest = found.epoch
            if not self._owed:
                self._share(found.epoch, place)

    def delivered(self, found: Entry, place: tuple[int, ...]) -> None:
        """Note that an entry was delivered, or skipped: it may be the last one that was lost.

        Args:
            found: the entry.
            place: behind its last message.
        """
        if found.seq >= self._owed.get(found.node, found.seq + 1):
            del self._owed[found.node]
            if not self._owed:
                self._settle(place)

    def begin(self, place: tuple[int, ...]) -> None:
        """Begin the first epoch, or a larger one, at a place, and send it."""
        self._share(self._next(_SHARED_STEP), place)

    def doubt(self) -> None:
        """The broker has lost entries, but what was read before is still being delivered: what is sent now is void."""
        self.stamp = self._next(_VOID_STEP)

    def lose(self, owed: Mapping[str, int], until: float) -> None:
        """The broker has lost entries: reading goes on from the start of the stream.

        Args:
            owed: node → number of its last entry that was read; without those that will send nothing again.
            until: the time to give up waiting for them.
        """
        void = self._next(_VOID_STEP)
        self._timeline.change(self._next(_PRIVATE_STEP), START_PLACE)
        self._timeline.head = START_PLACE
        self._owed, self._until, self.stamp = dict(owed), until, void
        if not owed:
            self.begin(START_PLACE)

    @staticmethod
    def may_follow(epoch: str, known: str) -> bool:
        """Return whether an epoch may be a later one of a stream; not one of a stream that was lost altogether."""
        return 0 < epoch_number(epoch) - epoch_number(known) <= _FOLLOWING

    def tick(self, now: float) -> None:
        """Give up waiting for what nodes will not send again."""
        if self._owed and now >= self._until:
            self._settle(self._timeline.head)

    def _settle(self, place: tuple[int, ...]) -> None:
        """Share an epoch from a place on: that of a node which did so before, or a new one."""
        self._owed.clear()
        if self._largest > self._timeline.epoch:
            self._share(self._largest, place)
        else:
            self.begin(place)

    def _share(self, epoch: str, place: tuple[int, ...]) -> None:
        self._timeline.change(epoch, place)
        self.stamp = self._largest = epoch

    def _next(self, step: int) -> str:
        """Return a random epoch that is larger than all known, by up to twice the step; the first one: any."""
        known = max(self._largest, self._timeline.epoch)
        if not known:
            return epoch_of(self._below(_EPOCHS // 2))
        return epoch_of(min(epoch_number(known) + step + self._below(step), _EPOCHS - 1))
