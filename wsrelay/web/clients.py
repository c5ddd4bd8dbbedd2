"""The canary's clients: Autobahn's own, as far as they let the relay in at whatever door it has.

What they say to each other, and how long they may take, is :mod:`wsrelay.web.canary`'s.
"""

from contextlib import suppress
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure

from wsrelay import canary
from wsrelay.autobahn_protocol import Silence
from wsrelay.logs.failures import printable
from wsrelay.net.endpoints import Door

__all__ = ["Client", "Listener", "connect"]

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
        super().__init__("ws://localhost/", headers=dict(canary.FIELDS), useragent="", reactor=reactor)
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
