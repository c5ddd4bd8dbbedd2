"""Two clocks: a steady one for deadlines, timers, rates and ages, and the wall clock for the expiry of grants.

Twisted's reactors read the wall clock: set back by an hour, no timer runs for an hour (TRAPS 91). Must not live here:
deadlines (:mod:`wsrelay.connection.deadline`), the sweep (:mod:`wsrelay.connection.sweep`).
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, cast

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python import runtime

from wsrelay.connection.host import Host
from wsrelay.connection.stage import OPEN_STAGES

__all__ = ["Expiry", "make_steady"]

_log = Logger(namespace="wsrelay")

#: The smallest change of the wall clock that counts as a step, in seconds: the precision of deadlines.
STEP_SECONDS: Final = 0.5


def make_steady(reactor: IReactorTime) -> None:
    """Let a reactor of Twisted read a steady clock, so that setting the wall clock affects no timer of the process.

    The steady clock is the monotonic one plus its difference to the wall clock at this call: pending calls keep their
    times, and a program that takes ``reactor.seconds()`` for a date is wrong only after a step, by that step (TRAPS
    92). While the machine is suspended, it stands still.

    Args:
        reactor: with another clock than Twisted's default, it is left unchanged: a ``Clock``, or after the first call.
    """
    if not isinstance(reactor, ReactorBase) or reactor.seconds is not runtime.seconds:
        return
    monotonic = time.monotonic
    ahead = time.time() - monotonic()

    def seconds() -> float:
        return ahead + monotonic()

    reactor.seconds = seconds
    for call in cast("Sequence[DelayedCall]", reactor.getDelayedCalls()):
        call.seconds = seconds  # read by reset()


class Expiry:
    """Moves the expiry of grants when the wall clock is set: it is a date, and all other deadlines are not.

    An open connection lives as long as a new one with the same token would be admitted.

    Complexity:
        One comparison per sweep; a visit of all connections after a step.

    Args:
        connections: a view of the relay's connections.
        wall_clock: seconds since the epoch.
        now: the reactor's time.
    """

    def __init__(self, connections: Collection[Host], wall_clock: Callable[[], float], now: float) -> None:
        self._connections = connections
        self._wall_clock = wall_clock
        self._ahead = wall_clock() - now

    def tick(self, now: float) -> None:
        """Look for a step, forwards or back. Smaller changes add up.

        Args:
            now: the reactor's time, just read.
        """
        ahead = self._wall_clock() - now
        step = ahead - self._ahead
        if abs(step) >= STEP_SECONDS:
            self._ahead = ahead
            _log.warn("the system clock was set by {step:+.1f} s: only the expiry of grants follows", step=step)
            for connection in self._connections:
                self._follow(connection)

    def _follow(self, connection: Host) -> None:
        if connection.member is None or (date := connection.member.grant.expires_at) is None:
            return
        connection.keepalive.expires = date - self._ahead
        if connection.stage in OPEN_STAGES:
            # An early deadline is harmless: the connection finds nothing due, and sets the next one.
            connection.deadline = min(connection.deadline, connection.keepalive.expires)
