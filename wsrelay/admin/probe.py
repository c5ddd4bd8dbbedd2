"""The readiness probe: whether a published message is delivered, tried on one of the relay's own ports.

A round is two fresh connections of Autobahn's client: one publishes a word, the other must receive it. It covers the
port, the parser, the hub and its flush, and the transport. The validators let both in by the credentials of
:mod:`wsrelay.validators.probe`. No limit on clients holds for them: before a connection begins, admission is told its
source, which no other socket can have. Must not live here: other readiness checks (:mod:`wsrelay.admin.views`).
"""

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, cast

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
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

__all__ = ["Client", "Listener", "Outcome", "Probe", "connect"]

#: Wildcard address → the address to connect to.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen there

#: The most characters of a refusal's reason in an outcome.
_REASON_CHARS: Final = 200


class Listener(Protocol):
    """The owner of some clients."""

    def connecting(self, source: object) -> None:
        """A connection is about to begin. See :func:`wsrelay.net.sockets.source`."""

    def made(self, client: "Client") -> None:
        """TCP has begun."""

    def opened(self) -> None:
        """A handshake is done."""

    def heard(self, client: "Client", payload: bytes) -> None:
        """A message has come."""

    def lost(self, client: "Client", problem: str) -> None:
        """TCP has ended; ``problem`` says why."""


class Client(WebSocketClientProtocol):
    """One connection."""

    log = Silence()
    factory: "_Clients"
    transport: ITCPTransport
    _refusal = ""

    def connectionMade(self) -> None:
        """TCP has begun. On a PROXY endpoint, name no client (PROXY protocol, section 2.1)."""
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
        """A message has come."""
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
    """Makes clients. They have no deadlines of their own: the listener ends them.

    Args:
        listener: is told what happens to them.
        reactor: required by Autobahn.
        speaks_proxy: whether the relay expects a PROXY header.
    """

    protocol = Client  # type: ignore[assignment]  # Twisted means a callable
    noisy = False

    def __init__(self, listener: Listener, reactor: IReactorTime, speaks_proxy: bool) -> None:
        super().__init__("ws://localhost/", headers=dict(probe.FIELDS), useragent="", reactor=reactor)
        self.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, serverConnectionDropTimeout=0)
        self.listener = listener
        self.speaks_proxy = speaks_proxy


def connect(listener: Listener, reactor: IReactorTime, door: Door, seconds: float) -> "Deferred[IProtocol]":
    """Connect a client.

    Args:
        listener: is told what happens to it.
        reactor: to connect with.
        door: where to.
        seconds: the deadline for TCP to begin.

    Returns:
        A Deferred that fails if TCP does not begin.
    """
    return _endpoint(listener, reactor, door, seconds).connect(_Clients(listener, reactor, door.speaks_proxy))


class _Connector(Protocol):
    """A connector of Twisted's. Its socket is bound, and connects in the next reactor turn."""

    transport: ITCPTransport


class _Connects(Protocol):
    """The used part of IReactorTCP, and of its result."""

    def connectTCP(
        self, host: str, port: int, factory: IProtocolFactory, timeout: float, bindAddress: tuple[str, int]
    ) -> _Connector: ...


class _Announcing:
    """The part of a reactor that Twisted's endpoints connect with.

    Args:
        reactor: the reactor.
        listener: is told each source.
    """

    def __init__(self, reactor: object, listener: Listener) -> None:
        self._reactor = cast("_Connects", reactor)
        self._listener = listener

    def connectTCP(
        self, host: str, port: int, factory: IProtocolFactory, timeout: float, bindAddress: tuple[str, int]
    ) -> _Connector:
        """Connect. See :class:`twisted.internet.interfaces.IReactorTCP`."""
        connector = self._reactor.connectTCP(host, port, factory, timeout, bindAddress)
        with suppress(AttributeError):  # there is no socket: the connect is about to fail
            self._listener.connecting(connector.transport.getHost())
        return connector


def _endpoint(listener: Listener, reactor: IReactorTime, door: Door, seconds: float) -> IStreamClientEndpoint:
    if isinstance(door.address, UNIXAddress):
        listener.connecting(os.getpid())
        endpoint: IStreamClientEndpoint = UNIXClientEndpoint(reactor, door.address.name, timeout=seconds)
    else:
        host = _LOOPBACK.get(door.address.host, door.address.host)
        endpoint_type = TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint
        # Bound to the address that it connects to: that is its own source, and no other machine's (TRAPS 108).
        announcing = _Announcing(reactor, listener)
        endpoint = endpoint_type(announcing, host, door.address.port, timeout=seconds, bindAddress=(host, 0))
    # No verification: the certificate is our own, for another name.
    return wrapClientTLS(CertificateOptions(), endpoint, reactor) if door.is_tls else endpoint


#: The age in seconds up to which an outcome is reused: each round costs two handshakes.
REUSE_SECONDS: Final = 0.25

#: Seconds until the connections of an ended round are aborted.
END_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round ended.

    Attributes:
        problem: what went wrong; empty on success.
        seconds: duration of the round.
    """

    problem: str
    seconds: float


class Probe:
    """The readiness probe of one relay.

    Args:
        relay: the relay.
        doors: returns where it listens now.
        seconds: the deadline of a round.
    """

    def __init__(self, relay: Relay, doors: Callable[[], Sequence[Door]], seconds: float) -> None:
        self._relay = relay
        self._doors = doors
        self._seconds = seconds
        self._round: _Round | None = None
        self._waiting: list[Deferred[Outcome]] = []
        self._last: tuple[float, Outcome] | None = None

    def ask(self) -> "Deferred[Outcome]":
        """Return the outcome of the current round, a recent one, or a new one."""
        asked: Deferred[Outcome] = Deferred()
        now = self._relay.reactor.seconds()
        if self._round is None and self._last is not None and now - self._last[0] <= REUSE_SECONDS:
            asked.callback(self._last[1])
            return asked
        self._waiting.append(asked)
        if self._round is None:
            self._round = _Round(self._relay, self._seconds, self._ended)
            # The cheapest door: TLS and PROXY are not under test.
            self._round.start(min(self._doors(), key=lambda door: (door.is_tls, door.speaks_proxy), default=None))
        return asked

    def stop(self) -> None:
        """End the current round: the relay stops."""
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
        seconds: its deadline.
        ended: called once, with the outcome.
    """

    def __init__(self, relay: Relay, seconds: float, ended: Callable[[Outcome], None]) -> None:
        self._reactor = relay.reactor
        self._expected = relay.admission.expected
        self._sources: list[object] = []
        self._is_binary = relay.message_types.of(PROBE_ROOM) == frames.BINARY
        # Unique: a late message of an earlier round must not count.
        self._word = secrets.token_hex(8).encode("ascii")[: relay.settings.max_message_bytes]
        self._seconds = seconds
        self._ended: Callable[[Outcome], None] | None = ended
        self._stage = "the connections were not accepted"
        self._connecting: list[Deferred[IProtocol]] = []
        self._clients: list[Client] = []
        self._watchdog: IDelayedCall | None = None

    def start(self, door: Door | None) -> None:
        """Connect twice."""
        self._began = self._reactor.seconds()
        self._watch(self._seconds, self._timeout)
        if door is None:
            self.end("the relay listens nowhere where it can be asked")
            return
        while len(self._connecting) < 2 and self._ended is not None:  # the first may fail at once
            connecting = connect(self, self._reactor, door, self._seconds)
            self._connecting.append(connecting)
            connecting.addErrback(lambda failure: self.end(f"it could not connect: {failure.getErrorMessage()}"))

    def end(self, problem: str = "") -> None:
        """Report the outcome, the first time, and end the connections."""
        if self._ended is None:
            return
        ended, self._ended = self._ended, None
        for source in self._sources:  # without connections that have not arrived
            if source in self._expected:
                self._expected.remove(source)
        for connecting in self._connecting:
            connecting.cancel()
        self._watch(END_SECONDS, self._abort)
        for client in tuple(self._clients):
            client.end()
        self._forget_watchdog()
        ended(Outcome(problem, self._reactor.seconds() - self._began))

    # --- what clients call ------------------------------------------------------------------------

    def connecting(self, source: object) -> None:
        """A connection is about to begin: no limit on clients holds for it."""
        if self._ended is not None:
            self._sources.append(source)
            self._expected.append(source)

    def made(self, client: Client) -> None:
        """TCP has begun."""
        self._clients.append(client)
        self._stage = "the handshakes were not answered"

    def opened(self) -> None:
        """A handshake is done; after both, the first client publishes."""
        if self._ended is not None and [client.state for client in self._clients].count(Client.STATE_OPEN) == 2:
            self._stage = "what was published was not delivered"
            self._clients[0].sendMessage(self._word, self._is_binary)

    def heard(self, client: Client, payload: bytes) -> None:
        """A message has come; with ``echo``, to the publisher as well."""
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

    def _watch(self, seconds: float, act: Callable[[], None]) -> None:
        """Replace the deadline."""
        self._unwatch()
        self._watchdog = self._reactor.callLater(seconds, act)

    def _unwatch(self) -> None:
        if self._watchdog is not None and self._watchdog.active():
            self._watchdog.cancel()

    def _forget_watchdog(self) -> None:
        if not self._clients:
            self._unwatch()
