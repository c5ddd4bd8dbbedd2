"""One HTTP exchange on a connection of the relay: a request that passed the gate, its body, its response.

twisted.web reads the body and writes the response. What it gets to see has passed the same gate as a handshake, and it
writes through the connection, whose deadlines, guards and end are those of any other. What is answered is
:mod:`wsrelay.http.site`'s.

One request per connection: what follows it is not read, so that there is nothing to smuggle.
"""

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Final

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.request import HandshakeRequest

__all__ = ["Exchange", "HTTPRequest"]

#: What a body may be longer on the wire than it is, for its chunks.
_CHUNKS_BYTES: Final = 65536

#: Answers a request whose body has come; raises :class:`~wsrelay.errors.Denied` to refuse it.
Answer = Callable[["Exchange", "HTTPRequest"], None]


class Exchange:
    """One request and its response.

    Args:
        connection: the :class:`wsrelay.connection.protocol.RelayProtocol` on which it came.
        request: what passed the gate.
        answer: answers it.
        max_body_bytes: the longest body. Longer: 413.
        is_public: whether the validators need not be asked.

    Attributes:
        connection: the same.
        request: the same.
        is_public: the same.
        grant: what the validators granted; set before it is answered.
    """

    grant: Grant

    def __init__(
        self,
        connection: Any,
        request: HandshakeRequest,
        answer: Answer,
        max_body_bytes: int,
        *,
        is_public: bool = False,
    ) -> None:
        self.connection = connection
        self.request = request
        self.is_public = is_public
        self._answer = answer
        self._max_body_bytes = max_body_bytes
        self._channel: _Channel | None = None
        self._waiting = b""
        self._read_bytes = 0

    @property
    def incoming_bytes(self) -> int:
        """What is kept of its body. See :class:`wsrelay.limits.memory.Holder`."""
        return self._read_bytes

    def receive(self, data: bytes) -> None:
        """Take more of the request: it waits until it is granted.

        Raises:
            Denied: 413, that is too much.
        """
        self._read_bytes += len(data)
        if self._read_bytes > 2 * self._max_body_bytes + _CHUNKS_BYTES:
            self.refuse_body()
        if self._channel is None:
            self._waiting += data
        else:
            self._channel.dataReceived(data)

    def begin(self, grant: Grant) -> None:
        """The request is granted: let twisted.web read it, and answer when its body has come."""
        self.grant = grant
        self._channel = _Channel(self)
        self._channel.makeConnection(_Line(self.connection))
        waiting, self._waiting = self._waiting, b""
        self._channel.dataReceived(waiting)

    def answer(self, request: "HTTPRequest") -> None:
        """Answer, or refuse; whatever fails here ends this connection and no other."""
        try:
            self._answer(self, request)
        except Denied as denied:
            self.connection.deny(denied)
        except Exception as error:  # noqa: BLE001 - the guard of all callbacks
            self.connection.fail(error)

    def check_size(self, size_bytes: int) -> None:
        """Raise ``Denied`` for a body that is longer than may be."""
        if size_bytes > self._max_body_bytes:
            self.refuse_body()

    def refuse_body(self) -> None:
        """Raise ``Denied``: the body is too long."""
        raise Denied(413, f"a message may have {self._max_body_bytes} bytes at most", cause="max_message_bytes")

    def lost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended."""
        if self._channel is not None:
            self._channel.connectionLost(reason)


class HTTPRequest(Request):
    """twisted.web's request, for one exchange."""

    content: Any

    def __init__(self, exchange: Exchange, channel: Any) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self._exchange = exchange

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory, which is bounded; Twisted's own would write a long one to the disk."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep some more of the body, if it is not too long."""
        self._exchange.check_size(self.content.tell() + len(data))
        super().handleContentChunk(data)

    def process(self) -> None:
        """The request is complete."""
        self._exchange.answer(self)

    def respond(self, status: int, fields: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send a response, whole."""
        self.head(status, [*fields, ("Content-Length", str(len(body)))])
        self.write(body)
        self.finish()

    def head(self, status: int, fields: Iterable[tuple[str, str]]) -> None:
        """Set the head of the response, which is sent with the first part of its body."""
        self.setResponseCode(status)
        for name, value in fields:
            self.setHeader(name, value)


class _Channel(HTTPChannel):
    """twisted.web's side of an exchange: one request, without deadlines, which the connection has."""

    timeOut = None

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self.requestFactory: Any = lambda channel, *_: HTTPRequest(exchange, channel)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """Let the response be the last. See :meth:`twisted.web.http.HTTPChannel.checkPersistence`."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False


class _Line:
    """A connection as the transport of a channel: written to in its own way, or what follows would overtake it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.getPeer = connection.transport.getPeer
        self.getHost = connection.transport.getHost

    @property
    def disconnecting(self) -> bool:
        ended: bool = self._connection.state == self._connection.STATE_CLOSED
        return ended

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    def writeSequence(self, parts: Iterable[bytes]) -> None:
        self._connection.write(b"".join(parts))

    def loseConnection(self) -> None:
        self._connection.dropConnection()
