"""Pool: connections to a back end, kept alive between questions, without log lines of Twisted's client.

Must not live here: how many questions are asked at once (:mod:`wsrelay.validators.queue`), timeouts
(:mod:`wsrelay.validators.backend`).
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, INegotiated, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger, LogPublisher
from twisted.web._newclient import HTTP11ClientProtocol, Request  # not in the public module's __all__
from twisted.web.client import HTTPConnectionPool, ResponseNeverReceived, _HTTP11ClientFactory
from twisted.web.iweb import IResponse

__all__ = ["IDLE_SECONDS", "Pool"]

#: Seconds after which an idle connection is closed: below the 5 seconds of Node.js and uvicorn, so that the back end
#: seldom closes one that is about to be used; and soon after a reload, which makes a new pool.
IDLE_SECONDS: Final = 4

#: The parser's own logs a line for each interim answer (1xx), which some proxies send to each question (TRAPS 127).
_NO_LOG: Final = Logger(namespace="wsrelay", observer=LogPublisher())


class _Connection(HTTP11ClientProtocol):
    """One connection.

    Attributes:
        connect_again: makes a new one.
    """

    connect_again: "Callable[[], Deferred[HTTP11ClientProtocol]]"
    _is_kept = False

    def connectionMade(self) -> None:
        super().connectionMade()
        if INegotiated.providedBy(self.transport):  # TLS: loseConnection may wait for close_notify for ever (TRAPS 26)
            vars(self.transport)["loseConnection"] = self.transport.abortConnection

    def request(self, request: Request) -> "Deferred[IResponse]":
        is_kept, self._is_kept = self._is_kept, True
        return Deferred.fromCoroutine(self._ask_twice(request)) if is_kept else self._ask(request)

    def _ask(self, request: Request) -> "Deferred[IResponse]":
        answering = super().request(request)
        if self._parser is not None:  # else the connection has ended
            vars(self._parser)["_log"] = _NO_LOG
        return answering

    async def _ask_twice(self, request: Request) -> IResponse:
        try:
            return await self._ask(request)
        except ResponseNeverReceived as error:  # not a byte of it (TRAPS 105)
            if any(why.check(CancelledError) for why in error.reasons):
                raise
        fresh = await self.connect_again()
        return await fresh.request(request)


class _Factory(_HTTP11ClientFactory):
    """Makes connections; Twisted's own logs two lines for each."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        return _Connection(self._quiescentCallback)


class Pool(HTTPConnectionPool):
    """Connections to a back end.

    A question on a kept connection that ends without a byte of an answer is asked again, once, on a new connection: the
    back end had closed it. Twisted does that for requests without a body only (TRAPS 105).

    Args:
        reactor: for the time of idle connections.
        connections: the maximum number of idle connections.
    """

    retryAutomatically = False
    cachedConnectionTimeout = IDLE_SECONDS
    _factory = _Factory

    def __init__(self, reactor: IReactorTime, connections: int) -> None:
        super().__init__(reactor)
        self.maxPersistentPerHost = connections

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> "Deferred[HTTP11ClientProtocol]":
        """Return a kept or a new connection. See :class:`twisted.web.client.HTTPConnectionPool`."""

        def prepared(connection: HTTP11ClientProtocol) -> HTTP11ClientProtocol:
            if isinstance(connection, _Connection):
                connection.connect_again = partial(self._newConnection, key, endpoint)
            return connection

        return super().getConnection(key, endpoint).addCallback(prepared)
