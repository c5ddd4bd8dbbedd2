"""RelayProcess: the standalone relay, with signals, reload, the admin endpoint and start-up log lines.

Must not live here: listening and draining (:mod:`wsrelay.service`), reading options (:mod:`wsrelay.tap`).
"""

import errno
import gc
import platform
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

import twisted
from wsrelay import __version__
from wsrelay.connection.drain import abort_all
from wsrelay.errors import SettingsError
from wsrelay.factory import RelayFactory
from wsrelay.interfaces import IHandshakeValidator
from wsrelay.limits.memory import address_limit_bytes
from wsrelay.logs.files import LogFile
from wsrelay.service import RelayService
from wsrelay.settings import Settings
from wsrelay.signals import Signals
from wsrelay.wire.deflate import library_name
from wsrelay.wire.native import IS_COMPILED

__all__ = ["RelayProcess", "announcement"]

_log = Logger(namespace="wsrelay")

#: The settings in the start-up line about limits. The default of two depends on others: their effective values.
_LIMITS: Final = (
    "max_connections",
    "max_connections_per_address",
    "max_message_bytes",
    "memory_budget",
    "max_unfinished_bytes_per_address",
    "room_log_bytes",
    "drain_seconds",
)


#: The settings that a reload's log line has in any case.
_ALWAYS_RELOADED: Final = ("validate", "slow_policy")

#: The limit on open files is low if it leaves room for fewer connections; the usual one of a shell is 1024 files.
FEW_CONNECTIONS: Final = 500

#: Error number of a failed listen → what to do.
_HINTS: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: " Another process has this port (`ss -ltnp` names it), or two of our endpoints have the same.",
    errno.EACCES: " Ports below 1024 need the capability CAP_NET_BIND_SERVICE, or a socket of systemd.",
    errno.EADDRNOTAVAIL: " This machine has no such address (`ip address` lists them).",
    errno.EAFNOSUPPORT: " This machine has no IPv6: use tcp: instead of tcp6:, and interface= for TLS.",
    socket.EAI_NONAME: " interface= takes an address of this machine (`ip address` lists them).",
}

#: The same for a unix socket; ``None``: Twisted's lock beside it belongs to a running process.
_UNIX_HINTS: Final[Mapping[int | None, str]] = {
    None: " Another relay listens on this socket.",
    errno.EADDRINUSE: " There is a file of this name: remove it, unless a process listens on it (`ss -xlp` names it).",
    errno.EACCES: " The relay's user may not write to the folder of the socket.",
    errno.ENOENT: " The socket needs a folder that exists.",
}


class _CannotListen(SystemExit, Exception):
    """Ends the process with exit status 1 and one line.

    Also an ``Exception``: only for those does twistd remove the PID file and report the failure to the parent process,
    which otherwise waits for its daemon for ever (TRAPS 81).
    """


class RelayProcess(RelayService):
    """The standalone relay: what ``twistd wsrelay`` and ``twist wsrelay`` run.

    SIGTERM drains over ``drain_seconds``, SIGINT closes all at once; exit status 0. A second signal aborts the
    remaining connections. ``POST /drain`` of the admin endpoint drains as SIGTERM does, and repeating it has no
    effect; the admin endpoint stops last. SIGHUP reloads. Twisted's own handlers would end with the signal's exit
    status (TRAPS 57), and SIGHUP and SIGUSR1 would kill the process without close frames (TRAPS 40). Signals that came
    during the start are handled once it runs: a stop then has no connection to close.

    Args:
        factory: the relay.
        read: reads the current settings and makes their validators; raises :class:`SettingsError`.
        log_file: opened again by SIGUSR1 and SIGHUP; ``None``: there is none.
        signals: has taken the signals since the start began; ``None``: they are taken when the reactor starts.
    """

    def __init__(
        self,
        factory: RelayFactory,
        read: Callable[[], tuple[Settings, Sequence[IHandshakeValidator]]],
        log_file: LogFile | None = None,
        signals: Signals | None = None,
    ) -> None:
        super().__init__(factory)
        self._read = read
        self._log_file = log_file
        self._signals = Signals() if signals is None else signals
        self._stopping = False
        self._spread_seconds = factory.settings.drain_seconds
        self._admin = None
        if factory.settings.admin:
            # Imported late, because it imports prometheus-client.
            from wsrelay.admin.service import AdminService  # noqa: PLC0415

            self._admin = AdminService(factory, factory.settings.admin, doors=self.doors, drain=self.drain)

    def privilegedStartService(self) -> None:
        """Listen. A failure ends the process with exit status 1 and one line."""
        try:
            super().privilegedStartService()
            if self._admin is not None:
                self._admin.privilegedStartService()
        except Exception as error:  # noqa: BLE001 - address in use, no such folder, permission denied …
            raise _CannotListen(f"wsrelay: cannot listen: {error}{_hint(error)}") from None

    def startService(self) -> None:
        """Listen, unless :meth:`privilegedStartService` did; start the admin endpoint."""
        # Right behind the reactor's own trigger, which has just installed its handlers (TRAPS 57).
        self._factory.reactor.addSystemEventTrigger("during", "startup", self._take_signals)
        super().startService()
        if self._admin is not None:
            self._admin.startService()

    def stopService(self) -> "Deferred[object]":
        """Stop with the spread that the signal chose, and the admin endpoint last. See :class:`RelayService`."""
        stopped = self._stop_within(self._spread_seconds)
        admin = self._admin
        if admin is not None:
            stopped.addBoth(lambda outcome: admin.stopService().addCallback(lambda _: outcome))
        return stopped

    def reload(self, settings: Settings, validators: Sequence[IHandshakeValidator]) -> None:
        """Reload, the admin endpoint's certificates included. See :meth:`RelayService.reload`."""
        fresh = None if self._admin is None else self._admin.fresh_endpoint()
        super().reload(settings, validators)
        if self._admin is not None and fresh is not None:
            self._admin.renew(fresh)

    def drain(self) -> None:
        """Stop as SIGTERM does, unless it is stopping; in the next reactor turn, behind the HTTP response."""
        self._factory.reactor.callLater(0, self._drain_once)

    def _drain_once(self) -> None:
        if not self._stopping:
            self._stop("POST /drain")

    def _announce(self) -> None:
        self._signals.deliver(self._on_signal)  # before the log lines: a reader may signal us
        # Some 50 000 objects of Twisted and Autobahn live until the end. Frozen, they do not cost each full
        # collection a pause of 12 ms (TRAPS 67).
        gc.collect()
        gc.freeze()
        for line in announcement(self._factory.settings, self._factory.max_connections, self._factory.reactor):
            _log.info("{line}", line=line)
        if not self._factory.settings.max_connections and self._factory.max_connections < FEW_CONNECTIONS:
            _log.warn(
                "the limit on open files leaves room for {count} connections; raise it (ulimit -Hn, LimitNOFILE=)",
                count=self._factory.max_connections,
            )
        super()._announce()

    def _take_signals(self) -> None:
        self._signals.take(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if self._log_file is not None or signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            self._signals.take(signal.SIGUSR1)  # else it rotates the file of twistd --logfile

    def _on_signal(self, received: signal.Signals) -> None:
        act = {signal.SIGHUP: self._reload, signal.SIGUSR1: self._reopen_log}.get(received, self._stop)
        self._factory.reactor.callFromThread(act, received.name)

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

    def _reopen_log(self, name: str) -> None:
        """Open the log file again, behind logrotate; a file that cannot be opened leaves the old one open."""
        if self._log_file is None:
            if name == "SIGUSR1":
                _log.info("{name}: there is no --log-file to open again", name=name)
            return
        try:
            self._log_file.reopen()
        except OSError as error:
            _log.error("{name}: the log file stays as it was: {why}", name=name, why=str(error))
        else:
            _log.info("{name}: opened the log file again", name=name)

    def _reload(self, name: str) -> None:
        """Reload, or change nothing after any error; one log line says which."""
        self._reopen_log(name)
        try:
            settings, validators = self._read()
            changed = self._factory.settings.differences(settings)
            self.reload(settings, validators)
        except SettingsError as error:
            _log.error("{name}: nothing was reloaded: {why}", name=name, why="; ".join(error.problems))
        except Exception:  # noqa: BLE001 - a validator plugin may raise anything; the relay goes on
            _log.failure("{name}: nothing was reloaded", name=name)
        else:
            waiting = self._factory.settings.differences(settings)
            others = [name for name in changed if name not in (*waiting, *_ALWAYS_RELOADED)]
            _log.info(
                "{name}: reloaded {certificates} certificates, {validators} validators and the slow policies{rest}",
                name=name,
                certificates=sum(endpoint.certificates is not None for endpoint in self._endpoints),
                validators=len(validators),
                rest=_listed("changed", others) + _listed("changed, but it needs a restart", waiting),
            )


def _listed(words: str, fields: Sequence[str]) -> str:
    return f"; {words}: {', '.join(name.replace('_', '-') for name in fields)}" if fields else ""


def _hint(error: Exception) -> str:
    """Return what to do about a failed listen; ``""`` if that is not known."""
    if isinstance(error, CannotListenError):  # its port: of a unix socket, a path; its socketError: of a lock, a text
        hints = _HINTS if isinstance(error.port, int) else _UNIX_HINTS
        return hints.get(getattr(error.socketError, "errno", None), "")
    return _UNIX_HINTS.get(error.errno, "") if isinstance(error, OSError) else ""


def announcement(settings: Settings, max_connections: int, reactor: object) -> list[str]:
    """Return the start-up log lines: versions, whether the extension module is used, and limits.

    Args:
        settings: the effective settings.
        max_connections: the effective limit; the setting may be 0, "as the limit on open files allows".
        reactor: the running reactor; its class is named.
    """
    versions = {
        "wsrelay": __version__,
        "Python": platform.python_version(),
        "Twisted": f"{twisted.__version__} with {type(reactor).__name__}",
        "Autobahn": version("autobahn"),
        "wsrelay._native": "in use" if IS_COMPILED else "not in use",
        "deflate by": library_name(),
    }
    limits = {name: getattr(settings, name) for name in _LIMITS}
    limits |= {"max_connections": max_connections, "max_unfinished_bytes_per_address": address_limit_bytes(settings)}
    return [
        "started: " + ", ".join(f"{name} {number}" for name, number in versions.items()),
        "limits: " + " ".join(f"{name.replace('_', '-')}={value:.16g}" for name, value in limits.items()),
    ]
