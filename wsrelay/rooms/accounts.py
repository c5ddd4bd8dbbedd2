"""Accounts: what each member of a room was given, to the message and to the byte, without counting single deliveries.

The room counts what it has flushed. An up-to-date subscriber was given all of that except its *left out* part: messages
flushed before it joined, its own messages, and messages that it skipped. A subscriber with a cursor of its own has a
sum instead. Publishers are charged once per flush, when their batch is known; other subscribers never.

Must not live here: cursors (subscribers), counters of published messages (connection).
"""

from collections.abc import Container, Iterable

from wsrelay.interfaces import Subscriber
from wsrelay.rooms.batch import Batch
from wsrelay.rooms.invariants import require
from wsrelay.stats import NOTHING, Tally

__all__ = ["Accounts"]


class Accounts:
    """The accounts of one room.

    A member without an entry was given everything (up to date) or nothing (any other), so an idle one costs no memory
    in a room without traffic.

    Attributes:
        flushed: messages and bytes flushed since the room was opened. Set it for a run that is given at once to all
            up-to-date subscribers; its publisher, if it is one, is to be left out.
    """

    __slots__ = ("_given", "_left_out", "flushed")

    def __init__(self) -> None:
        self.flushed: Tally = NOTHING
        #: Up-to-date subscriber → the part of flushed that it was not given.
        self._left_out: dict[Subscriber, Tally] = {}
        #: Any other member → what it was given.
        self._given: dict[Subscriber, Tally] = {}

    def flush(self, batch: Batch, current: Iterable[Container[object]]) -> None:
        """Count a batch as given to all up-to-date subscribers, except to each its own messages.

        Args:
            batch: the next one of the room.
            current: the up-to-date subscribers, in groups.

        Complexity:
            One dict update per publisher in the batch.
        """
        self.flushed = batch.end, self.flushed[1] + batch.bytes
        for members in current:
            for publisher, own in batch.own.items():
                if publisher in members:
                    self.leave_out(publisher, *own)

    def leave_out(self, publisher: Subscriber, messages: int, size_bytes: int) -> None:
        """Count an up-to-date subscriber's own messages."""
        before = self._left_out.get(publisher, NOTHING)
        self._left_out[publisher] = before[0] + messages, before[1] + size_bytes

    def skip_to(self, messages: int, size_bytes: int) -> None:
        """Set what was flushed, in a room without subscribers."""
        self.flushed = messages, size_bytes

    def follow(self, subscriber: Subscriber) -> None:
        """A subscriber becomes up to date."""
        given = self._given.pop(subscriber, NOTHING)
        left_out = _minus(self.flushed, given)
        if left_out != NOTHING:
            self._left_out[subscriber] = left_out

    def part(self, subscriber: Subscriber, due: Batch) -> None:
        """An up-to-date subscriber gets a sum of its own.

        Args:
            subscriber: that subscriber.
            due: the part of what was flushed that it has still to be given; may be empty.
        """
        self._given[subscriber] = self.given_of_flushed(subscriber, due)
        self._left_out.pop(subscriber, None)

    def add(self, subscriber: Subscriber, batch: Batch) -> None:
        """A subscriber with a sum of its own is given a batch, except its own messages."""
        messages, size_bytes = self._given.get(subscriber, NOTHING)
        more = batch.tally_for(subscriber)
        self._given[subscriber] = messages + more[0], size_bytes + more[1]

    def take_back(self, subscriber: Subscriber, batch: Batch) -> None:
        """The write of a batch that was counted already has failed."""
        self._given[subscriber] = _minus(self.given(subscriber), batch.tally_for(subscriber))

    def given_of_flushed(self, subscriber: Subscriber, due: Batch) -> Tally:
        """Return what an up-to-date subscriber was given. Arguments: see :meth:`part`."""
        return _minus(_minus(self.flushed, self._left_out.get(subscriber, NOTHING)), due.tally_for(subscriber))

    def given(self, member: Subscriber) -> Tally:
        """Return what any other member was given."""
        return self._given.get(member, NOTHING)

    def close(self, member: Subscriber) -> Tally:
        """Forget a member that is not up to date; return what it was given in all."""
        return self._given.pop(member, NOTHING)

    def check(self, flushed: int, current: Container[Subscriber], others: Iterable[Subscriber]) -> None:
        """Raise ``AssertionError`` if an invariant is broken. For tests.

        Args:
            flushed: the offset up to which up-to-date subscribers have everything.
            current: the up-to-date subscribers.
            others: all other members.

        Complexity:
            One look at each account.
        """
        require(
            {
                "the flushed messages are not counted": self.flushed[0] == flushed,
                "a part is left out for a subscriber that is not up to date": all(
                    one in current for one in self._left_out
                ),
                "a sum is kept for a subscriber that is up to date, or gone": self._given.keys() <= set(others),
            }
        )


def _minus(one: Tally, other: Tally) -> Tally:
    """Return the difference; the same object where that is all, so that subscribers share it."""
    return one if other == NOTHING else (one[0] - other[0], one[1] - other[1])
