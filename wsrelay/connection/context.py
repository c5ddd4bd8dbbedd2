"""The factory as its connections see it, as a type. Implemented by :class:`wsrelay.factory.RelayFactory`.

A type only, so that connections need not import the factory, which imports them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReactorTime

from wsrelay.http.site import PublicSite
from wsrelay.interfaces import Backplane
from wsrelay.limits.admission import Admission
from wsrelay.limits.memory import MemoryBudget
from wsrelay.limits.rates import Rates
from wsrelay.limits.turns import Turns
from wsrelay.logs.lines import Lines
from wsrelay.net.proxies import TrustedProxies
from wsrelay.policies import ByRoom
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.validators.chain import ValidatorChain
from wsrelay.wire.frames import Encoding

__all__ = ["SWEEP_SECONDS", "Relay"]

#: Seconds between two sweeps, and so between two values of :attr:`Relay.now`. A deadline's action comes up to this much
#: late, and twice that after a blocked reactor.
SWEEP_SECONDS: Final = 0.5


class Relay(Protocol):
    """The part of :class:`wsrelay.factory.RelayFactory` that connections use.

    Attributes:
        reactor: for the time, and for calls in a later turn.
        now: the time of the last sweep, in seconds; for inexact uses.
        settings: the limits and deadlines.
        stats: the counters.
        hub: the rooms.
        backplane: where messages are published.
        crowded: the crowded rooms. See :class:`wsrelay.rooms.hub.Hub`.
        congested: whether a publisher may have to be held for the backplane.
        chain: the handshake validators.
        lines: the log lines of connections.
        numbers: numbers for connections.
        web: all that is not WebSocket.
        admission: the limits on connections.
        memory: the memory budget.
        trusted_proxies: proxies with a trusted ``X-Forwarded-For``.
        rates: the rate limits of each connection.
        message_types: the message types that rooms accept.
        slowed_down: connections held by their rate limits.
        turns: the share of each address in a turn of the reactor.
        wall_clock: seconds since the epoch.
        random: a number from 0 to 1.
    """

    reactor: IReactorTime
    now: float
    settings: Settings
    stats: Stats
    hub: Hub
    backplane: Backplane
    crowded: Mapping[str, object]
    congested: bool
    chain: ValidatorChain
    lines: Lines
    numbers: Iterator[int]
    web: PublicSite
    admission: Admission
    memory: MemoryBudget
    trusted_proxies: TrustedProxies
    rates: Rates
    message_types: ByRoom[int]
    turns: Turns
    slowed_down: set[Any]  # Any, here and below: a connection; its type would be an import cycle
    wall_clock: Callable[[], float]
    random: Callable[[], float]

    def connected(self, connection: Any) -> None:
        """TCP has begun."""

    def disconnected(self, connection: Any) -> None:
        """TCP has ended."""

    def deflate(self, window_bits: int) -> Encoding:
        """Return the encoding for a window that was agreed."""

    def turn_away(self, connection: Any) -> bool:
        """Reserve a slot for a refusal, until TCP ends; ``False``: all are taken."""
