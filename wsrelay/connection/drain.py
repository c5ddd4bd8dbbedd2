"""The end of all connections of a relay: spread over a time, so that not all of them come back at once.

What a connection is told, and how it ends, is its own business; who stops listening before, the service's.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from wsrelay.closecodes import CloseReason
from wsrelay.connection.stage import OPEN_STAGES
from wsrelay.rooms.hub import Hub

__all__ = ["Drain", "abort_all", "each"]

#: How often it is looked whose turn has come: one timer, not one per connection.
STEP_SECONDS: Final = 0.05


class Drain:
    """Closes every connection, one after the other.

    Connection i of n has its turn at (i + a random number up to 1) / n of the time; one whose handshake is not done, at
    once. One that is behind is put off until it has what was published before, or until the time is over: then all are
    closed that are still there, those included that came meanwhile.

    Complexity:
        Twenty steps a second, each with a look at those whose turn it is and at those who were put off.

    Args:
        connections: the relay's, as they are at any time.
        hub: their rooms, which go on relaying meanwhile.
        reason: what they are told.
        reactor: for the time.
        random: a number from 0 to 1.

    Attributes:
        done: a Deferred that fires at the :meth:`end`.
    """

    def __init__(
        self, connections: set[Any], hub: Hub, reason: CloseReason, reactor: Any, random: Callable[[], float]
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self._connections = connections
        self._hub = hub
        self._reason = reason
        self._reactor = reactor
        self._random = random
        #: When its turn is, in seconds since the start, and who; in order.
        self._turns: deque[tuple[float, Any]] = deque()
        self._put_off: list[Any] = []
        self._stepping = LoopingCall(self._step)
        self._stepping.clock = reactor

    def start(self, spread_seconds: float, abort_after_seconds: float) -> None:
        """Begin.

        Args:
            spread_seconds: when the last one has its turn; 0 is everybody, now.
            abort_after_seconds: when those that have not gone are aborted.
        """
        members = [connection for connection in self._connections if connection.stage in OPEN_STAGES]
        self._turns.extend((0.0, connection) for connection in self._connections.difference(members))
        self._turns.extend(
            ((index + self._random()) / len(members) * spread_seconds, member) for index, member in enumerate(members)
        )
        self._began = self._reactor.seconds()
        self._spread_seconds = spread_seconds
        self._watchdog = self._reactor.callLater(abort_after_seconds, abort_all, self._connections)
        self._stepping.start(STEP_SECONDS)

    def end(self) -> None:
        """Nobody is left: leave no timer behind."""
        if self._stepping.running:
            self._stepping.stop()
        if self._watchdog.active():
            self._watchdog.cancel()
        self.done.callback(None)

    def _step(self) -> None:
        elapsed = self._reactor.seconds() - self._began
        if elapsed >= self._spread_seconds:
            self._stepping.stop()
            try:
                self._hub.flush()  # joined once for all, instead of once for each
            finally:
                each(tuple(self._connections), lambda connection: connection.close(self._reason))
            return
        ready, self._put_off = self._put_off, []
        while self._turns and self._turns[0][0] <= elapsed:
            ready.append(self._turns.popleft()[1])
        each(ready, self._close_unless_behind)

    def _close_unless_behind(self, connection: Any) -> None:
        if connection.stage in OPEN_STAGES and not connection.paused:
            self._hub.finish(connection.member)  # which it may not take all of
        if connection.paused:
            self._put_off.append(connection)
        else:
            connection.close(self._reason)


def abort_all(connections: set[Any]) -> None:
    """End every connection's TCP, now."""
    each(tuple(connections), lambda connection: connection.transport.abortConnection())


def each(connections: Iterable[Any], act: Callable[[Any], None]) -> None:
    """Act on connections; what one of them raises is its own."""
    for connection in connections:
        try:
            act(connection)
        except Exception as error:  # noqa: BLE001 - the others have their turn all the same
            connection.fail(error)
