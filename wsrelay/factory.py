"""RelayFactory: owns the client set, applies Settings to Autobahn.

What one connection does is the protocol's; listening and process signals are the service's. To embed a relay in
a service of your own, make a ``RelayFactory(Settings(…))`` and listen with it; nothing else is needed.
"""

import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import count
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory
from zope.interface import implementer

from wsrelay.backplane.local import LocalBackplane
from wsrelay.closecodes import CloseReason
from wsrelay.connection.autobahn import autobahn_options, configured
from wsrelay.connection.drain import Drain
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.sweep import Sweep
from wsrelay.http.site import PublicSite
from wsrelay.interfaces import Backplane, IHandshakeValidator
from wsrelay.limits.admission import Admission
from wsrelay.limits.memory import MemoryBudget
from wsrelay.limits.rates import Rates
from wsrelay.logs.lines import Lines
from wsrelay.net.descriptors import most_connections
from wsrelay.net.proxies import TrustedProxies
from wsrelay.policies import MESSAGE_TYPES, ByRoom
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.validators.chain import ValidatorChain
from wsrelay.validators.plugins import load
from wsrelay.wire.frames import WINDOW_BITS, Deflate, Encoding

__all__ = ["RelayFactory"]

#: The most that are read just to be told that they are too many, for each that there may be, and in all.
_TURNED_AWAY_SHARE: Final = 0.125
_MAX_TURNED_AWAY: Final = 64


@implementer(IProtocolNegotiationFactory)
class RelayFactory(WebSocketServerFactory):
    """Makes the connections of one relay and knows them all.

    Args:
        settings: ``validate`` is used unless ``validators`` are given, ``listen`` only by the service.
        validators: the handshake validators, in order; an empty sequence lets everybody in.
        reactor: by default the global one.
        wall_clock: seconds since the epoch; tokens expire by it.
        random: a number from 0 to 1, for spreading pings.

    Raises:
        SettingsError: from ``settings.validate``.

    Attributes:
        settings: a copy; every part of the relay holds this one object, which only :meth:`reload` changes.
        sweep: looks at deadlines.
        now: the time of the last sweep.
        max_connections: how many there may be.
        connections: all TCP connections, unfinished handshakes and those that are turned away included.
        slowed_down: connections that are not read because they sent too much.
        memory: what is kept for all connections together.
        admission: how many connections there are, in all and from each address.
        hub: the rooms.
        stats: what happened so far.
        lines: where connections log what happens to them.
        numbers: what connections are numbered with.
        web: what is served beside WebSocket; ``None`` for nothing.
        methods: the HTTP methods that are served.
    """

    # The inherited default is the base that knows no Twisted (TRAPS 32).
    protocol: type[RelayProtocol] = RelayProtocol  # type: ignore[assignment]  # Twisted means a callable
    noisy = False

    def __init__(
        self,
        settings: Settings,
        validators: Sequence[IHandshakeValidator] | None = None,
        reactor: Any = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        # server="": no version in responses (TRAPS 14).
        super().__init__(server="", reactor=reactor)
        # Its own: reload changes it.
        self.settings = settings = copy(settings)
        self.wall_clock = wall_clock
        self.random = random
        self.now: float = self.reactor.seconds()
        self.max_connections = settings.max_connections or most_connections()
        self.connections: set[RelayProtocol] = set()
        self.slowed_down: set[Any] = set()
        self._refused: set[RelayProtocol] = set()
        self.admission = Admission(settings, self.max_connections, self.now)
        self.trusted_proxies = TrustedProxies(settings.trusted_proxies)
        self.rates = Rates(settings)
        self.message_types = ByRoom(settings.message_type, MESSAGE_TYPES)
        self.stats = Stats()
        self._deflate = {bits: Deflate(bits, settings.compress_min_bytes) for bits in WINDOW_BITS}
        call_soon = partial(self.reactor.callLater, 0)
        self.hub = Hub(settings, self.stats, call_soon, seconds=time.perf_counter)
        self.memory = MemoryBudget(settings, self.hub, self.admission)
        self.lines = Lines(call_soon)
        self.backplane: Backplane = LocalBackplane(self.hub)
        self.chain = ValidatorChain(load(settings.validate) if validators is None else validators)
        self.setProtocolOptions(**autobahn_options(settings))
        self.protocol = configured(self.protocol, self)
        self.numbers: Iterator[int] = count(1)
        self.web = PublicSite(self) if settings.http or settings.demo else None
        self.methods: Collection[str] = ("GET",) if self.web is None else self.web.methods
        self.sweep = Sweep(self.connections, self.slowed_down, self._steps(), self.stats, self.reactor)
        self._drains: list[Drain] = []

    # --- what Twisted calls -----------------------------------------------------------------------

    def startFactory(self) -> None:
        """Begin to look at deadlines, and let clients in; a port has begun to listen."""
        self.admission.is_closed = False
        self.sweep.start()

    def stopFactory(self) -> None:
        """Stop looking at deadlines as soon as nobody is left; the last port has closed (TRAPS 41)."""
        self._stop_if_done()

    def acceptableProtocols(self) -> list[bytes]:
        """Name what is spoken over TLS: without it, browsers that offer ALPN are turned away (TRAPS 34)."""
        return [b"http/1.1"]

    # --- what connections call --------------------------------------------------------------------

    def turn_away(self, connection: RelayProtocol) -> bool:
        """Return whether there is room to tell a connection that it is one too many; if not, it is to be dropped.

        Not by ``buildProtocol``: for ``None``, wrappers leave the socket open (TRAPS 53).
        """
        if len(self._refused) >= min(_MAX_TURNED_AWAY, math.ceil(self.max_connections * _TURNED_AWAY_SHARE)):
            self.stats.connections_dropped += 1
            return False
        self._refused.add(connection)
        return True

    def connected(self, connection: RelayProtocol) -> None:
        """Know a connection whose TCP has begun."""
        self.connections.add(connection)

    def disconnected(self, connection: RelayProtocol) -> None:
        """Forget a connection whose TCP has ended."""
        self.connections.discard(connection)
        self._refused.discard(connection)
        self.slowed_down.discard(connection)
        self._stop_if_done()

    def deflate(self, window_bits: int) -> Encoding:
        """Return the encoding for connections that may be sent what was deflated with this window, or a smaller one."""
        return self._deflate[max(bits for bits in WINDOW_BITS if bits <= window_bits)]

    # --- the end ----------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether :meth:`close_all` is at work: nobody new should be sent here."""
        return bool(self._drains)

    def close_all(
        self, reason: CloseReason, abort_after_seconds: float, spread_seconds: float = 0.0
    ) -> "Deferred[None]":
        """Close every connection. See :class:`wsrelay.connection.drain.Drain`.

        Args:
            reason: what they are told, behind what was published before. Who is still behind in its room's log when
                the time is over misses the rest of that; it is counted.
            abort_after_seconds: when those that have not gone are aborted.
            spread_seconds: the time over which the closes are spread; 0 is all at once.

        Returns:
            A Deferred that fires when the last one has gone.
        """
        self.admission.is_closed = True
        drain = Drain(self.connections, self.hub, reason, self.reactor, self.random)
        self._drains.append(drain)
        drain.start(spread_seconds, abort_after_seconds)
        self._stop_if_done()
        return drain.done

    def _steps(self) -> Sequence[Callable[[float], object]]:
        """Return what a sweep does beside looking at connections."""
        return (
            partial(setattr, self, "now"),
            self.hub.tick,
            self.admission.tick,
            lambda _: self.memory.keep(self.connections),
            lambda _: self.lines.tick(),
        )

    def _stop_if_done(self) -> None:
        if self.connections:
            return
        if not self.numPorts:
            self.sweep.stop()
        drains, self._drains = self._drains, []
        for drain in drains:
            drain.end()

    # --- while it runs ----------------------------------------------------------------------------

    def reload(self, settings: Settings, validators: Sequence[IHandshakeValidator]) -> None:
        """Apply the settings in :data:`wsrelay.settings.RELOADABLE`, while connections live.

        The one place where settings change and objects derived from them are refreshed.

        Args:
            settings: the other fields are ignored.
            validators: for new handshakes; handshakes that are being validated finish with the old validators.

        Raises:
            SettingsError: they contradict settings that stay; nothing has changed.
        """
        self.settings.take_over(settings)
        self.chain = ValidatorChain(validators)
        self.rates.refresh()
        self.admission.refresh()
        self.message_types = ByRoom(self.settings.message_type, MESSAGE_TYPES)
        self.hub.set_slow_policies(self.settings.slow_policy)
