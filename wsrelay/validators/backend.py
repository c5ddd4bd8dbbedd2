"""Asking a back end: one POST with twisted.web's ``Agent``, and its answer within bounds of time and size.

What is asked, and what an answer means, is not decided here but by who asks (:mod:`wsrelay.validators.http`).
Importing this module, or making a :class:`Backend`, does not import the reactor: ``--reactor`` may still choose one.
"""

from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.python.reflect import qual
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

import wsrelay

__all__ = ["Backend", "NoAnswerError"]

#: The most bytes of an answer; a grant has a few hundred.
MAX_ANSWER_BYTES: Final = 64 * 1024

#: Connections to the back end that are kept open while no one needs them.
MAX_IDLE_CONNECTIONS: Final = 16

#: In bytes, as the client's own: names of both kinds in one process break ``python -bb`` (Twisted caches them).
_HEADERS: Final = Headers(
    {
        b"Content-Type": [b"application/json"],
        b"Accept": [b"application/json"],
        b"User-Agent": [f"wsrelay/{wsrelay.__version__}".encode("ascii")],
    }
)


class NoAnswerError(Exception):
    """The back end gave no answer, or none of use; the text is for the log and quotes nothing that it sent."""


class Backend:
    """A back end that answers JSON with JSON.

    Args:
        url: where to, http or https, printable ASCII.
        timeout_seconds: from the first byte of the question to the last of the answer.
        agent: sends the questions; ``None`` is one of our own, which keeps connections open.
        reactor: for the agent and the timeout; ``None`` is the global one, imported with the first question.
    """

    def __init__(self, url: str, timeout_seconds: float, *, agent: IAgent | None = None, reactor: Any = None) -> None:
        self._url = url.encode("ascii")
        self._timeout_seconds = timeout_seconds
        self._agent = agent
        self._reactor = reactor

    async def ask(self, question: bytes) -> tuple[IResponse, bytes]:
        """Post a question. Redirects are not followed.

        Args:
            question: JSON.

        Returns:
            The response, whatever its status, and its body. An empty body is empty for sure: its end is marked,
            by the status or by a Content-Length of 0; a broken connection would look the same.

        Raises:
            NoAnswerError: the back end cannot be reached, breaks off, is too late, or answers with more than
                :data:`MAX_ANSWER_BYTES`.
            CancelledError: this was cancelled; the connection is closed.
        """
        asked = Deferred.fromCoroutine(self._ask(question))
        timer = self._clock().callLater(self._timeout_seconds, asked.cancel)
        try:
            return await asked
        except NoAnswerError:
            raise
        except Exception as error:  # noqa: BLE001 - an agent may fail in any way
            if not timer.active():
                raise NoAnswerError(f"no answer within {self._timeout_seconds:g} s") from None
            raise _outcome(error) from None
        finally:
            if timer.active():
                timer.cancel()

    async def _ask(self, question: bytes) -> tuple[IResponse, bytes]:
        if self._agent is None:
            pool = HTTPConnectionPool(self._clock())
            pool.maxPersistentPerHost = MAX_IDLE_CONNECTIONS
            self._agent = Agent(self._clock(), connectTimeout=self._timeout_seconds, pool=pool)
        response = await self._agent.request(b"POST", self._url, _HEADERS.copy(), _Question(question))
        body = _Body()
        # Read whatever the status is: a connection with an unread answer is never used again, nor closed.
        response.deliverBody(body)
        return response, await body.received

    def _clock(self) -> Any:
        if self._reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415 - importing it installs one

            self._reactor = reactor
        return self._reactor


@implementer(IBodyProducer)
class _Question:
    """A request's body, written in the same turn as the headers, so that both go out in one piece.

    In two, the second would wait for the back end's delayed ACK of the first (TRAPS 1).
    """

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to write."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


class _Body(Protocol):
    """Collects an answer's body, and gives up when it is too big.

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
        # Without a length, the end of the connection ends the answer. Half of a JSON object shows, but
        # nothing may have been the beginning of a grant that takes rights away.
        if reason.check(ResponseDone) or (reason.check(PotentialDataLoss) and self._collected):
            self.received.callback(self._collected)
        else:
            self.received.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _outcome(error: Exception) -> Exception:
    causes = [error, *(failure.value for failure in getattr(error, "reasons", []))]
    # What a cancellation comes out as depends on how far the request got; wrapped once it has been sent.
    if any(isinstance(cause, (CancelledError, ConnectingCancelledError)) for cause in causes):
        return CancelledError()
    # The names only, because the texts quote what the back end sent.
    return NoAnswerError(", ".join(qual(type(cause)) for cause in causes))
