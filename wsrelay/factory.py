"""RelayFactory: owns the client set, applies Settings to Autobahn, sweeps over deadlines.

What one connection does is the protocol's; listening and process signals are the service's. To embed a relay in
a service of your own, make a ``RelayFactory(Settings(…))`` and listen with it; nothing else is needed.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from wsrelay.autobahn_options import autobahn_options, configured
from wsrelay.backplane.local import LocalBackplane
from wsrelay.closecodes import CloseReason
from wsrelay.connection import Connection
from wsrelay.errors import Denied
from wsrelay.frames import WINDOW_BITS, Deflate, Encoding
from wsrelay.handshake import ValidatorChain
from wsrelay.hub import Hub
from wsrelay.interfaces import Backplane, IHandshakeValidator
from wsrelay.lines import Lines
from wsrelay.protocol import RelayProtocol
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.validators.plugins import load

__all__ = ["RelayFactory"]

#: How often deadlines are looked at, in seconds; a deadline is met up to this much late, and twice
#: that when the reactor was blocked.
SWEEP_SECONDS: Final = 0.5

#: Connections beyond ``max_connections`` that are read just to be told 503; past them they are dropped.
REFUSAL_ROOM: Final = 64


@implementer(IProtocolNegotiationFactory)
class RelayFactory(WebSocketServerFactory):
    """Makes the connections of one relay and knows them all.

    Args:
        settings: ``listen`` is the service's; ``validate`` is used unless ``validators`` are given.
        validators: the handshake validators, in order; an empty sequence lets everybody in.
        reactor: by default the global one.
        wall_clock: seconds since the epoch; tokens expire by it.
        random: a number from 0 to 1, for spreading pings.

    Raises:
        SettingsError: from ``settings.validate``.

    Attributes:
        connections: all TCP connections, unfinished handshakes included.
        hub: the rooms.
        stats: what happened so far.
        lines: where connections log what happens to them.
    """

    # The inherited default is the base that knows no Twisted (TRAPS 32).
    protocol: type[Connection] = RelayProtocol  # type: ignore[assignment]  # Twisted means a callable
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
        self.settings = settings
        self.wall_clock = wall_clock
        self.random = random
        self.connections: set[Connection] = set()
        self.stats = Stats()
        self._deflate = {bits: Deflate(bits, settings.compress_min_bytes) for bits in WINDOW_BITS}
        call_soon = partial(self.reactor.callLater, 0)
        self.hub = Hub(settings, self.stats, call_soon)
        self.lines = Lines(call_soon)
        self.backplane: Backplane = LocalBackplane(self.hub)
        self.chain = ValidatorChain(load(settings.validate) if validators is None else validators)
        self.setProtocolOptions(**autobahn_options(settings))
        self.protocol = configured(self.protocol, self)
        self._sweeping = LoopingCall(self.sweep)
        self._sweeping.clock = self.reactor
        self._swept_at: float | None = None
        self._drained: list[Deferred[None]] = []

    # --- what Twisted calls -----------------------------------------------------------------------

    def startFactory(self) -> None:
        """Begin to look at deadlines; a port has begun to listen."""
        if not self._sweeping.running:
            self._sweeping.start(SWEEP_SECONDS, now=False)

    def stopFactory(self) -> None:
        """Stop looking at deadlines as soon as nobody is left; the last port has closed (TRAPS 41)."""
        self._stop_if_done()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make a connection; if there are far too many, one that ends at once.

        Never ``None``: the wrappers of TLS and PROXY endpoints fail on it, and leave the socket open for ever.
        """
        if len(self.connections) >= self.settings.max_connections + REFUSAL_ROOM:
            return _Refusal()
        return super().buildProtocol(addr)

    def acceptableProtocols(self) -> list[bytes]:
        """Name what is spoken over TLS: without it, browsers that offer ALPN are turned away (TRAPS 34)."""
        return [b"http/1.1"]

    # --- what connections call --------------------------------------------------------------------

    def check_admission(self) -> None:
        """Raise unless one more client may come in.

        Counted here: Autobahn's own count never goes down when an onClose raises (TRAPS 18).

        Raises:
            Denied: 503 when there are more than ``max_connections``.
        """
        if len(self.connections) > self.settings.max_connections:
            raise Denied(503, "this relay has as many connections as it may have", [("Retry-After", "10")])

    def connected(self, connection: Connection) -> None:
        """Know a connection whose TCP has begun."""
        self.connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection whose TCP has ended."""
        self.connections.discard(connection)
        self._stop_if_done()

    def deflate(self, window_bits: int) -> Encoding:
        """Return the encoding for connections that may be sent what was deflated with this window, or a smaller one."""
        return self._deflate[max(bits for bits in WINDOW_BITS if bits <= window_bits)]

    # --- deadlines and the end --------------------------------------------------------------------

    def sweep(self) -> None:
        """Look at every connection's deadline.

        After the reactor was blocked, one sweep is left out: the pongs and answers that have come meanwhile are
        read before the next one, so that nobody is punished for our own delay.

        Complexity:
            One comparison per connection, :data:`SWEEP_SECONDS` apart.
        """
        now = self.reactor.seconds()
        late = self._swept_at is not None and now - self._swept_at > 2 * SWEEP_SECONDS
        # Left out once only: a reactor that is always late must not keep everybody for ever.
        self._swept_at = None if late else now
        self.hub.tick(now)
        if not late:
            due = [connection for connection in self.connections if now >= connection.deadline]
            _each(due, lambda connection: connection.on_deadline())

    def close_all(self, reason: CloseReason, abort_after_seconds: float) -> "Deferred[None]":
        """Close every connection.

        Args:
            reason: what they are told, behind what was published before. Who is behind in its room's log misses the
                rest of that; it is counted.
            abort_after_seconds: when those that have not gone are aborted.

        Returns:
            A Deferred that fires when the last one has gone.
        """
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        self.hub.flush()
        _each(tuple(self.connections), lambda connection: connection.close(reason))
        watchdog = self.reactor.callLater(abort_after_seconds, self.abort_all)
        drained.addBoth(lambda _: watchdog.cancel() if watchdog.active() else None)
        self._stop_if_done()
        return drained

    def abort_all(self) -> None:
        """End every connection's TCP, now."""
        _each(tuple(self.connections), lambda connection: connection.transport.abortConnection())

    def _stop_if_done(self) -> None:
        if self.connections:
            return
        if not self.numPorts and self._sweeping.running:
            self._sweeping.stop()
        drained, self._drained = self._drained, []
        for deferred in drained:
            deferred.callback(None)


def _each(connections: Sequence[Connection], act: Callable[[Connection], None]) -> None:
    """Act on connections; what one of them raises is its own."""
    for connection in connections:
        try:
            act(connection)
        except Exception as error:  # noqa: BLE001 - the others have their turn all the same
            connection.fail(error)


class _Refusal(Protocol):
    """A connection that there is no room for."""

    def connectionMade(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]  # every stream transport has it
