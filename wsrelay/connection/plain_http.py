"""PlainHTTP: the phase between the grant of a plain HTTP request and its response.

Must not live here: the content of responses (:mod:`wsrelay.http.site`), reading bodies and writing responses
(:mod:`wsrelay.http.exchange`).
"""

from twisted.python.failure import Failure

from wsrelay.connection.host import Host
from wsrelay.connection.phase import Phase
from wsrelay.connection.reading import end_turn
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.exchange import Exchange
from wsrelay.request import HandshakeRequest
from wsrelay.wanted import Wanted

__all__ = ["PlainHTTP"]


class PlainHTTP(Phase):
    """One HTTP exchange.

    Args:
        host: the connection.
        exchange: the request, with the first bytes of its body.
        kept_bytes: the cost of its parsed head.
    """

    __slots__ = ("_exchange", "_host", "_kept_bytes")

    def __init__(self, host: Host, exchange: Exchange, kept_bytes: int) -> None:
        self._host = host
        self._exchange = exchange
        self._kept_bytes = kept_bytes

    @property
    def request(self) -> HandshakeRequest:
        """The request."""
        return self._exchange.request

    @property
    def incoming_bytes(self) -> int:
        """Bytes kept of the head, and buffered of the body."""
        return self._kept_bytes + self._exchange.incoming_bytes

    def begin(self, grant: Grant, wanted: Wanted) -> None:
        """The request is granted. See :meth:`wsrelay.http.exchange.Exchange.begin`."""
        self._exchange.begin(grant, wanted)
        self._end_turn()

    def receive(self, data: bytes) -> None:
        """Take more of the body."""
        try:
            self._exchange.receive(data)
            self._host.factory.memory.grow(self._host, len(data))
        except Denied as denied:
            self._host.deny(denied)
        self._end_turn()

    def _end_turn(self) -> None:
        """Leave chunks that are not decoded to a later turn."""
        if self._exchange.is_behind and self._host.phase is self:
            end_turn(self._host)

    def is_answered_half_closed(self) -> bool:
        """Return whether a whole POST was published, and its answer waits for the id."""
        return self._exchange.is_waiting

    def on_deadline(self) -> None:
        """Refuse: the body is late. Or the id is: answer without it."""
        if not self._exchange.give_up():
            self._host.deny(Denied(408, "the body did not come in time", cause="message_seconds"))

    def write_refusal(self, denied: Denied) -> None:
        """Write the response to the refused request, and end; 202 where it was published already."""
        if not self._exchange.give_up():
            self._host.respond(self._exchange.refusal(denied))

    def discard(self) -> None:
        """Free the head and the body."""
        self._kept_bytes = 0
        self._exchange.discard()

    def lost(self, reason: Failure) -> None:
        """TCP has ended."""
        self._exchange.lost(reason)
