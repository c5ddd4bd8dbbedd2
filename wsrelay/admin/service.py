"""The admin endpoint as a service: on a port of its own, beside the relay, and there until the relay has stopped.

What is served is :mod:`wsrelay.admin.views`'; who is let near it is decided in :mod:`wsrelay.admin.gate` and
:mod:`wsrelay.admin.gate`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from wsrelay.admin.gate import GatedSite, Guard, is_local
from wsrelay.admin.probe import Canary
from wsrelay.admin.routes import Routes
from wsrelay.admin.views import Views
from wsrelay.factory import RelayFactory
from wsrelay.net.endpoints import Door, Endpoint, admin_endpoint

__all__ = ["AdminService"]

_log = Logger(namespace="wsrelay")


class AdminService(Service):
    """Serves the admin endpoint of one relay.

    Args:
        relay: the relay, whoever listens for it.
        description: a Twisted server endpoint string; see :func:`wsrelay.net.endpoints.admin_endpoint`.
        doors: where the relay listens, as it is at any time; without it, readiness is told without a canary.
        drain: stops the relay as SIGTERM would, and is to return at once; without it, ``POST /drain`` is refused.
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
        self._canary = None if doors is None else Canary(relay, doors, relay.settings.canary_seconds)
        self._guard = Guard()
        resource = Routes(Views(relay, self._canary, drain).routes)
        self._site = GatedSite(resource, relay.reactor, relay.settings.handshake_seconds, self._guard.check)
        self._endpoint: Endpoint | None = None
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up root.

        Raises:
            SettingsError: it is no endpoint.
            CannotListenError: it is taken.
        """
        super().privilegedStartService()
        self._endpoint = admin_endpoint(self._relay.reactor, self._description)
        self._port = self._endpoint.listen_now(self._site)
        self._guard.is_local = is_local(self._port.getHost())

    def startService(self) -> None:
        """Listen, if nobody has called :meth:`privilegedStartService`, and say where."""
        super().startService()
        if self._port is None:
            self.privilegedStartService()
        self._relay.reactor.callWhenRunning(self._announce)

    def stopService(self) -> "Deferred[Any]":
        """Stop listening, give up what is not answered yet, and end all connections."""
        super().stopService()
        port, self._port = self._port, None
        if self._canary is not None:
            self._canary.stop()
        self._site.end()
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)

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
