"""One connection to the server as bytes that a coroutine awaits.

Must not live here: HTTP (:mod:`wsrelay.selftest.answer`), frames (:mod:`wsrelay.selftest.reader`).
"""

from collections.abc import Callable
from typing import Any, Final

from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import Deferred, TimeoutError, succeed  # noqa: A004 - its own
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from wsrelay.selftest.outcome import Silence

__all__ = ["Connection"]

#: What is kept until it is awaited.
_MOST_UNREAD_BYTES: Final = 2**22


class Connection(Protocol):
    """A connection. What comes is kept until it is awaited; beyond a bound, or while it is held, TCP holds the server.

    Args:
        who: the client's name, for texts.
        clock: the clock of timeouts.
        patience_seconds: how long :meth:`read` waits.

    Attributes:
        has_ended: whether the server, or this side, has ended it.
        trouble: why it has ended, unless cleanly: TLS, a reset, and so on.
        take: gets what comes while nobody awaits anything; ``None``: it is kept.
    """

    def __init__(self, who: str, clock: IReactorTime, patience_seconds: float) -> None:
        self.who = who
        self.has_ended = False
        self.trouble = ""
        self.take: Callable[[bytes], object] | None = None
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._unread = bytearray()
        self._unasked_bytes = 0
        self._is_held = False
        self._arrival: Deferred[None] = succeed(None)

    @property
    def _transport(self) -> Any:
        return self.transport

    def write(self, data: bytes) -> None:
        """Send bytes; without effect once it has ended."""
        self._transport.write(data)

    async def read(self, seconds: float | None = None) -> bytes:
        """Return what has come, as soon as anything has; empty at the end.

        Args:
            seconds: how long to wait; ``None`` is the usual time.

        Raises:
            Silence: nothing has come.
        """
        self._unasked_bytes = 0
        if self._is_held:
            self._is_held = False
            self._transport.resumeProducing()
        if not self._unread and not self.has_ended:
            await self._wait(self._patience_seconds if seconds is None else seconds)
        data = bytes(self._unread)
        self._unread.clear()
        return data

    async def _wait(self, seconds: float) -> None:
        arrival = self._arrival = Deferred()
        arrival.addTimeout(seconds, self._clock)
        try:
            await arrival
        except TimeoutError:
            raise Silence(f"nothing came to the {self.who} for {seconds:g} s") from None

    def hold(self) -> None:
        """Read nothing until the next :meth:`read`."""
        self._is_held = True
        self._transport.pauseProducing()

    def abort(self) -> None:
        """End TCP at once."""
        if not self.has_ended:
            self._transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Keep the bytes, and wake who waits for them."""
        self._unasked_bytes += len(data)
        if self._unasked_bytes > _MOST_UNREAD_BYTES:
            self.hold()
        if self.take is not None and self._arrival.called:
            self.take(data)
        else:
            self._unread += data
            self._wake()

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008 - Twisted's own default
        """Wake who waits."""
        self.has_ended = True
        if not reason.check(ConnectionDone):
            self.trouble = _text(reason)
        self._wake()

    def _wake(self) -> None:
        if not self._arrival.called:
            self._arrival.callback(None)


def _text(reason: Failure) -> str:
    if reason.check(TLSError):  # a list of OpenSSL's errors, each with its text last
        return "; ".join(str(error[-1]) for error in reason.value.args[0])  # type: ignore[union-attr]
    return reason.getErrorMessage()
