"""RelayService: a relay that listens and stops, as a Twisted service.

Start: listen on every endpoint and log where. Stop: stop listening, close every client (1012) spread over a while, wait
for them, abort those that stay. Must not live here: signals and everything else of a process of one's own
(:mod:`wsrelay.process`), where settings come from (:mod:`wsrelay.tap`).
"""

from collections.abc import Sequence
from typing import Any, Final

from autobahn.websocket import USES_NVX
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from wsrelay import closecodes
from wsrelay.factory import RelayFactory
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.net.endpoints import Door, Endpoint, end_when_dead, endpoints
from wsrelay.settings import Settings

__all__ = ["RelayService"]

_log = Logger(namespace="wsrelay")

#: What is kept of ``close_seconds`` for aborting those that do not answer, and for ending the process.
ABORT_SECONDS: Final = 0.3


class RelayService(Service):
    """Listens for a factory. For use in a process that is somebody else's; see :class:`wsrelay.process.RelayProcess`.

    Args:
        factory: the relay; its settings name the endpoints.

    Attributes:
        ports: the listening ports, in the order of the endpoints; empty unless it takes new connections.
    """

    def __init__(self, factory: RelayFactory) -> None:
        self._factory = factory
        self._endpoints: list[Endpoint] = []
        self.ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up root.

        Raises:
            SettingsError: a certificate cannot be read, or an endpoint is none.
            CannotListenError: an endpoint is taken. Not a plain ``StreamServerEndpointService``, which logs
                that and goes on with nothing (TRAPS 39).
        """
        super().privilegedStartService()
        self._endpoints = endpoints(self._factory.reactor, self._factory.settings.listen)
        for endpoint in self._endpoints:
            self.ports.append(endpoint.listen_now(self._factory))
        if self._factory.settings.ping_seconds:
            for port in self.ports:
                end_when_dead(port, 2 * self._factory.settings.ping_seconds)

    def startService(self) -> None:
        """Listen, if nobody has called :meth:`privilegedStartService`: twist does not (TRAPS 40)."""
        super().startService()
        if not self.ports:
            self.privilegedStartService()
        self._factory.reactor.callWhenRunning(self._announce)

    def stopService(self) -> "Deferred[Any]":
        """Stop listening, then close every connection with 1012, spread over ``drain_seconds``.

        Those that are not closed yet go on relaying to each other.

        Returns:
            A Deferred that fires when all are gone, within ``drain_seconds`` + ``close_seconds``.
        """
        return self._stop_within(self._factory.settings.drain_seconds)

    def reload(self, settings: Settings, validators: Sequence[IHandshakeValidator]) -> None:
        """Read the certificates of the endpoints that are listened on again, and apply what else may change.

        Args:
            settings: see :meth:`wsrelay.factory.RelayFactory.reload`.
            validators: the same.

        Raises:
            SettingsError: names every certificate that cannot be read; nothing was changed.
        """
        fresh = endpoints(None, [endpoint.description for endpoint in self._endpoints])
        self._factory.reload(settings, validators)
        for endpoint, renewed in zip(self._endpoints, fresh, strict=True):
            endpoint.renew(renewed)

    def doors(self) -> list[Door]:
        """Return where it can be reached; nowhere, once it takes no new connections."""
        return [endpoint.door(port) for endpoint, port in zip(self._endpoints, self.ports, strict=True)]

    def _stop_within(self, spread_seconds: float) -> "Deferred[Any]":
        super().stopService()
        closed = [maybeDeferred(port.stopListening) for port in self.ports]
        self.ports, self._endpoints = [], []
        # stopListening leaves what was accepted (TRAPS 41).
        close_seconds = self._factory.settings.close_seconds
        grace_seconds = max(close_seconds - ABORT_SECONDS, close_seconds / 2)
        gone = self._factory.close_all(closecodes.RESTARTING, spread_seconds + grace_seconds, spread_seconds)
        stopped: Deferred[Any] = gatherResults([*closed, gone])
        return stopped.addBoth(self._log_the_last)

    def _log_the_last(self, outcome: object) -> object:
        # There may be no turn of the reactor left at whose end it would be done.
        self._factory.lines.flush()
        return outcome

    def _announce(self) -> None:
        audience = "everyone" if self._factory.settings.echo else "everyone else"
        for endpoint, port in zip(self._endpoints, self.ports, strict=True):
            where = endpoint.url(port.getHost())
            _log.info("relaying to {audience} in the room on {url}", audience=audience, url=where)
        if not USES_NVX:
            # 428 against 5 MB/s (TRAPS 8).
            _log.warn("autobahn has no NVX here: checking text for UTF-8 is 80 times slower; install its wheel")
