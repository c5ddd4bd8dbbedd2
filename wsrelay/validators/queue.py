"""FairQueue: a concurrency limit with a bounded, fair queue.

Must not live here: questions and their timeouts (:mod:`wsrelay.validators.backend`).
"""

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed

__all__ = ["FairQueue", "QueueFullError"]


#: The maximum share of the running places per key, so that slow ones of a key do not delay other keys.
_SHARE: Final = 0.75


class QueueFullError(Exception):
    """There is no place in the queue."""


class FairQueue:
    """A concurrency limit with a bounded queue: round robin over its keys, FIFO within a key.

    One key has at most three quarters of the running places, rounded up.

    Complexity:
        O(1), or O(keys) where keys run their share or the queue is full; a cancellation costs O(places of its key).

    Args:
        running: the maximum number of running places; from 1.
        waiting: the maximum number of waiting places.

    Attributes:
        running: the number of running places.
        waiting: the number of waiting places.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._max_running = running
        self._max_waiting = waiting
        self._max_of_key = math.ceil(running * _SHARE)
        self._running_of: Counter[str] = Counter()
        self._lines: dict[str, deque[Deferred[None]]] = {}  # the first key is next
        self._is_admitting = False
        self.running = 0
        self.waiting = 0

    def enter(self, key: str) -> "Deferred[None]":
        """Take a place.

        A newcomer to a full queue takes the last place of the key with the most, if its own key has fewer by two.

        Args:
            key: a name of the client's address or network.

        Returns:
            A Deferred that fires when it may run; :meth:`leave` ends that. Cancelling it before gives the place back.
            It fails with :class:`QueueFullError` if a newcomer takes the place.

        Raises:
            QueueFullError: the queue is full.
        """
        if self.running < self._max_running and self._running_of[key] < self._max_of_key:
            self._begin(key)
            return succeed(None)
        if self.waiting >= self._max_waiting:
            self._make_room(key)
        place: Deferred[None] = Deferred(self._removing(key))
        self._lines.setdefault(key, deque()).append(place)
        self.waiting += 1
        return place

    def leave(self, key: str) -> None:
        """End a run; the next one in the queue begins before this returns."""
        self.running -= 1
        self._running_of[key] -= 1
        if not self._running_of[key]:
            del self._running_of[key]
        if self._is_admitting:  # the loop below goes on: no recursion where each run ends at once
            return
        self._is_admitting = True
        while self.running < self._max_running and (place := self._next()) is not None:
            place.callback(None)
        self._is_admitting = False

    def _begin(self, key: str) -> None:
        self.running += 1
        self._running_of[key] += 1

    def _next(self) -> "Deferred[None] | None":
        key = next((key for key in self._lines if self._running_of[key] < self._max_of_key), None)
        if key is None:
            return None
        line = self._lines.pop(key)
        place = line.popleft()
        if line:
            self._lines[key] = line  # behind the other keys
        self.waiting -= 1
        self._begin(key)
        return place

    def _make_room(self, key: str) -> None:
        most = max(self._lines.values(), key=len, default=deque())
        if len(most) <= len(self._lines.get(key, ())) + 1:
            raise QueueFullError
        self.waiting -= 1
        most.pop().errback(QueueFullError())

    def _removing(self, key: str) -> "Callable[[Deferred[None]], None]":
        def remove(place: "Deferred[None]") -> None:
            line = self._lines[key]
            line.remove(place)
            self.waiting -= 1
            if not line:
                del self._lines[key]

        return remove
