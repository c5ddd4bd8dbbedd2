"""The admin endpoint as a service: on a port of its own, until the relay has stopped.

Must not live here: what is served (:mod:`wsrelay.admin.views`), who may ask (:mod:`wsrelay.admin.gate`), connections
(:mod:`wsrelay.admin.server`).
"""

from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from wsrelay.admin.gate import Guard, is_local
from wsrelay.admin.probe import Probe
from wsrelay.admin.routes import Routes
from wsrelay.admin.server import AdminServer
from wsrelay.admin.views import Views
from wsrelay.factory import RelayFactory
from wsrelay.net.endpoints import Door, Endpoint, admin_endpoint

__all__ = ["AdminService"]

_log = Logger(namespace="wsrelay")


class AdminService(Service):
    """Serves the admin endpoint of one relay.

    Args:
        relay: the relay.
        description: a Twisted server endpoint string; see :func:`wsrelay.net.endpoints.admin_endpoint`.
        doors: returns where the relay listens now, for the readiness probe; ``None``: readiness without a probe.
        drain: stops the relay as SIGTERM does, and returns at once; ``None``: ``POST /drain`` is refused with 501.
    """

    def __init__(
        self,
        relay: RelayFactory,
        description: str,
        *,
        doors: Callable[[], Sequence[Door]] | None = None,
        drain: Callable[[], object] | None = None,
    ) -> None:
        self._relay = relay
        self._description = description
        self._probe = None if doors is None else Probe(relay, doors, relay.settings.canary_seconds)
        self._guard = Guard()
        settings, log = relay.settings, relay.lines.failure
        self._server = AdminServer(
            Routes(Views(relay, self._probe, drain).routes, log).answer,
            relay.reactor,
            settings.handshake_seconds,
            settings.max_request_bytes,
            self._guard.check,
            log,
        )
        self._endpoint: Endpoint | None = None
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up root.

        Raises:
            SettingsError: the description is no endpoint.
            CannotListenError: the port is taken.
        """
        super().privilegedStartService()
        self._endpoint = admin_endpoint(self._relay.reactor, self._description)
        self._port = self._endpoint.listen_now(self._server)
        self._guard.is_local = is_local(self._port.getHost())

    def startService(self) -> None:
        """Listen, unless :meth:`privilegedStartService` did, and log the URL."""
        super().startService()
        if self._port is None:
            self.privilegedStartService()
        self._relay.reactor.callWhenRunning(self._announce)

    def stopService(self) -> "Deferred[None]":
        """Stop listening, end the readiness probe, end all connections."""
        super().stopService()
        port, self._port = self._port, None
        if self._probe is not None:
            self._probe.stop()
        self._server.end()
        stopped = None if port is None else port.stopListening()
        return succeed(None) if stopped is None else stopped

    def fresh_endpoint(self) -> Endpoint:
        """Return the endpoint with its certificates read again.

        Raises:
            SettingsError: they cannot be read.
        """
        return admin_endpoint(None, self._description)

    def renew(self, fresh: Endpoint) -> None:
        """Show new connections the certificates of a :meth:`fresh_endpoint`."""
        if self._endpoint is not None:
            self._endpoint.renew(fresh)

    def _announce(self) -> None:
        if self._endpoint is None or self._port is None:
            return  # stopped before the reactor ran
        url = self._endpoint.url(self._port.getHost(), "http")
        _log.info("admin endpoint on {url}", url=url)
        if not self._guard.is_local:
            _log.warn(
                "the admin endpoint on {url} has no password, and can be reached from other machines:"
                " let a firewall or a proxy decide who may ask it",
                url=url,
            )
