"""The sweep: the half-second housekeeping tick, which checks all deadlines.

One timer for all connections, instead of one or more for each (TRAPS 29). Must not live here: actions at a deadline
(:mod:`wsrelay.connection.deadline`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from wsrelay.connection.context import SWEEP_SECONDS
from wsrelay.connection.deadline import act
from wsrelay.connection.drain import each
from wsrelay.connection.host import Host
from wsrelay.connection.reading import speed_up
from wsrelay.logs.failures import log_failure
from wsrelay.stats import Stats

__all__ = ["Sweep"]


class Sweep:
    """Calls connections at their deadlines, and periodic steps.

    After a blocked reactor one sweep skips the deadlines, so that pongs and answers that came meanwhile are read before
    the next sweep, and no peer is closed for the relay's delay.

    Complexity:
        One comparison per connection, every :data:`~wsrelay.connection.context.SWEEP_SECONDS`.

    Args:
        connections: a view of the relay's connections.
        slowed_down: connections held by their rate limits.
        steps: other periodic work; each gets the time. An exception is logged and ends nothing else.
        stats: for the reactor's lag and failures.
        reactor: for the time.
    """

    def __init__(
        self,
        connections: Collection[Host],
        slowed_down: Collection[Host],
        steps: Iterable[Callable[[float], object]],
        stats: Stats,
        reactor: IReactorTime,
    ) -> None:
        self._connections = connections
        self._slowed_down = slowed_down
        self.steps: Sequence[Callable[[float], object]] = tuple(steps)
        self._stats = stats
        self._reactor = reactor
        self._looping = LoopingCall(self.once)
        self._looping.clock = reactor
        self._swept_at: float | None = None
        self._due_at = 0.0

    def start(self) -> None:
        """Begin; no effect if it is running."""
        if not self._looping.running:
            self._swept_at = self._reactor.seconds()
            self._due_at = self._swept_at + SWEEP_SECONDS
            self._looping.start(SWEEP_SECONDS, now=False)

    def stop(self) -> None:
        """End; no effect if it is not running."""
        if self._looping.running:
            self._looping.stop()

    def once(self) -> None:
        """Do one sweep."""
        now = self._reactor.seconds()
        self._stats.reactor_lag_seconds.observe(max(0.0, now - self._due_at))
        self._due_at = now + SWEEP_SECONDS
        late = self._swept_at is not None and now - self._swept_at > 2 * SWEEP_SECONDS
        # Skipped once only: else a reactor that is always late keeps every connection for ever.
        self._swept_at = None if late else now
        for step in self.steps:
            try:
                step(now)
            except Exception:  # noqa: BLE001 - the other steps and the deadlines go on
                self._stats.failures += 1
                log_failure("a step of the sweep failed", Failure())
        each(tuple(self._slowed_down), speed_up)
        if not late:
            due = [connection for connection in self._connections if now >= connection.deadline]
            each(due, act)
