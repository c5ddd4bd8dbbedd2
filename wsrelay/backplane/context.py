"""The relay as a backplane with a broker sees it, as a type. Implemented by :class:`wsrelay.factory.RelayFactory`.

A type only, because the factory imports backplanes.
"""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from wsrelay.interfaces import Subscriber
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import NodeStatus, Stats

__all__ = ["Relay"]


class Relay(Protocol):
    """The part of :class:`wsrelay.factory.RelayFactory` that backplanes use.

    Attributes:
        reactor: for the time and for connections.
        settings: the limits are read at each use.
        stats: the counters.
        hub: the rooms.
        random: a number from 0 to 1.
        busy_clock: seconds on a fine clock.
        node_id: names this process in entries; never used again.
        congested: set by the backplane. See :meth:`wsrelay.interfaces.Backplane.hold`.
    """

    reactor: IReactorTime
    settings: Settings
    stats: Stats
    hub: Hub
    random: Callable[[], float]
    busy_clock: Callable[[], float]
    node_id: str
    congested: bool

    def describe(self) -> NodeStatus:
        """Return the description of this process."""

    def member(self, handle: str) -> Subscriber | None:
        """Return the member of this process with a handle; ``None``: it is not here."""

    def lose(self, is_affected: Callable[[str], bool]) -> None:
        """Close the members of rooms for which there is no broker: 1013."""
