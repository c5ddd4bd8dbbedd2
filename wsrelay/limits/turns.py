"""Turns: how much of one turn of the reactor the connections of one network may take. Pure: time is asked from outside.

In a turn the reactor reads from all sockets that have something, then the rooms are flushed. Without a bound, a
thousand busy connections of one client make every turn last for seconds, and all others wait as long. So the time that
reads take is measured. Once a network has taken its share of a turn, its further reads wait for the next turns, first
come, first served (fair queueing); other networks are read in between. A read that waits costs
two ``epoll_ctl`` more, up to half of the throughput of short reads, so those leave the queue. Source: issue 13.

Must not live here: limits on rates (:mod:`wsrelay.limits.rates`), pausing a transport (connection).
"""

from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["SHORT_SECONDS", "TURN_SECONDS", "Turns", "Waiting"]

#: The time in one turn for the reads of all networks that have more than that to read, in seconds.
TURN_SECONDS: Final = 0.02

#: Shorter reads are not counted: most are short.
SHORT_SECONDS: Final = 50e-6


class Waiting(Protocol):
    """A connection, as its network's share concerns it."""

    @property
    def network(self) -> object:
        """What shares one share: see :attr:`wsrelay.limits.admission.Visit.network`."""

    def take_turn(self, data: bytes) -> None:
        """Read again, and take the bytes that had to wait."""


class Turns:
    """The shares of all networks.

    Args:
        call_soon: calls a function in the next reactor turn.
        seconds: the time on a fine clock.

    Attributes:
        seconds: the same.
        is_contended: whether :meth:`postpone` has to be asked: a network has used up its share, or reads wait.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.is_contended = False
        self._call_soon = call_soon
        self._is_scheduled = False
        #: The connection that is given its turn now.
        self._on_turn: Waiting | None = None
        #: Whether it could not use its turn.
        self._keeps_place = False
        #: Network → the seconds that its reads have taken since the last :meth:`_begin`: one turn, or several in which
        #: no half of a share was used up. To begin each turn would cost as much as a short read.
        self._taken: dict[object, float] = {}
        #: Network → its connections that wait, in their order, each with the bytes it has read.
        self._queues: dict[object, dict[Waiting, bytes]] = {}

    def took(self, connection: Waiting, seconds: float) -> None:
        """Count the time that a read has taken; not for reads below :data:`SHORT_SECONDS`."""
        network = connection.network
        taken = self._taken[network] = self._taken.get(network, 0.0) + seconds
        share = self._share
        if taken >= share / 2:  # the next turn counts anew: else some long reads in many turns would use up a share
            self._schedule()
            self.is_contended |= taken >= share

    def postpone(self, connection: Waiting, data: bytes) -> bool:
        """Let a read wait if its connection does, or its network has used up its share; not within its own turn.

        Args:
            connection: the connection.
            data: the bytes it has read.

        Returns:
            Whether it waits; else it is to be handled now.
        """
        if connection is self._on_turn:  # else no share below SHORT_SECONDS would serve any
            return False
        network = connection.network
        must_wait = connection in self._queues.get(network, ()) or self._taken.get(network, 0.0) >= self._share
        if must_wait:
            self.wait(connection, data)
        return must_wait

    def wait(self, connection: Waiting, data: bytes = b"", *, keeps_place: bool = False) -> None:
        """Let a connection wait for its next turn, behind the others of its network. It must not read meanwhile.

        Args:
            connection: the connection.
            data: bytes for :meth:`Waiting.take_turn`, behind those that wait already.
            keeps_place: whether it could not use the turn that it was given now, and waits before the others.
        """
        queue = self._queues.setdefault(connection.network, {})
        # A copy: what a socket has read is a large block that was cut, and leaves a hole in the heap when it is freed.
        queue[connection] = queue.get(connection, b"") + bytes(memoryview(data))
        self.is_contended = True
        self._keeps_place = keeps_place
        self._schedule()

    def waiting_bytes(self, connection: Waiting) -> int:
        """Return the number of bytes that wait with a connection."""
        return len(self._queues.get(connection.network, {}).get(connection, b""))

    def withdraw(self, connection: Waiting) -> bytes:
        """Take a connection out of its queue; return the bytes that waited with it."""
        return self._queues.get(connection.network, {}).pop(connection, b"")

    def tick(self) -> None:
        """Forget what networks have taken that never used up half a share. To be called now and then."""
        if not self.is_contended:
            self._taken.clear()

    @property
    def _share(self) -> float:
        """The seconds of one turn for each network."""
        return TURN_SECONDS / max(1, len(self._queues))

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn: serve what waits; reads of the same turn count, too.

        Of very many networks, the others are the first of the next turn.
        """
        self._is_scheduled = False
        self._taken.clear()
        left_seconds = TURN_SECONDS
        try:
            for network, queue in tuple(self._queues.items()):
                if left_seconds <= 0:
                    break
                is_used, seconds = self._serve(network, queue)
                if is_used:
                    self._queues[network] = self._queues.pop(network)
                left_seconds -= seconds
        finally:  # also when a transport raises: the others must not wait until one more does
            self._on_turn = None
            self._queues = {network: queue for network, queue in self._queues.items() if queue}
            self.is_contended = bool(self._queues)
            if self._queues or self._taken:  # what was taken now must not count in a later turn
                self._schedule()

    def _serve(self, network: object, queue: dict[Waiting, bytes]) -> tuple[bool, float]:
        """Give their turn to connections of a network, as many as its share allows.

        Returns:
            Whether any has used it, and the seconds that they have taken.
        """
        kept = dict[Waiting, None]()
        is_used = False
        short_seconds = 0.0
        # Counted at its beginning: a connection that must wait again stays behind the others.
        for connection in tuple(queue):
            if self._taken.get(network, 0.0) + short_seconds >= self._share:
                break
            if connection in queue:
                short_seconds += self._give_turn(network, connection, queue.pop(connection))
                if self._keeps_place:
                    kept[connection] = None
                else:
                    is_used = True
        if kept:  # to the front
            waiting = dict(queue)
            queue.clear()
            queue.update({one: waiting[one] for one in (kept | waiting) if one in waiting})
        return is_used, self._taken.get(network, 0.0) + short_seconds

    def _give_turn(self, network: object, connection: Waiting, data: bytes) -> float:
        """Let a connection read, and count a long read as :meth:`took` does.

        Returns:
            What a short one counts for the queue, in seconds; 0 for a long one. It does not count for the reads that
            follow in the same turn, of which a short one does not count either: else these would wait, and the queue
            never become empty.
        """
        self._on_turn, self._keeps_place = connection, False
        taken, began = self._taken.get(network, 0.0), self.seconds()
        connection.take_turn(data)
        # Measured here as well: in its turn a connection may come to another network (behind a proxy).
        seconds = max(self.seconds() - began, self._taken.get(network, 0.0) - taken)
        if seconds > SHORT_SECONDS:
            self._taken[network] = taken + seconds + SHORT_SECONDS  # to read again is work, too
            return 0.0
        return seconds if self._keeps_place else SHORT_SECONDS  # who stays in front must not keep the others waiting
