"""RelayService: a relay that listens and stops, as a Twisted service.

Start: listen on every endpoint and log its URL. Stop: stop listening, close every client (1012) spread over
``drain_seconds``, wait, abort the rest. Must not live here: signals (:mod:`wsrelay.process`), reading options
(:mod:`wsrelay.tap`).
"""

from collections.abc import Sequence
from typing import Final

from autobahn.websocket import USES_NVX
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from wsrelay import closecodes
from wsrelay.admin.gate import is_local
from wsrelay.factory import RelayFactory
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.net.accepts import lean_accepts
from wsrelay.net.endpoints import Door, Endpoint, bound_unsent, end_when_dead, endpoints
from wsrelay.settings import Settings

__all__ = ["RelayService"]

_log = Logger(namespace="wsrelay")

#: The part of ``close_seconds`` reserved for aborting unresponsive clients and ending the process.
ABORT_SECONDS: Final = 0.3


class RelayService(Service):
    """Listens for a factory, inside any process; :class:`wsrelay.process.RelayProcess` is the standalone relay.

    Args:
        factory: the relay; its settings name the endpoints.

    Attributes:
        ports: the listening ports, in the order of the endpoints; empty before the start and after the stop.
    """

    def __init__(self, factory: RelayFactory) -> None:
        self._factory = factory
        self._endpoints: list[Endpoint] = []
        self.ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up root.

        Raises:
            SettingsError: an unreadable certificate, or an invalid endpoint string.
            CannotListenError: an address in use. A ``StreamServerEndpointService`` would log that and run on without
                a port (TRAPS 39).
        """
        super().privilegedStartService()
        self._endpoints = endpoints(self._factory.reactor, self._factory.settings.listen)
        for endpoint in self._endpoints:
            self.ports.append(endpoint.listen_now(self._factory))
        for port in self.ports:
            bound_unsent(port)
            lean_accepts(port)
            if self._factory.settings.ping_seconds:
                end_when_dead(port, 2 * self._factory.settings.ping_seconds)

    def startService(self) -> None:
        """Listen, unless :meth:`privilegedStartService` did: twist never calls it (TRAPS 40)."""
        super().startService()
        if not self.ports:
            self.privilegedStartService()
        self._factory.reactor.callWhenRunning(self._announce)

    def stopService(self) -> "Deferred[object]":
        """Stop listening, then close every connection with 1012, spread over ``drain_seconds``.

        Connections that are not closed yet continue to relay.

        Returns:
            A Deferred that fires after the last connection, within ``drain_seconds`` + ``close_seconds``.
        """
        return self._stop_within(self._factory.settings.drain_seconds)

    def reload(self, settings: Settings, validators: Sequence[IHandshakeValidator]) -> None:
        """Read the endpoints' certificates again, and apply the reloadable settings.

        Args:
            settings: see :meth:`wsrelay.factory.RelayFactory.reload`.
            validators: see :meth:`wsrelay.factory.RelayFactory.reload`.

        Raises:
            SettingsError: names every unreadable certificate; nothing was changed.
        """
        fresh = endpoints(None, [endpoint.description for endpoint in self._endpoints])
        self._factory.reload(settings, validators)
        for endpoint, renewed in zip(self._endpoints, fresh, strict=True):
            endpoint.renew(renewed)

    def doors(self) -> list[Door]:
        """Return the addresses that accept connections; empty before the start and after the stop."""
        return [endpoint.door(port) for endpoint, port in zip(self._endpoints, self.ports, strict=True)]

    def _stop_within(self, spread_seconds: float) -> "Deferred[object]":
        super().stopService()
        waits: list[Deferred[object]] = [maybeDeferred(port.stopListening) for port in self.ports]
        self.ports, self._endpoints = [], []
        # stopListening leaves accepted connections open (TRAPS 41).
        close_seconds = self._factory.settings.close_seconds
        grace_seconds = max(close_seconds - ABORT_SECONDS, close_seconds / 2)
        abort_after_seconds = spread_seconds + grace_seconds
        waits.append(maybeDeferred(self._factory.close_all, closecodes.RESTARTING, abort_after_seconds, spread_seconds))
        # Not before: connections publish until they are closed.
        return gatherResults(waits).addBoth(self._stop_backplane).addBoth(self._log_the_last)

    def _stop_backplane(self, outcome: object) -> "Deferred[object]":
        return Deferred.fromCoroutine(self._factory.backplane.stop()).addBoth(lambda _: outcome)

    def _log_the_last(self, outcome: object) -> object:
        # The reactor may stop before the next tick and the end-of-turn flush.
        self._factory.lines.tick()
        self._factory.lines.flush()
        return outcome

    def _announce(self) -> None:
        audience = "everyone" if self._factory.settings.echo else "everyone else"
        for endpoint, port in zip(self._endpoints, self.ports, strict=True):
            where = endpoint.url(port.getHost())
            _log.info("relaying to {audience} in the room on {url}", audience=audience, url=where)
            if endpoint.door(port).speaks_proxy and not is_local(port.getHost()):
                _log.warn(
                    "any machine that can connect to {url} can name any client address in its PROXY header, past"
                    " --trusted-proxies and the limits per address: let a firewall admit the proxy only",
                    url=where,
                )
        if not USES_NVX:
            # 5 instead of 428 MB/s (TRAPS 8).
            _log.warn("autobahn has no NVX here: validating UTF-8 is 80 times slower; install its wheel")
