"""HTTP requests to a back end: one POST with twisted.web's ``Agent``, with limits on time, size and number.

Importing this module, or making a :class:`Backend`, does not import the reactor: ``--reactor`` may still choose one.
Must not live here: the content of requests and responses (:mod:`wsrelay.validators.http`).
"""

from typing import Final, cast

from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.python.reflect import qual
from twisted.web.client import Agent, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

import wsrelay
from wsrelay.validators.pool import Pool
from wsrelay.validators.queue import FairQueue, QueueFullError

__all__ = ["DEFAULT_CONNECTIONS", "Backend", "BusyError", "NoAnswerError"]

#: The maximum size of an answer in bytes; a grant has a few hundred.
MAX_ANSWER_BYTES: Final = 64 * 1024

#: The default maximum of concurrent questions, each on its connection.
DEFAULT_CONNECTIONS: Final = 64

#: Waiting places per connection.
WAITING_PER_CONNECTION: Final = 16

#: The share of the timeout that a question may wait. With more, an overloaded back end would be asked only questions
#: that expire before its answer.
_WAIT_SHARE: Final = 0.5

#: File descriptors reserved for each connection: a name with several addresses is tried on two at once, and after a
#: reload the old back end's questions are answered beside the new one's.
_DESCRIPTORS_PER_CONNECTION: Final = 2

#: In bytes, as in twisted.web's client: Twisted caches the names, and mixing str and bytes breaks ``python -bb``.
_HEADERS: Final = Headers(
    {
        b"Content-Type": [b"application/json"],
        b"Accept": [b"application/json"],
        b"User-Agent": [f"wsrelay/{wsrelay.__version__}".encode("ascii")],
    }
)


class NoAnswerError(Exception):
    """The back end gave no usable answer. The text is for the log and never quotes the answer."""


class BusyError(NoAnswerError):
    """Too many questions wait, or for too long."""


class Backend:
    """A back end that answers JSON with JSON.

    At most ``connections`` questions are asked at once. Others wait, at most :data:`WAITING_PER_CONNECTION` times as
    many, fair between the clients' networks.

    Args:
        url: http or https, printable ASCII.
        timeout_seconds: from :meth:`ask` to the last byte of the answer, waiting included.
        connections: the maximum number of questions asked at once.
        agent: sends the requests; ``None`` is an agent with persistent connections.
        reactor: for the agent and the timeout; ``None`` is the global one, imported with the first question.

    Attributes:
        descriptors: the maximum number of file descriptors in use.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        connections: int = DEFAULT_CONNECTIONS,
        *,
        agent: IAgent | None = None,
        reactor: IReactorTime | None = None,
    ) -> None:
        self._url = url.encode("ascii")
        self._timeout_seconds = timeout_seconds
        self._connections = connections
        self._queue = FairQueue(connections, connections * WAITING_PER_CONNECTION)
        self.descriptors = connections * _DESCRIPTORS_PER_CONNECTION
        self._agent = agent
        self._reactor = reactor

    async def ask(self, question: bytes, network: str = "") -> tuple[IResponse, bytes]:
        """Post a question. Redirects are not followed.

        Args:
            question: JSON.
            network: of the client; in the queue, networks take turns.

        Returns:
            The response, with any status, and its complete body. A body is accepted as empty only if its end is
            marked, by the status or by a Content-Length of 0: a lost connection looks the same otherwise.

        Raises:
            BusyError: too many questions wait, or this one has waited for half the timeout.
            NoAnswerError: no connection, an incomplete answer, a timeout, or more than :data:`MAX_ANSWER_BYTES`.
            CancelledError: cancelled by the caller; the connection is closed.
        """
        try:
            return await self._answer_in_time(question, network)
        except QueueFullError:
            # One text, so that the log counts one problem: the numbers of the queue change with each question.
            waiting = self._connections * WAITING_PER_CONNECTION
            raise BusyError(f"{waiting} questions wait, the maximum") from None

    async def _answer_in_time(self, question: bytes, network: str) -> tuple[IResponse, bytes]:
        asked = Deferred.fromCoroutine(self._ask(question, network))
        timer = self.clock().callLater(self._timeout_seconds, asked.cancel)
        try:
            return await asked
        except (NoAnswerError, QueueFullError):
            raise
        except Exception as error:  # noqa: BLE001 - an agent may fail in any way
            if not timer.active():
                raise NoAnswerError(f"no answer within {self._timeout_seconds:g} s") from None
            raise _outcome(error) from None
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self, question: bytes, network: str) -> tuple[IResponse, bytes]:
        turn = self._queue.enter(network)
        wait_seconds = self._timeout_seconds * _WAIT_SHARE
        try:
            await turn.addTimeout(wait_seconds, self.clock())
        except defer.TimeoutError:
            raise BusyError(f"no free connection within {wait_seconds:g} s") from None
        try:
            return await self._post(question)
        finally:
            self._queue.leave(network)

    async def _post(self, question: bytes) -> tuple[IResponse, bytes]:
        if self._agent is None:
            pool = Pool(self.clock(), self._connections)
            self._agent = Agent(self.clock(), connectTimeout=self._timeout_seconds, pool=pool)
        response = await self._agent.request(b"POST", self._url, _HEADERS.copy(), _Question(question))
        body = _Body()
        # Read for every status: a connection with an unread answer is neither reused nor closed.
        response.deliverBody(body)
        return response, await body.received

    def clock(self) -> IReactorTime:
        """Return its reactor."""
        if self._reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415 - the import installs a reactor

            self._reactor = cast("IReactorTime", reactor)
        return self._reactor


@implementer(IBodyProducer)
class _Question:
    """A request's body, written in the same turn as the headers, so that both are one TCP segment.

    A second segment would wait for the delayed ACK of the first (TRAPS 1).
    """

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: all is written."""

    def resumeProducing(self) -> None:
        """Do nothing: all is written."""

    def stopProducing(self) -> None:
        """Do nothing: all is written."""


class _Body(Protocol):
    """Collects an answer's body, up to :data:`MAX_ANSWER_BYTES`.

    Attributes:
        received: fires with the body; cancelling it closes the connection.
    """

    def __init__(self) -> None:
        self.received: Deferred[bytes] = Deferred(lambda _: self._close())
        self._collected = b""

    def dataReceived(self, data: bytes) -> None:
        if self.received.called:
            return
        self._collected += data
        if len(self._collected) > MAX_ANSWER_BYTES:
            self.received.errback(NoAnswerError(f"the answer has more than {MAX_ANSWER_BYTES} bytes"))
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.received.called:
            return
        # Without a length, the end of the connection ends the answer. A truncated JSON object does not parse, but an
        # empty body may be a truncated grant that removes rights.
        if reason.check(ResponseDone) or (reason.check(PotentialDataLoss) and self._collected):
            self.received.callback(self._collected)
        else:
            self.received.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _outcome(error: Exception) -> Exception:
    causes = [error, *(failure.value for failure in getattr(error, "reasons", []))]
    # A cancellation raises different errors, depending on the stage; once the request is sent, wrapped ones.
    if any(isinstance(cause, (CancelledError, ConnectingCancelledError)) for cause in causes):
        return CancelledError()
    # Only the names, because the texts quote the answer.
    return NoAnswerError(", ".join(qual(type(cause)) for cause in causes))
