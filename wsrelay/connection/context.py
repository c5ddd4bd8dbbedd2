"""What a connection needs of the factory that made it. Implemented by :class:`wsrelay.factory.RelayFactory`.

A type only, so that connections need not import the factory, which imports them.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from wsrelay.interfaces import Backplane
from wsrelay.limits.admission import Admission
from wsrelay.limits.rates import Rates
from wsrelay.logs.lines import Lines
from wsrelay.net.proxies import TrustedProxies
from wsrelay.policies import ByRoom
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.validators.chain import ValidatorChain
from wsrelay.wire.frames import Encoding

__all__ = ["Relay"]


class Relay(Protocol):
    """See :class:`wsrelay.factory.RelayFactory`, which has more.

    Attributes:
        reactor: for the time.
        now: the time of the last sweep, for what need not be exact.
        settings: the limits and deadlines.
        stats: where to count.
        hub: the rooms.
        backplane: where messages are published.
        chain: the handshake validators.
        lines: where connections log what happens to them.
        numbers: what connections are numbered with.
        web: the :class:`wsrelay.http.site.PublicSite`; ``None`` where nothing but WebSocket is served.
        admission: how many connections there may be.
        trusted_proxies: who may say who their client is.
        rates: how fast each connection may send.
        message_types: what may be published in which room.
        slowed_down: connections that are not read because they sent too much.
        wall_clock: seconds since the epoch.
        random: a number from 0 to 1.
    """

    reactor: Any
    now: float
    settings: Settings
    stats: Stats
    hub: Hub
    backplane: Backplane
    chain: ValidatorChain
    lines: Lines
    numbers: Iterator[int]
    web: Any
    admission: Admission
    trusted_proxies: TrustedProxies
    rates: Rates
    message_types: ByRoom[int | None]
    slowed_down: set[Any]
    wall_clock: Callable[[], float]
    random: Callable[[], float]

    def connected(self, connection: Any) -> None:
        """TCP has begun."""

    def disconnected(self, connection: Any) -> None:
        """TCP has ended."""

    def deflate(self, window_bits: int) -> Encoding:
        """Return the encoding for a window that was agreed."""

    def turn_away(self, connection: Any) -> bool:
        """Return whether there is room to tell a connection that it is one too many."""
