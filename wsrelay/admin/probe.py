"""The readiness probe: whether a published message is delivered, tried on one of the relay's own ports.

A round is two fresh connections of Autobahn's client: one publishes a word, the other must receive it. So everything
that a client's message needs is tried: the port, the parser, the hub and its flush, the transport. The validators let
the two in by the credentials of :mod:`wsrelay.validators.probe`.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure

from wsrelay.connection.autobahn import Silence
from wsrelay.connection.context import Relay
from wsrelay.logs.failures import printable
from wsrelay.names import PROBE_ROOM
from wsrelay.net.endpoints import Door
from wsrelay.validators import probe
from wsrelay.wire import frames

__all__ = ["Canary", "Client", "Listener", "Outcome", "connect"]

#: Where to connect to what listens on all addresses.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen there

#: The most characters of what the relay has refused it with.
_REASON_CHARS: Final = 200


class Listener(Protocol):
    """Whoever has made clients connect."""

    def made(self, client: "Client") -> None:
        """TCP has begun."""

    def opened(self) -> None:
        """A handshake is done."""

    def heard(self, client: "Client", payload: bytes) -> None:
        """A message has come."""

    def lost(self, client: "Client", problem: str) -> None:
        """TCP has ended, for that reason."""


class Client(WebSocketClientProtocol):
    """One connection."""

    log = Silence()
    factory: "_Clients"
    transport: Any
    _refusal = ""

    def connectionMade(self) -> None:
        """TCP has begun: behind a proxy's endpoint, say that this is the proxy itself (PROXY protocol, section 2.1)."""
        self.factory.listener.made(self)
        if self.factory.speaks_proxy:
            self.transport.write(b"PROXY UNKNOWN\r\n")
        super().connectionMade()

    def end(self) -> None:
        """Close, or abort what is not open."""
        if self.state == self.STATE_OPEN:
            self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
        else:
            self.transport.abortConnection()

    def onOpen(self) -> None:
        """The relay has answered with 101."""
        self.factory.listener.opened()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Hear something."""
        self.factory.listener.heard(self, payload)

    def failHandshake(self, reason: str) -> None:
        """The relay has answered with something else."""
        with suppress(ValueError):
            _, status, _ = self.http_status_line.split(" ", 2)
            body = self.data.partition(b"\r\n\r\n")[2].decode("ascii", "replace")
            reason = f"{status}, {printable(body.strip())[:_REASON_CHARS]}"
        self._refusal = f"it was refused with {reason}"
        super().failHandshake(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended."""
        super().connectionLost(reason)
        code = self.remoteCloseCode
        closed = f"it was closed with {code}, {self.remoteCloseReason}" if code else "the relay hung up on it"
        self.factory.listener.lost(self, self._refusal or closed)


class _Clients(WebSocketClientFactory):
    """Makes them.

    Args:
        listener: is told what happens to them.
        reactor: for the time, of which they take no notice: whoever listens has a deadline for them.
        speaks_proxy: whether the relay expects a PROXY header.
    """

    protocol = Client  # type: ignore[assignment]  # Twisted means a callable
    noisy = False

    def __init__(self, listener: Listener, reactor: Any, speaks_proxy: bool) -> None:
        super().__init__("ws://localhost/", headers=dict(probe.FIELDS), useragent="", reactor=reactor)
        self.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, serverConnectionDropTimeout=0)
        self.listener = listener
        self.speaks_proxy = speaks_proxy


def connect(listener: Listener, reactor: Any, door: Door, seconds: float) -> "Deferred[Any]":
    """Connect a client.

    Args:
        listener: is told what happens to it.
        reactor: to connect with.
        door: where.
        seconds: how long TCP may take to begin.

    Returns:
        A Deferred that fails if TCP does not begin.
    """
    connecting: Deferred[Any] = _endpoint(reactor, door, seconds).connect(
        _Clients(listener, reactor, door.speaks_proxy)
    )
    return connecting


def _endpoint(reactor: Any, door: Door, seconds: float) -> Any:
    if isinstance(door.address, UNIXAddress):
        endpoint: Any = UNIXClientEndpoint(reactor, door.address.name, timeout=seconds)
    else:
        host = _LOOPBACK.get(door.address.host, door.address.host)
        endpoint_type = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        endpoint = endpoint_type(reactor, host, door.address.port, timeout=seconds)
    # Nobody's certificate is checked: it is ourselves, whatever name is in it.
    return wrapClientTLS(CertificateOptions(), endpoint, reactor) if door.is_tls else endpoint


#: How old a result may be that is given again, in seconds: many may ask at once, and each round costs two handshakes.
REUSE_SECONDS: Final = 0.25

#: How long its connections may take to end.
END_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round ended.

    Attributes:
        problem: what went wrong; empty if nothing did.
        seconds: how long it took.
    """

    problem: str
    seconds: float


class Canary:
    """Asks whether a relay relays.

    Args:
        relay: the relay.
        doors: where it listens, as it is at any time.
        seconds: how long a round may take.
    """

    def __init__(self, relay: Relay, doors: Callable[[], Sequence[Door]], seconds: float) -> None:
        self._relay = relay
        self._doors = doors
        self._seconds = seconds
        self._round: _Round | None = None
        self._waiting: list[Deferred[Outcome]] = []
        self._last: tuple[float, Outcome] | None = None

    def ask(self) -> "Deferred[Outcome]":
        """Return how a round ends: a new one, the one that is under way, or one that has just ended."""
        asked: Deferred[Outcome] = Deferred()
        now = self._relay.reactor.seconds()
        if self._round is None and self._last is not None and now - self._last[0] <= REUSE_SECONDS:
            asked.callback(self._last[1])
            return asked
        self._waiting.append(asked)
        if self._round is None:
            self._round = _Round(self._relay, self._seconds, self._ended)
            # The cheapest to reach: what TLS and PROXY add is not what is tried out.
            self._round.start(min(self._doors(), key=lambda door: (door.is_tls, door.speaks_proxy), default=None))
        return asked

    def stop(self) -> None:
        """Give up a round that is under way; a relay that stops has nothing to prove."""
        if self._round is not None:
            self._round.end("the relay has stopped")

    def _ended(self, outcome: Outcome) -> None:
        self._round, self._last = None, (self._relay.reactor.seconds(), outcome)
        waiting, self._waiting = self._waiting, []
        for asked in waiting:
            asked.callback(outcome)


class _Round:
    """One round.

    Args:
        relay: the relay.
        seconds: how long it may take.
        ended: is told how it ended, once.
    """

    def __init__(self, relay: Relay, seconds: float, ended: Callable[[Outcome], None]) -> None:
        self._reactor = relay.reactor
        self._is_binary = relay.message_types.of(PROBE_ROOM) == frames.BINARY
        # What is left of an earlier round must not pass for this one's.
        self._word = secrets.token_hex(8).encode("ascii")[: relay.settings.max_message_bytes]
        self._seconds = seconds
        self._ended: Callable[[Outcome], None] | None = ended
        self._stage = "the connections were not accepted"
        self._connecting: list[Deferred[Any]] = []
        self._clients: list[Client] = []
        self._watchdog: Any = None

    def start(self, door: Door | None) -> None:
        """Connect twice."""
        self._began = self._reactor.seconds()
        self._watchdog = self._reactor.callLater(self._seconds, self._timeout)
        if door is None:
            self.end("the relay listens nowhere where it can be asked")
            return
        while len(self._connecting) < 2 and self._ended is not None:  # the first may fail at once
            connecting = connect(self, self._reactor, door, self._seconds)
            self._connecting.append(connecting)
            connecting.addErrback(lambda failure: self.end(f"it could not connect: {failure.getErrorMessage()}"))

    def end(self, problem: str = "") -> None:
        """Tell how it ended, the first time, and let the connections go."""
        if self._ended is None:
            return
        ended, self._ended = self._ended, None
        if self._watchdog.active():
            self._watchdog.cancel()
        for connecting in self._connecting:
            connecting.cancel()
        self._watchdog = self._reactor.callLater(END_SECONDS, self._abort)
        for client in tuple(self._clients):
            client.end()
        self._forget_watchdog()
        ended(Outcome(problem, self._reactor.seconds() - self._began))

    # --- what the clients tell --------------------------------------------------------------------

    def made(self, client: Client) -> None:
        """TCP has begun."""
        self._clients.append(client)
        self._stage = "the handshakes were not answered"

    def opened(self) -> None:
        """A handshake is done; with both, it can be said what the other one has to hear."""
        if self._ended is not None and [client.state for client in self._clients].count(Client.STATE_OPEN) == 2:
            self._stage = "what was published was not delivered"
            self._clients[0].sendMessage(self._word, self._is_binary)

    def heard(self, client: Client, payload: bytes) -> None:
        """Something has come; with ``echo``, also to the one that said it."""
        if self._ended is not None and client is self._clients[1] and payload == self._word:
            self.end()

    def lost(self, client: Client, problem: str) -> None:
        """TCP has ended."""
        self._clients.remove(client)
        self.end(problem)
        self._forget_watchdog()

    def _timeout(self) -> None:
        self.end(f"{self._stage} within {self._seconds:g} s")

    def _abort(self) -> None:
        for client in tuple(self._clients):
            client.transport.abortConnection()

    def _forget_watchdog(self) -> None:
        if not self._clients and self._watchdog.active():
            self._watchdog.cancel()
