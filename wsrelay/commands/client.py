"""A WebSocket client of one room, on Autobahn, for the commands ``tail`` and ``say``.

Must not live here: URLs and TLS (:mod:`wsrelay.commands.target`), what is done with messages. A connection is::

    connect(…) → Client (opened) → listener.message … → Client.ended: an Ending
"""

import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet import error as errors
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IPushProducer, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from wsrelay import __version__, closecodes
from wsrelay.commands.target import Target
from wsrelay.logs.failures import printable

__all__ = ["Client", "Ending", "connect", "note", "run_reactor"]

#: Exit code after a signal, as of a shell: this and the number of the signal.
_SIGNALLED: Final = 128

#: Time between pings, and for their pongs.
_PING_SECONDS: Final = 20

#: Time for the opening handshake; and for the closing one, before which the relay reads what it has not read yet.
_OPEN_SECONDS: Final = 10
_CLOSE_SECONDS: Final = 60

#: Time for writing a close frame before the reactor stops: it cuts connections without writing what waits.
_LEAVE_SECONDS: Final = 0.1

#: The most bytes of a refusal that are read.
_REFUSAL_BYTES: Final = 16384

#: What to do about an answer that no relay gives.
_OTHER_SERVER: Final = "is this the relay? Another server may have this port"

#: Status of a refusal → what to do, behind the relay's own reason.
_ADVICE: Final = {
    401: "give a token with --token, or in WSRELAY_TOKEN; `wsrelay token` makes one, `wsrelay check-token` explains it",
    403: "another room, --origin or --token may be allowed",
    404: _OTHER_SERVER,
    421: "use the host name that the relay expects",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended.

    Attributes:
        why: for people.
        is_final: whether another try would end the same.
        is_clean: whether it was closed as we had asked: the relay has taken all that we had sent.
        retry_seconds: the least time until another try.
    """

    why: str
    is_final: bool
    is_clean: bool = False
    retry_seconds: int = 0


def _refused(head: bytes, body: bytes) -> Ending:
    line, *fields = head.decode("latin-1").split("\r\n")
    words = line.split(" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
    retry = next((f.partition(":")[2].strip() for f in fields if f.lower().startswith("retry-after:")), "")
    return _refusal(status, body[:200].decode(errors="replace"), int(retry) if retry.isdecimal() else 0)


def _refusal(status: int, reason: str, retry_seconds: int = 0) -> Ending:
    advice = _ADVICE.get(status, "" if status >= 400 else _OTHER_SERVER)
    said = "; ".join(filter(None, [f"refused: {status} {reason}".strip(), advice]))
    return Ending(said, not closecodes.for_status(status, reason).reconnect, retry_seconds=retry_seconds)


def _closed(code: int, reason: str) -> Ending:
    rows = [row for row in closecodes.TABLE if row.code == code and reason.startswith(row.text)]
    if not rows and (status := closecodes.status_of(code)):  # --explain-refusals
        return _refusal(status, reason)
    is_final = any(not row.reconnect or row is closecodes.EXPIRED for row in rows)
    return Ending(f"closed: {code} {reason}".rstrip(), is_final)


def _failed(error: BaseException) -> Ending:
    """Return the end of a connection that had not become a WebSocket."""
    if isinstance(error, VerificationError):
        return Ending("the certificate is not for this host; use a name that is in it", is_final=True)
    if isinstance(error, TLSError):
        said = "; ".join(str(each[-1]) for each in error.args[0])
        hint = (
            "that port has no TLS: ws://" if "version number" in said else "--ca FILE trusts a self-signed certificate"
        )
        return Ending(f"TLS failed: {said}; {hint}", is_final=True)
    if isinstance(error, errors.ConnectionDone | errors.ConnectionLost):
        return Ending("no connection: it ended in the handshake; if that port has TLS, write wss://", is_final=False)
    hint = " Is the relay running?" * isinstance(error, errors.ConnectionRefusedError)
    return Ending(f"no connection: {error}{hint}", is_final=False)


@implementer(IPushProducer)
class Client(WebSocketClientProtocol):
    """One connection.

    Attributes:
        ended: fires with the :class:`Ending`.
    """

    factory: "_Factory"

    def __init__(self) -> None:
        super().__init__()
        self.ended: Deferred[Ending] = Deferred()
        self._ending: Ending | None = None
        self._lost: BaseException = errors.ConnectionLost()
        self._is_open = self._is_finishing = False
        self._waiting: Deferred[None] | None = None

    def send(self, text: str) -> "Deferred[None]":
        """Send a text message.

        Returns:
            Fires when more may be sent.
        """
        self.sendMessage(text.encode())
        return self._waiting or succeed(None)

    def finish(self) -> "Deferred[Ending]":
        """Close; the end is clean when the relay has taken all that was sent before."""
        self._is_finishing = True
        self.sendClose(self.CLOSE_STATUS_CODE_NORMAL)
        return self.ended

    def processHandshake(self) -> None:
        """Take the response; a refusal is read to its end."""
        head, complete, body = self.data.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 101") or not (complete or len(head) > _REFUSAL_BYTES):
            super().processHandshake()
        elif len(body) >= _length(head):
            self._ending = _refused(head, body)
            self.dropConnection(abort=True)

    def onOpen(self) -> None:
        """Note that it is a WebSocket now. See Autobahn for this and the next four."""
        self._is_open = True
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]  # of TCP and TLS
        self.factory.reactor.addSystemEventTrigger("before", "shutdown", self._leave)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; with a close behind the response it has never opened (``--explain-refusals``)."""
        super().dataReceived(data)
        if self._is_open and not self.factory.opened.called and self.state == self.STATE_OPEN:
            self.factory.opened.callback(self)

    def _leave(self) -> "Deferred[None]":
        """Close because of Ctrl-C; fires when the close frame has had time to be written."""
        self.sendClose()
        return deferLater(self.factory.reactor, _LEAVE_SECONDS)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass a message on."""
        self.factory.on_message(payload, isBinary)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note why."""
        self._lost = reason.value or self._lost
        super().connectionLost(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Say how it ended."""
        if self._ending is None and not self._is_open:
            self._ending = _failed(self._lost)
        elif self._ending is None:
            ending = _closed(code or closecodes.NO_CODE, reason or "")
            self._ending = Ending(
                ending.why, ending.is_final, wasClean and self._is_finishing and code == self.localCloseCode
            )
        self.resumeProducing()
        self.ended.callback(self._ending)
        if not self.factory.opened.called:
            self.factory.opened.callback(self)

    def pauseProducing(self) -> None:
        """Hold the sender: the relay does not take more at present."""
        self._waiting = Deferred()

    def resumeProducing(self) -> None:
        """Let the sender go on."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the end of the connection says it."""


def _length(head: bytes) -> int:
    """Return the bytes of a body by its Content-Length, 0 without one."""
    lines = head.lower().split(b"\r\n")
    values = [line.partition(b":")[2].strip() for line in lines if line.startswith(b"content-length:")]
    return min(int(values[0]), _REFUSAL_BYTES) if values and values[0].isdigit() else 0


class _Factory(WebSocketClientFactory):
    """Makes one client, and has what it needs."""

    protocol = Client  # type: ignore[assignment]  # Twisted's annotation
    noisy = False

    def __init__(self, target: Target, reactor: Any, on_message: Callable[[bytes, bool], None]) -> None:
        super().__init__(
            target.url, target.origin, headers=target.headers, useragent=f"wsrelay/{__version__}", reactor=reactor
        )
        self.setProtocolOptions(
            openHandshakeTimeout=_OPEN_SECONDS,
            closeHandshakeTimeout=_CLOSE_SECONDS,
            autoPingInterval=_PING_SECONDS,
            autoPingTimeout=_PING_SECONDS,
        )
        self.opened: Deferred[Client] = Deferred()
        self.on_message = on_message


async def connect(
    reactor: Any,  # Any: several interfaces at once
    target: Target,
    on_message: Callable[[bytes, bool], None] = lambda _payload, _is_binary: None,
    endpoint: IStreamClientEndpoint | None = None,
) -> Client | Ending:
    """Connect to a room.

    Args:
        reactor: the reactor.
        target: the room.
        on_message: called with each message, and whether it is binary.
        endpoint: where to connect, instead of the target's own.

    Returns:
        The open connection, or why there is none.
    """
    factory = _Factory(target, reactor, on_message)
    try:
        await (endpoint or target.endpoint(reactor)).connect(factory)
    except Exception as error:  # noqa: BLE001 - no such host, refused, no such file, no certificate in it
        return _failed(error)
    client = await factory.opened
    return await client.ended if client.ended.called else client


def note(text: str) -> None:
    """Print a line for people on standard error, if it can be written."""
    with suppress(OSError):
        print(f"* {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201


def run_reactor(work: Callable[[Any], Coroutine[Any, Any, int]]) -> int:
    """Run the reactor until some work is done, or until Ctrl-C or SIGTERM.

    Args:
        work: called with the reactor; returns the exit code.

    Returns:
        The exit code.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - it is chosen here

    outcomes: list[Any] = []

    def start() -> None:
        done = Deferred.fromCoroutine(work(reactor))
        reactor.addSystemEventTrigger("before", "shutdown", done.cancel)
        done.addBoth(outcomes.append).addCallback(lambda _: reactor.callLater(0, _stop, reactor))

    reactor.callWhenRunning(start)
    reactor.run()
    outcome = outcomes[-1] if outcomes else Failure(CancelledError())
    if isinstance(outcome, Failure):
        outcome.trap(CancelledError)  # raises any other
        # As twistd has it; there is no public name (canary: test_signals).
        return _SIGNALLED + (reactor._exitSignal or signal.SIGINT)  # type: ignore[attr-defined]
    return int(outcome)


def _stop(reactor: Any) -> None:
    with suppress(errors.ReactorNotRunning):  # Ctrl-C was first
        reactor.stop()
