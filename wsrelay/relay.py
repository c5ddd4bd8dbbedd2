"""What a connection needs of the factory that made it. Implemented by :class:`wsrelay.factory.RelayFactory`.

A type only, so that connections need not import the factory, which imports them.
"""

from collections.abc import Callable
from typing import Any, Protocol

from wsrelay.frames import Encoding
from wsrelay.handshake import ValidatorChain
from wsrelay.hub import Hub
from wsrelay.interfaces import Backplane
from wsrelay.lines import Lines
from wsrelay.settings import Settings
from wsrelay.stats import Stats

__all__ = ["Relay"]


class Relay(Protocol):
    """See :class:`wsrelay.factory.RelayFactory`, which has more.

    Attributes:
        reactor: for the time.
        settings: the limits and deadlines.
        stats: where to count.
        hub: the rooms.
        backplane: where messages are published.
        chain: the handshake validators.
        lines: where connections log what happens to them.
        wall_clock: seconds since the epoch.
        random: a number from 0 to 1.
    """

    reactor: Any
    settings: Settings
    stats: Stats
    hub: Hub
    backplane: Backplane
    chain: ValidatorChain
    lines: Lines
    wall_clock: Callable[[], float]
    random: Callable[[], float]

    def connected(self, connection: Any) -> None:
        """TCP has begun."""

    def disconnected(self, connection: Any) -> None:
        """TCP has ended."""

    def deflate(self, window_bits: int) -> Encoding:
        """Return the encoding for a window that was agreed."""

    def check_admission(self) -> None:
        """Raise :class:`~wsrelay.errors.Denied` unless one more client may come in."""
