"""Listening and stopping: a relay as a Twisted service, and as a process of its own.

Start: listen on every endpoint, say where. Stop: stop listening, close every client (1012) spread over a while, wait
for them, abort those that stay. What is served is the factory's; where the settings come from is :mod:`wsrelay.tap`'s.
"""

import gc
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final

from autobahn.websocket import USES_NVX
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from wsrelay import closecodes
from wsrelay.announcement import announcement
from wsrelay.drain import abort_all
from wsrelay.errors import SettingsError
from wsrelay.factory import RelayFactory
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.net.endpoints import Door, Endpoint, end_when_dead, endpoints
from wsrelay.settings import Settings

__all__ = ["RelayProcess", "RelayService"]

_log = Logger(namespace="wsrelay")

#: What is kept of ``close_seconds`` for aborting those that do not answer, and for ending the process.
ABORT_SECONDS: Final = 0.3


class RelayService(Service):
    """Listens for a factory. For use in a process that is somebody else's; see :class:`RelayProcess`.

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


class _CannotListen(SystemExit, Exception):
    """Ends the process with 1 and one line.

    An error as well, because twistd looks for those: it tells the process that was called, which waits for its daemon
    to start and would wait for ever, and removes the PID file (TRAPS 81).
    """


class RelayProcess(RelayService):
    """A relay that is the process: what ``twistd wsrelay`` and ``twist wsrelay`` run.

    SIGTERM stops it politely, SIGINT too but with all closes at once, and it exits with 0; a second one stops it now.
    So does the admin endpoint's ``POST /drain``, but however often. That endpoint is there until all is done.
    SIGHUP reloads. Without this, twistd kills itself with the signal it received, and SIGHUP kills it without a word to
    its clients (TRAPS 40).

    Args:
        factory: the relay.
        read: reads the settings and their validators again, as they are now; raises :class:`SettingsError`.
    """

    def __init__(
        self, factory: RelayFactory, read: Callable[[], tuple[Settings, Sequence[IHandshakeValidator]]]
    ) -> None:
        super().__init__(factory)
        self._read = read
        self._stopping = False
        self._spread_seconds = factory.settings.drain_seconds
        self._admin: Any = None
        if factory.settings.admin:
            # Imported late: most have no need of it, and it brings twisted.web and prometheus-client.
            from wsrelay.admin.service import AdminService  # noqa: PLC0415

            self._admin = AdminService(factory, factory.settings.admin, doors=self.doors, drain=self.drain)

    def privilegedStartService(self) -> None:
        """Listen. Exits with 1 and one line when that cannot be."""
        try:
            super().privilegedStartService()
            if self._admin is not None:
                self._admin.privilegedStartService()
        except Exception as error:  # noqa: BLE001 - taken, no such folder, no such port, not allowed …
            raise _CannotListen(f"wsrelay: cannot listen: {error}") from None

    def startService(self) -> None:
        """Listen, if that was not done before; then the admin endpoint says where, too."""
        super().startService()
        if self._admin is not None:
            self._admin.startService()

    def stopService(self) -> "Deferred[Any]":
        """Stop as the signal said that has begun it, and the admin endpoint last. See :class:`RelayService`."""
        stopped = self._stop_within(self._spread_seconds)
        if self._admin is not None:
            stopped.addBoth(lambda outcome: self._admin.stopService().addCallback(lambda _: outcome))
        return stopped

    def reload(self, settings: Settings, validators: Sequence[IHandshakeValidator]) -> None:
        """Reload, the admin endpoint's certificates included. See :meth:`RelayService.reload`."""
        fresh = None if self._admin is None else self._admin.fresh_endpoint()
        super().reload(settings, validators)
        if self._admin is not None and fresh is not None:
            self._admin.renew(fresh)

    def drain(self) -> None:
        """Stop as SIGTERM does, if nothing has stopped it yet; the answer to whoever asked for it goes out before."""
        self._factory.reactor.callLater(0, self._drain_once)

    def _drain_once(self) -> None:
        if not self._stopping:
            self._stop("POST /drain")

    def _announce(self) -> None:
        # What was made until now stays, 50 000 objects of Twisted and Autobahn: without this, each full collection
        # looks at them all, and holds everybody for 12 ms.
        gc.collect()
        gc.freeze()
        # The reactor has installed its own handlers by now; whoever reads where we listen may signal us.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        for line in announcement(self._factory.settings, self._factory.max_connections, self._factory.reactor):
            _log.info("{line}", line=line)
        super()._announce()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        act = self._reload if number == signal.SIGHUP else self._stop
        self._factory.reactor.callFromThread(act, signal.Signals(number).name)

    def _stop(self, name: str) -> None:
        if self._stopping or name == "SIGINT":
            self._spread_seconds = 0
        if self._stopping:
            abort_all(self._factory.connections)
            return
        self._stopping = True
        _log.info(
            "{name}: closing {count} connections over {seconds:g} s",
            name=name,
            count=len(self._factory.connections),
            seconds=self._spread_seconds,
        )
        self._factory.reactor.stop()

    def _reload(self, name: str) -> None:
        """Reload all that can be, or nothing where anything is wrong, and say so in one line."""
        try:
            settings, validators = self._read()
            self.reload(settings, validators)
        except SettingsError as error:
            _log.error("{name}: nothing was reloaded: {why}", name=name, why="; ".join(error.problems))
        except Exception:  # noqa: BLE001 - a validator's plugin; whatever it was, it must not end the relay
            _log.failure("{name}: nothing was reloaded", name=name)
        else:
            waiting = [name.replace("_", "-") for name in self._factory.settings.differences(settings)]
            _log.info(
                "{name}: reloaded {certificates} certificates, {validators} validators and the slow policies{rest}",
                name=name,
                certificates=sum(endpoint.certificates is not None for endpoint in self._endpoints),
                validators=len(validators),
                rest=f"; changed, but it needs a restart: {', '.join(waiting)}" if waiting else "",
            )
