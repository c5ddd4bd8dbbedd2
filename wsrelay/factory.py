"""RelayFactory: owns the set of connections and what they share, applies Settings to Autobahn.

To embed a relay in a service of your own, make a ``RelayFactory(Settings(…))`` and listen with it; nothing else is
needed. Must not live here: what one connection does (:mod:`wsrelay.connection`), listening (:mod:`wsrelay.service`),
process signals (:mod:`wsrelay.process`).
"""

import math
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from itertools import count
from secrets import randbits, token_hex
from typing import Final

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolNegotiationFactory, IReactorTime
from zope.interface import implementer

from wsrelay import __version__, closecodes
from wsrelay.backplane.local import LocalBackplane
from wsrelay.closecodes import CloseReason
from wsrelay.connection.autobahn import autobahn_options, configured
from wsrelay.connection.clock import Expiry, make_steady
from wsrelay.connection.drain import Drain
from wsrelay.connection.protocol import RelayProtocol
from wsrelay.connection.stage import OPEN_STAGES
from wsrelay.connection.sweep import Sweep
from wsrelay.http.site import PublicSite
from wsrelay.interfaces import Backplane, IHandshakeValidator, Subscriber
from wsrelay.limits.admission import Admission
from wsrelay.limits.memory import MemoryBudget
from wsrelay.limits.rates import Rates
from wsrelay.limits.turns import Turns
from wsrelay.logs.lines import Lines
from wsrelay.message_id import EPOCH_BITS, epoch_of
from wsrelay.names import PROBE_ROOM
from wsrelay.net.descriptors import most_connections
from wsrelay.net.proxies import TrustedProxies
from wsrelay.policies import MESSAGE_TYPES, ByRoom
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import NodeStatus, Stats
from wsrelay.validators.chain import ValidatorChain
from wsrelay.validators.plugins import descriptors_of, load
from wsrelay.wire.deflate import WINDOW_BITS, Deflate
from wsrelay.wire.frames import Encoding

__all__ = ["RelayFactory"]

#: Slots for refused connections that are not counted any more: their share of ``max_connections``, and their maximum.
_TURNED_AWAY_SHARE: Final = 0.125
_MAX_TURNED_AWAY: Final = 64


@implementer(IProtocolNegotiationFactory)
class RelayFactory(WebSocketServerFactory):
    """Makes the connections of one relay and keeps the set of them.

    Args:
        settings: ``listen`` is for the service; ``validate`` is used unless ``validators`` are given.
        validators: the handshake validators, in order; an empty sequence admits every handshake.
        reactor: ``None`` is the global one. It gets a steady clock: see :func:`wsrelay.connection.clock.make_steady`.
        wall_clock: seconds since the epoch, for the expiry of grants.
        random: a number from 0 to 1, for the jitter of pings and drains.
        busy_clock: seconds on a fine clock, for the time that reads and flushes take.

    Raises:
        SettingsError: from ``settings.validate``.

    Attributes:
        settings: a copy; every part of the relay holds this one object, which only :meth:`reload` changes.
        sweep: the half-second housekeeping tick: deadlines, and :meth:`_steps`.
        now: the time of the last sweep, in the reactor's seconds.
        max_connections: the maximum number of admitted connections.
        connections: a view of all TCP connections, including unfinished handshakes and refused ones.
        slowed_down: connections held by their rate limit.
        turns: the share of each address in a turn of the reactor.
        memory: the budget of buffered bytes, all connections together.
        admission: the number of connections, in all and per address.
        hub: the rooms.
        node_id: names this process for other nodes; new at each start.
        backplane: where everything is published.
        crowded: the crowded rooms. See :class:`wsrelay.rooms.hub.Hub`.
        congested: whether the backplane may have to hold publishers. See :meth:`wsrelay.interfaces.Backplane.hold`.
        chain: the handshake validators.
        stats: the counters.
        lines: the log lines about connections.
        numbers: yields the connection numbers, from 1.
        web: all that is not WebSocket.
    """

    # The inherited default is a base class without Twisted (TRAPS 32).
    protocol: type[RelayProtocol] = RelayProtocol  # type: ignore[assignment]  # Twisted means a callable
    noisy = False

    def __init__(
        self,
        settings: Settings,
        validators: Sequence[IHandshakeValidator] | None = None,
        reactor: IReactorTime | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
        busy_clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        # server="": no version in responses (TRAPS 14).
        super().__init__(server="", reactor=reactor)
        make_steady(self.reactor)
        self.settings = settings = copy(settings)  # its own: reload changes it
        self.wall_clock, self.random, self.busy_clock = wall_clock, random, busy_clock
        self.now: float = self.reactor.seconds()
        validators = load(settings.validate) if validators is None else validators
        self.max_connections = settings.max_connections or most_connections(descriptors_of(validators))
        self._connections: dict[RelayProtocol, None] = {}  # as a set, in a third of the memory
        self.connections = self._connections.keys()
        self.slowed_down, self._refused = set[RelayProtocol](), set[RelayProtocol]()
        self.admission = Admission(settings, self.max_connections, self.now)
        self.trusted_proxies = TrustedProxies(settings.trusted_proxies)
        self.rates = Rates(settings)
        self.message_types = ByRoom(settings.message_type, MESSAGE_TYPES)
        self.stats = Stats()
        self._deflate = {bits: Deflate(bits, settings.compress_min_bytes) for bits in WINDOW_BITS}
        call_soon = _end_of_turn(self.reactor)
        self.hub = Hub(settings, self.stats, call_soon, seconds=busy_clock, epoch=_new_epoch(), now=self.now)
        self.turns = Turns(call_soon, busy_clock)
        self.memory = MemoryBudget(settings, self.hub, self.admission, self.connections)
        self.lines = Lines(call_soon)
        self._share_rooms(call_soon)
        self.chain = ValidatorChain(validators, self.lines.failure)
        self.setProtocolOptions(**autobahn_options(settings))
        self.protocol = configured(self.protocol, self)
        self.numbers: Iterator[int] = count(1)
        self.web = PublicSite(self)
        self.sweep = Sweep(self.connections, self.slowed_down, self._steps(), self.stats, self.reactor)
        self._drains: list[Drain] = []

    # --- what Twisted calls -----------------------------------------------------------------------

    def startFactory(self) -> None:
        """Start the sweep and the backplane, and admit clients; a port has begun to listen."""
        self.admission.is_closed = False
        self.sweep.start()
        self.backplane.start()

    def stopFactory(self) -> None:
        """Stop the sweep once no connection is left; the last port has closed (TRAPS 41)."""
        self._stop_if_done()

    def acceptableProtocols(self) -> list[bytes]:
        """Return the ALPN protocols: without them, TLS handshakes of browsers fail (TRAPS 34)."""
        return [b"http/1.1"]

    # --- what connections call --------------------------------------------------------------------

    def turn_away(self, connection: RelayProtocol) -> bool:
        """Reserve a slot for refusing a connection, which has no place in the limits, or gives it up; ``False``: none.

        It is kept until TCP ends. ``buildProtocol`` cannot refuse: for ``None``, wrappers leave the socket open
        (TRAPS 53).
        """
        if connection in self._refused:
            return True
        if len(self._refused) >= min(_MAX_TURNED_AWAY, math.ceil(self.max_connections * _TURNED_AWAY_SHARE)):
            return False
        self._refused.add(connection)
        return True

    def connected(self, connection: RelayProtocol) -> None:
        """Add a connection; its TCP has begun."""
        self._connections[connection] = None

    def disconnected(self, connection: RelayProtocol) -> None:
        """Remove a connection; its TCP has ended."""
        self._connections.pop(connection, None)
        self._refused.discard(connection)
        self.slowed_down.discard(connection)
        self.memory.unfinished.discard(connection)
        self._stop_if_done()

    def deflate(self, window_bits: int) -> Encoding:
        """Return the encoding with the largest window that is at most ``window_bits``."""
        return self._deflate[max(bits for bits in WINDOW_BITS if bits <= window_bits)]

    def member(self, handle: str) -> Subscriber | None:
        """Return the member with a handle (``Wsrelay-Connection``); ``None``: it is not here, or without ``--http``."""
        return self.web.handles.get(handle)

    def describe(self) -> NodeStatus:
        """Return the description of this process, for the list of nodes."""
        return NodeStatus(
            id=self.node_id,
            name=self.settings.node_name or socket.gethostname(),
            version=__version__,
            since=round(self._began, 3),
            connections=self.admission.connections,
            rooms=len(self.hub) - (self.hub.member_count(PROBE_ROOM) > 0),
            lag_seconds=0.0,
            seen_seconds_ago=0.0,
        )

    def _share_rooms(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """Make the backplane."""
        self.crowded: Mapping[str, object] = self.hub.crowded
        self.congested = False
        self.node_id, self._began = token_hex(8), self.wall_clock()
        self.backplane: Backplane
        if self.settings.backplane:
            # Imported late: a relay without a broker needs no hiredis.
            from wsrelay.backplane.redis import RedisBackplane  # noqa: PLC0415

            self.backplane = RedisBackplane(self, call_soon)
        else:
            self.backplane = LocalBackplane(self.hub, self.describe)

    # --- the end ----------------------------------------------------------------------------------

    def lose(self, is_affected: Callable[[str], bool]) -> None:
        """Close the members of rooms whose backplane has no broker, spread over ``drain_seconds``.

        Peer sees:
            1013 and "no broker".

        Args:
            is_affected: takes a room's name.
        """
        lost = [one for one in self.connections if one.stage in OPEN_STAGES and is_affected(one.grant.room)]
        spread_seconds = self.settings.drain_seconds
        drain = Drain(lost, self.hub, closecodes.NO_BROKER, self.reactor, self.random)
        drain.start(spread_seconds, spread_seconds + self.settings.close_seconds)

    @property
    def draining(self) -> bool:
        """Whether :meth:`close_all` is in progress; new connections are refused."""
        return bool(self._drains)

    def close_all(
        self, reason: CloseReason, abort_after_seconds: float, spread_seconds: float = 0.0
    ) -> "Deferred[None]":
        """Close every connection. See :class:`wsrelay.connection.drain.Drain`.

        Args:
            reason: the close frame, sent after all messages published before. A subscriber still behind in its room's
                log at its close misses the rest, which is counted.
            abort_after_seconds: time until the remaining connections are aborted.
            spread_seconds: the closes are spread over this time with jitter; 0 is all at once.

        Returns:
            A Deferred that fires after the end of the last connection.
        """
        self.admission.is_closed = True
        drain = Drain(self.connections, self.hub, reason, self.reactor, self.random)
        self._drains.append(drain)
        drain.start(spread_seconds, abort_after_seconds)
        self._stop_if_done()
        return drain.done

    def _steps(self) -> Sequence[Callable[[float], object]]:
        """Return the steps of a sweep beside the deadlines of connections."""
        return (
            partial(setattr, self, "now"),
            Expiry(self.connections, self.wall_clock, self.reactor.seconds()).tick,
            self.hub.tick,
            self.admission.tick,
            lambda _: self.memory.keep(),
            lambda _: self.lines.tick(),
            lambda _: self.turns.tick(),
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
        """Apply the settings in :data:`wsrelay.settings.RELOADABLE` while connections are open.

        The only place that applies them. The caller has checked everything: nothing here may fail half-way.

        Args:
            settings: the other fields are ignored.
            validators: for new handshakes; pending ones finish with the old validators. ``max_connections`` stays as
                computed for the first ones.
        """
        self.settings.take_over(settings)
        self.chain = ValidatorChain(validators, self.lines.failure)
        self.rates.refresh()
        self.admission.refresh()
        self.message_types = ByRoom(self.settings.message_type, MESSAGE_TYPES)
        self.hub.set_slow_policies(self.settings.slow_policy)


def _new_epoch() -> str:
    return epoch_of(randbits(EPOCH_BITS))


def _end_of_turn(reactor: IReactorTime) -> Callable[[Callable[[], None]], object]:
    """Return what calls a function at the end of this reactor turn.

    :class:`wsrelay.net.reactor.LeanReactor` has such an end. Elsewhere it is a timed call of 0 s, which runs at the
    same place, before the next ``select``, for 1.5 µs more.
    """
    found: Callable[[Callable[[], None]], object] = getattr(reactor, "callAtEndOfTurn", partial(reactor.callLater, 0))
    return found
