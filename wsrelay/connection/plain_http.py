"""PlainHTTP: the phase of a connection whose request was plain HTTP, is granted, and is not answered yet.

Must not live here: what is served (:mod:`wsrelay.http.site`), how a body is read and a response written
(:mod:`wsrelay.http.exchange`).
"""

from twisted.python.failure import Failure

from wsrelay.connection.host import Host
from wsrelay.connection.phase import Phase
from wsrelay.errors import Denied
from wsrelay.http.exchange import Exchange

__all__ = ["PlainHTTP"]


class PlainHTTP(Phase):
    """One HTTP exchange.

    Args:
        host: the connection.
        exchange: the request, with what has come of its body.
    """

    __slots__ = ("_exchange", "_host")

    def __init__(self, host: Host, exchange: Exchange) -> None:
        self._host = host
        self._exchange = exchange

    @property
    def incoming_bytes(self) -> int:
        """Bytes kept of the body."""
        return self._exchange.incoming_bytes

    def receive(self, data: bytes) -> None:
        """Take more of the body."""
        try:
            self._exchange.receive(data)
        except Denied as denied:
            self._host.deny(denied)

    def on_deadline(self) -> None:
        """Refuse: the body is late."""
        self._host.deny(Denied(408, "the body did not come in time", cause="message_seconds"))

    def lost(self, reason: Failure) -> None:
        """TCP has ended."""
        self._exchange.lost(reason)
