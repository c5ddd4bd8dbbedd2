"""The sweep: looking at all deadlines every half second, and at what else is to be looked at now and then.

One timer for all connections, instead of one or more for each (TRAPS 29). What is due is the connections', and what a
step of it does, its own.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from wsrelay.connection.drain import each
from wsrelay.connection.reading import speed_up
from wsrelay.logs.failures import log_failure
from wsrelay.stats import Stats

__all__ = ["SWEEP_SECONDS", "Sweep"]

#: How often deadlines are looked at, in seconds; a deadline is met up to this much late, and twice
#: that when the reactor was blocked.
SWEEP_SECONDS: Final = 0.5


class Sweep:
    """Looks at every connection's deadline.

    After the reactor was blocked, one sweep is left out: the pongs and answers that have come meanwhile are read before
    the next one, so that nobody is punished for our own delay.

    Complexity:
        One comparison per connection, :data:`SWEEP_SECONDS` apart.

    Args:
        connections: the relay's, as they are at any time.
        slowed_down: those that are not read because they sent too much.
        steps: what else there is to do; each gets the time. What one raises is logged and ends nothing else.
        stats: where to count, also how late the reactor is.
        reactor: for the time.
    """

    def __init__(
        self,
        connections: Set[Any],
        slowed_down: Set[Any],
        steps: Iterable[Callable[[float], object]],
        stats: Stats,
        reactor: Any,
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
        """Begin; nothing happens where it has begun."""
        if not self._looping.running:
            self._swept_at = self._reactor.seconds()
            self._due_at = self._swept_at + SWEEP_SECONDS
            self._looping.start(SWEEP_SECONDS, now=False)

    def stop(self) -> None:
        """End; nothing happens where it has ended."""
        if self._looping.running:
            self._looping.stop()

    def once(self) -> None:
        """Look at all of them once."""
        now = self._reactor.seconds()
        self._stats.reactor_lag_seconds.observe(max(0.0, now - self._due_at))
        self._due_at = now + SWEEP_SECONDS
        late = self._swept_at is not None and now - self._swept_at > 2 * SWEEP_SECONDS
        # Left out once only: a reactor that is always late must not keep everybody for ever.
        self._swept_at = None if late else now
        for step in self.steps:
            try:
                step(now)
            except Exception:  # noqa: BLE001 - a bug in one of them must not end the others, and all deadlines with them
                self._stats.failures += 1
                log_failure("a step of the sweep failed", Failure())
        each(tuple(self._slowed_down), speed_up)
        if not late:
            due = [connection for connection in self._connections if now >= connection.deadline]
            each(due, lambda connection: connection.on_deadline())
