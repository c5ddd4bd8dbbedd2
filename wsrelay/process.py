"""RelayProcess: a relay that is the process, with signals, reload, the admin endpoint and start-up log lines.

Must not live here: listening and draining (:mod:`wsrelay.service`), reading options (:mod:`wsrelay.tap`).
"""

import gc
import platform
import signal
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import FrameType
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

import twisted
from wsrelay import __version__
from wsrelay.connection.drain import abort_all
from wsrelay.errors import SettingsError
from wsrelay.factory import RelayFactory
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.service import RelayService
from wsrelay.settings import Settings

__all__ = ["RelayProcess", "announcement"]

_log = Logger(namespace="wsrelay")

#: What an operator asks for first, beside the number of connections.
_LIMITS: Final = (
    "max_connections_per_address",
    "max_message_bytes",
    "memory_budget",
    "room_log_bytes",
    "drain_seconds",
)


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


def announcement(settings: Settings, max_connections: int, reactor: Any) -> list[str]:
    """Return the lines.

    Args:
        settings: what it runs with.
        max_connections: how many it takes, which the settings may leave to the limit on open files.
        reactor: what it runs on.
    """
    versions = {
        "wsrelay": __version__,
        "Python": platform.python_version(),
        "Twisted": f"{twisted.__version__} with {type(reactor).__name__}",
        "Autobahn": version("autobahn"),
    }
    limits = {"max_connections": max_connections} | {name: getattr(settings, name) for name in _LIMITS}
    return [
        "started: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        "limits: " + " ".join(f"{name.replace('_', '-')}={value:.16g}" for name, value in limits.items()),
    ]
