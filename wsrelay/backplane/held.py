"""Held: the publishers that wait until the broker takes messages again.

Hysteresis: from three quarters of ``backplane_pending_bytes`` on, a publisher is held when it publishes; at a quarter
all are released, some in each turn of the reactor, so that their reads do not come at once.

Must not live here: what is pending (:mod:`wsrelay.backplane.outbox`), reading (:mod:`wsrelay.connection.reading`).
"""

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from wsrelay.interfaces import Hold, Subscriber
from wsrelay.settings import Settings

__all__ = ["Held"]

HIGH_WATER: Final = 3 / 4
LOW_WATER: Final = 1 / 4

#: Publishers released in one turn of the reactor.
STRETCH: Final = 64


class Held:
    """The held publishers of one shard.

    Args:
        settings: for the limit.
        reactor: for later turns.
        changed: called when :attr:`is_congested` changes.

    Attributes:
        is_congested: whether publishers are held when they publish.
    """

    def __init__(self, settings: Settings, reactor: IReactorTime, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._reactor = reactor
        self._changed = changed
        self._held: dict[Subscriber, None] = {}
        self._is_releasing = False
        self.is_congested = False

    def hold(self, publisher: Subscriber) -> bool:
        """Hold a publisher while congested; return whether it is held."""
        if self.is_congested:
            self._held[publisher] = None
            publisher.hold(Hold.BACKPLANE)
        return self.is_congested

    def settle(self, pending_bytes: int) -> None:
        """Look at the messages that wait for the broker: more than before, or fewer."""
        share = LOW_WATER if self.is_congested else HIGH_WATER
        is_congested = pending_bytes > share * self._settings.backplane_pending_bytes
        if is_congested != self.is_congested:
            self.is_congested = is_congested
            self._changed()
            if not is_congested and not self._is_releasing:
                self._release()

    def _release(self) -> None:
        self._is_releasing = False
        if self.is_congested:
            return
        for publisher in tuple(self._held)[:STRETCH]:
            del self._held[publisher]
            publisher.release(Hold.BACKPLANE)
        if self._held:
            self._is_releasing = True
            self._reactor.callLater(0, self._release)
