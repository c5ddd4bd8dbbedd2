"""HTTP to an admin endpoint in memory: the bytes of one connection, and the parsed response."""

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import directlyProvides

from tests.harness.support import MAX_REQUEST_BYTES
from wsrelay.admin.server import AdminServer
from wsrelay.http.exchange import Exchange
from wsrelay.request import HandshakeRequest


class Transport(StringTransport):
    """StringTransport with the half-close that it lacks."""

    half_closed = False

    def unregisterProducer(self) -> None:
        self.producer = None  # Twisted's own transports allow it twice (TRAPS 45)

    def loseWriteConnection(self) -> None:
        self.half_closed = True


def tls_transport(finished: bytes | None = b"peer") -> Transport:
    """Return a transport with TLS, after its handshake or within."""
    transport = Transport()
    transport.getHandle = Mock(return_value=Mock(get_peer_finished=lambda: finished))
    directlyProvides(transport, ISSLTransport)
    return transport


class Response:
    """A parsed response.

    Attributes:
        status: its status; 0 before there is a response.
        fields: lower-case name → value.
        body: the rest.
    """

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.fields = {name.lower(): value for name, value in [line.split(": ", 1) for line in lines]}

    @property
    def json(self) -> Any:
        """The body as JSON."""
        assert self.fields["content-type"] == "application/json", self.fields
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text, without its line end."""
        return self.body.decode().rstrip("\n")


def head(target: str = "/", method: str = "GET", **fields: str) -> bytes:
    """Return the head of a request; ``fields`` add or replace fields, with ``_`` for ``-``."""
    merged = {"Host": "localhost", **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in merged.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Connection:
    """A client's end of one connection to a server."""

    def __init__(self, server: AdminServer, transport: Any = None) -> None:
        self.transport = transport or Transport(peerAddress=IPv4Address("TCP", "127.0.0.1", 50000))
        self.connection = server.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, data: bytes) -> Response:
        """Send bytes, and return the response so far."""
        self.connection.dataReceived(data)
        return self.response

    @property
    def response(self) -> Response:
        return Response(self.transport.value())

    @property
    def ended(self) -> bool:
        """Whether the server has begun to end it."""
        return bool(self.transport.disconnecting or self.transport.half_closed)

    def hang_up(self) -> None:
        """End it from the client's side."""
        self.connection.connectionLost(Failure(ConnectionDone()))


def server(
    answer: Callable[[Exchange], None], check: Callable[[HandshakeRequest], None] = lambda request: None
) -> tuple[AdminServer, MemoryReactorClock]:
    """Return a server with a deadline of 10 s for requests of :data:`MAX_REQUEST_BYTES` at most, and its clock."""
    clock = MemoryReactorClock()
    return AdminServer(answer, clock, 10, MAX_REQUEST_BYTES, check), clock
