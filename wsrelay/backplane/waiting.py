"""Waiting: the handshakes that wait for a shard: for its broker, or for entries that their client knows already.

A client that comes from another node with the id of its last message may be ahead of this node. It waits for
:data:`AHEAD_SECONDS` at most; then the room decides whether its history is gone.

Must not live here: the state of the shard (:mod:`wsrelay.backplane.shard`), the check of ids
(:mod:`wsrelay.rooms.history`).
"""

import math
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred

from wsrelay.backplane.epochs import Epochs
from wsrelay.errors import BackplaneDown
from wsrelay.message_id import MessageId
from wsrelay.rooms.timeline import Timeline

__all__ = ["AHEAD_SECONDS", "Waiting"]

#: The longest wait for entries that a client knows already.
AHEAD_SECONDS: Final = 2.0


class Waiting:
    """Waiting handshakes.

    Args:
        timeline: of the shard's rooms.
        seconds: the time.
    """

    def __init__(self, timeline: Timeline, seconds: Callable[[], float]) -> None:
        self._timeline = timeline
        self._seconds = seconds
        #: Deferred → since, and the deadline; infinite: it waits for the broker.
        self._entering: dict[Deferred[None], tuple[MessageId | None, float]] = {}
        #: The epoch at the last look, and the least place in it that is awaited; empty: none is.
        self._epoch, self._least = "", tuple[int, ...]()

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._entering)

    def enter(self, since: MessageId | None, *, is_up: bool) -> Deferred[None] | None:
        """Return what is called when the wait is over; ``None``: there is nothing to wait for.

        Args:
            since: up to which message the client knows all; ``None``: it wants nothing of before.
            is_up: whether there is a broker.
        """
        if is_up and not self._is_ahead(since):
            return None
        entered: Deferred[None] = Deferred(self._forget)
        self._entering[entered] = since, self._seconds() + AHEAD_SECONDS if is_up else math.inf
        self._note(since)
        return entered

    def delivered(self) -> None:
        """Entries were delivered: let in those that know no more.

        Complexity:
            Constant, unless the first one is let in, or the epoch has changed; else one look at each.
        """
        timeline = self._timeline
        if timeline.epoch != self._epoch or (self._least and timeline.head >= self._least):
            self.answer()

    def answer(self) -> None:
        """There is a broker now, or some time has passed: let in those that wait for nothing any more."""
        now, self._epoch, self._least = self._seconds(), self._timeline.epoch, ()
        for entered in tuple(self._entering):
            since, until = self._entering.get(entered, (None, 0.0))
            if now < until and self._is_ahead(since):
                self._entering[entered] = since, min(until, now + AHEAD_SECONDS)
                self._note(since)
            else:
                self._end(entered)

    def _note(self, since: MessageId | None) -> None:
        """Note what is awaited, for :meth:`delivered`."""
        if since is not None and since.epoch == self._timeline.epoch:
            self._least = min(self._least or since.place, since.place)

    def refuse(self) -> None:
        """There is no broker: refuse all."""
        for entered in tuple(self._entering):
            self._end(entered, BackplaneDown())

    def _end(self, entered: Deferred[None], error: BackplaneDown | None = None) -> None:
        if self._entering.pop(entered, None) is None:
            return  # one before it has cancelled it
        if error is None:
            entered.callback(None)
        else:
            entered.errback(error)

    def _forget(self, cancelled: Deferred[None]) -> None:
        self._entering.pop(cancelled, None)

    def _is_ahead(self, since: MessageId | None) -> bool:
        if since is None:
            return False
        timeline = self._timeline
        return (since.epoch == timeline.epoch and since.place > timeline.head) or Epochs.may_follow(
            since.epoch, timeline.epoch
        )
