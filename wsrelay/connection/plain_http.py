"""A connection whose request is no WebSocket handshake: one HTTP exchange, where such are served.

What is served is :mod:`wsrelay.http.site`'s, how a body is read and a response written :mod:`wsrelay.http.exchange`'s.
Here is only what this means for the connection: until it is answered, an exchange is as a handshake that is not done.
"""

import math
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wsrelay.closecodes import CloseReason
from wsrelay.connection.opening import Opening
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.head import split_head
from wsrelay.request import HandshakeRequest

__all__ = ["PlainHTTP"]


class PlainHTTP(Opening):
    """A connection that may serve one HTTP exchange."""

    _exchange: Any = None  #: the :class:`~wsrelay.http.exchange.Exchange`, once there is one

    @property
    def incoming_bytes(self) -> int:
        """What is kept of what has come in. See :class:`wsrelay.limits.memory.Holder`."""
        return super().incoming_bytes + (0 if self._exchange is None else self._exchange.incoming_bytes)

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """Close. See :meth:`wsrelay.connection.closing.Connection.close`.

        Peer sees:
            Just the end, where it has not asked for anything: browsers open sockets on speculation, and would take a
            503 for the answer to whatever they ask on one of them later.
        """
        has_asked = self.data or self._granting is not None or self._exchange is not None
        if self.state == self.STATE_CONNECTING and not has_asked:
            self.dropConnection()
        else:
            super().close(reason, detail)

    def processHandshake(self) -> None:
        """Take what has come: of a request's head, or of its body."""
        if self._exchange is None:
            super().processHandshake()
            return
        received, self.data = self.data, b""
        try:
            self._exchange.dataReceived(received)
        except Denied as denied:
            self.deny(denied)

    def take_head(self) -> bytes | None:
        """Return the request's head; where it may have a body, that may have come as well."""
        if self.factory.web is None:
            return super().take_head()
        parts = split_head(self.data)
        return None if parts is None else parts[0]

    def ask(self, request: HandshakeRequest) -> "Grant | Deferred[Grant]":
        """Ask the validators, about an exchange as well. See :meth:`wsrelay.connection.opening.Opening.ask`."""
        if self.factory.web is None:
            return super().ask(request)
        if request.wants_websocket:
            super().take_head()  # nothing may have come behind a handshake
            return super().ask(request)
        received, self.data = self.data, b""
        exchange = self._exchange = self.factory.web.exchange(self, request)
        exchange.dataReceived(received)
        return Grant(room=request.room) if exchange.is_public else self.factory.chain.grant(request)

    def begin(self, grant: Grant, request: HandshakeRequest) -> None:
        """Do as granted. A body must have come within ``message_seconds``."""
        if self._exchange is None:
            super().begin(grant, request)
            return
        body_seconds = self.factory.settings.message_seconds or math.inf
        self.set_deadline(self.seconds() + body_seconds, PlainHTTP._body_timeout)
        self._exchange.begin(grant)

    def _body_timeout(self) -> None:
        self.deny(Denied(408, "the body did not come in time", cause="message_seconds"))

    def respond(self, response: bytes) -> None:
        """Write the last that there is to say, and end; where a body is still coming, read it away meanwhile.

        Unread bytes would make TCP overtake the response with a reset. With TLS there are no halves of a connection.
        """
        half_close = getattr(self.transport, "loseWriteConnection", None)
        if self.factory.web is None or half_close is None or ISSLTransport.providedBy(self.transport):
            super().respond(response)
            return
        self.transport.write(response)
        self.state = self.STATE_CLOSED
        half_close()
        self._abort_later()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended."""
        try:
            super().connectionLost(reason)
        finally:
            if self._exchange is not None:
                self._exchange.connectionLost(reason)
