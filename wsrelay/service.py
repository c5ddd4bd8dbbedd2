"""Listening and stopping: a relay as a Twisted service, and as a process of its own.

Start: listen on every endpoint, say where. Stop: stop listening, tell every client (1001), wait for them,
abort those that stay. What is served is the factory's; where the settings come from is :mod:`wsrelay.tap`'s.
"""

import gc
import signal
from types import FrameType
from typing import Any, Final

from autobahn.websocket import USES_NVX
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from wsrelay import closecodes
from wsrelay.factory import RelayFactory

__all__ = ["RelayProcess", "RelayService", "endpoint", "url"]

_log = Logger(namespace="wsrelay")

#: Connections that wait to be accepted. Twisted's default of 50 is too few for a reconnect storm (TRAPS 42).
BACKLOG: Final = 1024

#: What is kept of ``close_seconds`` for aborting those that do not answer, and for ending the process.
ABORT_SECONDS: Final = 0.3

#: Endpoints that have a backlog of their own making; systemd's comes with its socket.
_WITH_BACKLOG: Final = frozenset(["ssl", "tcp", "tcp6", "tls", "unix"])

_TLS: Final = frozenset(["ssl", "tls"])


class RelayService(Service):
    """Listens for a factory. For use in a process that is somebody else's; see :class:`RelayProcess`.

    Args:
        factory: the relay; its settings name the endpoints.

    Attributes:
        ports: the listening ports, in the order of the endpoints; empty until started.
    """

    def __init__(self, factory: RelayFactory) -> None:
        self._factory = factory
        self.ports: list[IListeningPort] = []
        self._urls: list[str] = []

    def privilegedStartService(self) -> None:
        """Listen, before twistd gives up root.

        Raises:
            CannotListenError: an endpoint is taken. Not a plain ``StreamServerEndpointService``, which logs
                that and goes on with nothing (TRAPS 39).
        """
        super().privilegedStartService()
        for description in self._factory.settings.listen:
            listening = endpoint(self._factory.reactor, description).listen(self._factory)
            failures: list[Failure] = []
            listening.addCallbacks(self._listening, failures.append, callbackArgs=(description,))
            # All of Twisted's endpoints listen at once, or fail at once.
            for failure in failures:
                failure.raiseException()

    def startService(self) -> None:
        """Listen, if nobody has called :meth:`privilegedStartService`: twist does not (TRAPS 40)."""
        super().startService()
        if not self.ports:
            self.privilegedStartService()
        self._factory.reactor.callWhenRunning(self._announce)

    def stopService(self) -> "Deferred[Any]":
        """Stop listening, then close every connection with 1001.

        Returns:
            A Deferred that fires when all are gone, within ``close_seconds``.
        """
        super().stopService()
        closed = [maybeDeferred(port.stopListening) for port in self.ports]
        self.ports, self._urls = [], []
        # stopListening leaves what was accepted (TRAPS 41).
        close_seconds = self._factory.settings.close_seconds
        grace = max(close_seconds - ABORT_SECONDS, close_seconds / 2)
        stopped: Deferred[Any] = gatherResults([*closed, self._factory.close_all(closecodes.GOING_AWAY, grace)])
        return stopped.addBoth(self._log_the_last)

    def _log_the_last(self, outcome: object) -> object:
        # There may be no turn of the reactor left at whose end it would be done.
        self._factory.lines.flush()
        return outcome

    def _listening(self, port: IListeningPort, description: str) -> None:
        self.ports.append(port)
        self._urls.append(url(description, port.getHost()))

    def _announce(self) -> None:
        audience = "everyone" if self._factory.settings.echo else "everyone else"
        for where in self._urls:
            _log.info("relaying to {audience} in the room on {url}", audience=audience, url=where)
        if not USES_NVX:
            # 428 against 5 MB/s (TRAPS 8).
            _log.warn("autobahn has no NVX here: checking text for UTF-8 is 80 times slower; install its wheel")


class RelayProcess(RelayService):
    """A relay that is the process: what ``twistd wsrelay`` and ``twist wsrelay`` run.

    SIGTERM, SIGINT and SIGHUP stop it politely, and it exits with 0; a second one stops it now. Without this,
    twistd kills itself with the signal it received, and SIGHUP kills it without a word to its clients (TRAPS 40).
    """

    def __init__(self, factory: RelayFactory) -> None:
        super().__init__(factory)
        self._stopping = False

    def privilegedStartService(self) -> None:
        """Listen. Exits with 1 and one line when that cannot be."""
        try:
            super().privilegedStartService()
        except Exception as error:  # noqa: BLE001 - taken, no such folder, no such port, not allowed …
            raise SystemExit(f"wsrelay: cannot listen: {error}") from None

    def _announce(self) -> None:
        # What was made until now stays, 50 000 objects of Twisted and Autobahn: without this, each full collection
        # looks at them all, and holds everybody for 12 ms.
        gc.collect()
        gc.freeze()
        # The reactor has installed its own handlers by now; whoever reads where we listen may signal us.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        super()._announce()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._factory.reactor.callFromThread(self._stop, signal.Signals(number).name)

    def _stop(self, name: str) -> None:
        if not self._stopping:
            self._stopping = True
            _log.info("{signal}: closing {count} connections", signal=name, count=len(self._factory.connections))
            self._factory.reactor.stop()
        else:
            self._factory.abort_all()


def endpoint(reactor: Any, description: str) -> Any:
    """Return the server endpoint of a description, with a backlog that stands a reconnect storm.

    Args:
        reactor: to listen with; ``None`` where the description is only to be checked.
        description: any Twisted server endpoint string.

    Raises:
        ValueError: it is none. A certificate that cannot be read raises what reading it raises.
    """
    if _kind(description) in _WITH_BACKLOG and ":backlog=" not in description:
        description = f"{description}:backlog={BACKLOG}"
    try:
        return serverFromString(reactor, description)
    except LookupError:
        raise ValueError("the service manager has passed no such socket") from None


def _kind(description: str) -> str:
    return description.removeprefix("haproxy:").partition(":")[0]


def url(description: str, address: Any) -> str:
    """Return the URL of the room "/" on a listening port, as one would type it."""
    scheme = "wss" if _kind(description) in _TLS else "ws"
    if hasattr(address, "port"):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{scheme}://{host}:{address.port}/"
    name: bytes = getattr(address, "name", None) or b"?"
    return f"{scheme}+unix:{name.decode(errors='replace')}"
