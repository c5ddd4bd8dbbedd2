"""Drain: closing all connections of a relay, spread over a time with jitter, so that clients do not reconnect at once.

Must not live here: the close itself (:mod:`wsrelay.connection.protocol`), the end of listening
(:mod:`wsrelay.service`).
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from wsrelay.closecodes import CloseReason
from wsrelay.connection.host import Host
from wsrelay.connection.stage import OPEN_STAGES, Stage
from wsrelay.rooms.hub import Hub

__all__ = ["Drain", "abort_all", "each"]

#: Seconds between two steps: one timer for all connections.
STEP_SECONDS: Final = 0.05


class Failing(Protocol):
    """A connection that can be ended because of a bug."""

    def fail(self, error: Failure | Exception) -> None:
        """End because of a bug."""


One = TypeVar("One", bound=Failing)


class Drain:
    """Closes every connection in its turn.

    Connection i of n has its turn at (i + jitter) / n of the time, with a jitter from 0 to 1; an unfinished handshake
    at once. A paused connection is postponed until it has received everything published before, or until the time is
    over: then all remaining connections are closed, later arrivals included.

    Complexity:
        Twenty steps a second; each visits the connections with their turn in it, and the postponed ones.

    Args:
        connections: a view of the relay's connections.
        hub: their rooms, which continue to relay meanwhile.
        reason: the close reason.
        reactor: for the time.
        random: a number from 0 to 1.

    Attributes:
        done: a Deferred that fires at the :meth:`end`.
    """

    def __init__(
        self,
        connections: Collection[Host],
        hub: Hub,
        reason: CloseReason,
        reactor: IReactorTime,
        random: Callable[[], float],
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self._connections = connections
        self._hub = hub
        self._reason = reason
        self._reactor = reactor
        self._random = random
        #: The turns, as seconds since the start and connection; in order.
        self._turns: deque[tuple[float, Host]] = deque()
        self._postponed: list[Host] = []
        self._stepping = LoopingCall(self._step)
        self._stepping.clock = reactor

    def start(self, spread_seconds: float, abort_after_seconds: float) -> None:
        """Begin.

        Args:
            spread_seconds: when the last connection has its turn; 0 closes all at once.
            abort_after_seconds: when the remaining connections are aborted.
        """
        members = [connection for connection in self._connections if connection.stage in OPEN_STAGES]
        self._turns.extend((0.0, connection) for connection in {*self._connections} - {*members})
        self._turns.extend(
            ((index + self._random()) / len(members) * spread_seconds, member) for index, member in enumerate(members)
        )
        self._began = self._reactor.seconds()
        self._spread_seconds = spread_seconds
        self._watchdog = self._reactor.callLater(abort_after_seconds, abort_all, self._connections)
        self._stepping.start(STEP_SECONDS)

    def end(self) -> None:
        """No connection is left: stop the timers."""
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
                self._hub.flush()  # joins the frames once for all connections
            finally:
                each(tuple(self._connections), lambda connection: connection.close(self._reason))
            return
        ready, self._postponed = self._postponed, []
        while self._turns and self._turns[0][0] <= elapsed:
            ready.append(self._turns.popleft()[1])
        each(ready, self._close_unless_paused)

    def _close_unless_paused(self, connection: Host) -> None:
        if connection.member is not None and not connection.paused:
            self._hub.finish(connection.member)  # may pause it
        if connection.paused:
            self._postponed.append(connection)
        else:
            connection.close(self._reason)


def abort_all(connections: Collection[Host]) -> None:
    """Abort the TCP of every connection now, unless it has ended: a TLS transport raises then."""
    remaining = [connection for connection in connections if connection.stage is not Stage.LOST]
    each(remaining, lambda connection: connection.transport.abortConnection())


def each(connections: Iterable[One], act: Callable[[One], None]) -> None:
    """Act on connections; an exception ends its own connection only."""
    for connection in connections:
        try:
            act(connection)
        except Exception as error:  # noqa: BLE001 - the loop goes on with the others
            connection.fail(error)
