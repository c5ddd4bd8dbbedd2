"""Connections of the admin endpoint: one request without a body each, within a time, from a bounded number of clients.

The head passes the same strict parser as a handshake (:mod:`wsrelay.http.head`); the response is one
:class:`~wsrelay.http.exchange.Exchange`.

Must not live here: access checks (:mod:`wsrelay.admin.gate`), paths and answers (:mod:`wsrelay.admin.routes`,
:mod:`wsrelay.admin.views`).
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolNegotiationFactory,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wsrelay.errors import Denied
from wsrelay.http.exchange import Exchange
from wsrelay.http.head import check_no_body, parse_head, split_head
from wsrelay.http.linger import linger
from wsrelay.http.responses import HEAD, PRIVATE_FIELDS, refusal
from wsrelay.http.target import origin_form
from wsrelay.logs.failures import log_failure
from wsrelay.request import HandshakeRequest

__all__ = ["MAX_CONNECTIONS", "AdminConnection", "AdminServer"]

#: The most connections that wait for a request: for one more, the oldest of them is refused with 503, so that silent
#: ones keep no probe out. As many more may be answered or refused at once: for one more, the oldest refused one is
#: aborted; without any, the oldest.
MAX_CONNECTIONS: Final = 64

#: The methods of all paths together.
METHODS: Final = ("GET", "HEAD", "POST", "DELETE")

#: The most seconds from the request until the client has read the answer.
ANSWER_SECONDS: Final = 30.0

#: Seconds for which a refused client's bytes are read and discarded. See :mod:`wsrelay.http.linger`.
LINGER_SECONDS: Final = 1.0


@implementer(IHalfCloseableProtocol)
class AdminConnection(Protocol):
    """One connection: a request, a response, the end. A :class:`wsrelay.http.exchange.Line`.

    Args:
        server: knows all connections, and answers.
    """

    transport: ITCPTransport

    def __init__(self, server: "AdminServer") -> None:
        self._server = server
        self._received = b""
        self._is_complete = False
        self._exchange: Exchange | None = None
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """A client has connected. Its request must be complete within ``request_seconds``, TLS included."""
        self._set_deadline(self._server.request_seconds, self._late)
        self._server.connected(self)

    def dataReceived(self, data: bytes) -> None:
        """Collect the head, and answer once it is complete; discard everything behind it."""
        if self._is_complete:
            return
        self._received += data
        try:
            parts = split_head(self._received, self._server.max_request_bytes, len(data))
            if parts is None:
                return
            request = self._parse(*parts)
        except Denied as denied:
            self.deny(denied)
            return
        self._complete()
        self._set_deadline(ANSWER_SECONDS, self._abort)
        self._exchange = Exchange(self, request, self._server.answer)
        self._exchange.begin()

    def readConnectionLost(self) -> None:
        """The client has ended its half of TCP; a complete request is answered nevertheless. Not called with TLS."""
        if self._exchange is None:  # incomplete, or refused: the refusal may wait in the transport (TRAPS 124)
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our half has ended, behind a refusal: the deadline follows."""

    def charge_records(self, full: int, empty: int) -> None:
        """Abort for too many TLS records without data. See :class:`wsrelay.net.tls.Charged`."""
        if empty:
            self._abort()

    def refused_plain_http(self) -> None:
        """The client has been told that this is TLS. See :class:`wsrelay.net.tls.Charged`."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended."""
        self._server.disconnected(self)
        self._cancel_deadline()
        if self._exchange is not None:
            self._exchange.lost(reason)

    def _parse(self, head: bytes, rest: bytes) -> HandshakeRequest:
        request = parse_head(head, self.transport.getPeer(), None, METHODS)
        check_no_body(request.headers, "a request to the admin endpoint", 413)
        if rest:
            raise Denied(400, "there is data behind the request; send one request per connection")
        self._server.check(request)
        # The path as it is written: a proxy in front may forbid one by that, and no route has an escape.
        target = head.split(b" ", 2)[1].decode("ascii")
        return replace(request, path=origin_form(target, request.host).partition("?")[0])

    # --- what the exchange calls --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write bytes of the response."""
        self.transport.write(data)

    def end(self) -> None:
        """End TCP once the client has everything written, or at the deadline."""
        self.transport.loseConnection()

    def deny(self, denied: Denied) -> None:
        """Refuse the request. Peer sees: the status and the reason as a line of plain text, which HEAD does not get."""
        self._complete()
        self._server.refused[self] = None
        is_head = self._received.startswith(HEAD)
        linger(self.transport, refusal(denied, PRIVATE_FIELDS, is_head=is_head))
        self._set_deadline(LINGER_SECONDS, self._abort)

    def fail(self, error: Failure | Exception) -> None:
        """A bug. Peer sees: 500 with the id of the line in the log."""
        failure = error if isinstance(error, Failure) else Failure(error)
        self.deny(Denied(500, f"internal error: {self._server.log_failure('the admin endpoint failed', failure)}"))

    def make_room(self) -> None:
        """Abort, for a newer connection. Peer sees: the end of TCP."""
        self._server.disconnected(self)
        self._abort()

    def _complete(self) -> None:
        """Wait for no more of the request."""
        self._is_complete = True
        self._server.waiting.pop(self, None)

    # --- deadlines ----------------------------------------------------------------------------------

    def _late(self) -> None:
        self.deny(Denied(408, "the request did not come in time"))

    def _abort(self) -> None:
        self._set_deadline(LINGER_SECONDS, self._abort)
        self.transport.abortConnection()

    def _set_deadline(self, seconds: float, act: Callable[[], None]) -> None:
        self._cancel_deadline()
        self._deadline = self._server.reactor.callLater(seconds, act)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


@implementer(IProtocolNegotiationFactory)
class AdminServer(Factory):
    """Makes the connections of the admin endpoint, and knows them all.

    Args:
        answer: answers a request; see :class:`wsrelay.http.exchange.Exchange`.
        reactor: for the time.
        request_seconds: the most seconds from accept to the complete request.
        max_request_bytes: the most bytes of a request.
        check: raises :class:`~wsrelay.errors.Denied` for a request that may not be answered.
        log: logs an unexpected exception, and returns its incident id.

    Attributes:
        connections: a view of the connections, oldest first.
        waiting: those without a complete request, oldest first.
        refused: those that may still read their refusal, oldest first.
    """

    noisy = False

    def __init__(
        self,
        answer: Callable[[Exchange], None],
        reactor: IReactorTime,
        request_seconds: float,
        max_request_bytes: int,
        check: Callable[[HandshakeRequest], None],
        log: Callable[[str, Failure], str] = log_failure,
    ) -> None:
        self.answer = answer
        self.reactor = reactor
        self.request_seconds = request_seconds
        self.max_request_bytes = max_request_bytes
        self.check = check
        self.log_failure = log
        self._connections: dict[AdminConnection, None] = {}
        self.connections = self._connections.keys()
        self.waiting: dict[AdminConnection, None] = {}
        self.refused: dict[AdminConnection, None] = {}

    def buildProtocol(self, addr: IAddress | None) -> AdminConnection:
        """Return a new connection."""
        return AdminConnection(self)

    def connected(self, connection: AdminConnection) -> None:
        """Add a connection, and make room for it at the cost of the oldest."""
        self._connections[connection] = self.waiting[connection] = None
        if len(self.waiting) > MAX_CONNECTIONS:
            next(iter(self.waiting)).deny(
                Denied(503, "too many connections to the admin endpoint", [("Retry-After", "1")])
            )
        if len(self._connections) > 2 * MAX_CONNECTIONS:
            next(iter(self.refused or self._connections)).make_room()

    def disconnected(self, connection: AdminConnection) -> None:
        """Remove a connection; no effect the second time."""
        self._connections.pop(connection, None)
        self.waiting.pop(connection, None)
        self.refused.pop(connection, None)

    def acceptableProtocols(self) -> list[bytes]:
        """Return the ALPN protocols over TLS; without one, OpenSSL ends the handshakes that offer any."""
        return [b"http/1.1"]

    def end(self) -> None:
        """End all connections, once they have everything written."""
        for connection in tuple(self.connections):
            connection.end()
