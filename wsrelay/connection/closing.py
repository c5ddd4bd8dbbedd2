"""One WebSocket connection's life: what Autobahn's protocol lacks to be trusted with strangers.

One deadline instead of timers, one way to close, one way to refuse, one guard around callbacks. Rooms and
validators must not appear here: they are :class:`wsrelay.connection.protocol.RelayProtocol`'s, which builds on this::

    state        began by          its deadline                            ends with
    CONNECTING   connectionMade    the request must be complete            succeedHandshake or deny
    OPEN         succeedHandshake  the subclass's (pings, expiry)          close, or the peer's close
    CLOSING      sendCloseFrame    the peer must have answered             dropConnection
    CLOSED       dropConnection    TCP must have ended, or it is aborted   connectionLost

Autobahn's own timers stay off: they are floored to whole seconds and fire in one instant for all (TRAPS 29).
Many names are taken by Autobahn: an attribute of ours with an option's name overrides the option (TRAPS 31).
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection.autobahn import AutobahnProtocol
from wsrelay.connection.context import Relay
from wsrelay.errors import Denied
from wsrelay.http.responses import refusal
from wsrelay.logs.failures import log_failure
from wsrelay.wire import frames

__all__ = ["Connection"]

#: The most characters of a client's own words in a log line.
LOG_CHARS: Final = 80


class Connection(AutobahnProtocol):
    """One connection. Made by :class:`wsrelay.factory.RelayFactory`, which calls :meth:`on_deadline`.

    Attributes:
        number: its number in this process, counted from 1; set when TCP begins.
        deadline: when :meth:`on_deadline` is due, in the reactor's seconds; infinite for never.
    """

    factory: Relay
    number: int
    _isMessageCompressed: bool

    def __init__(self) -> None:
        super().__init__()
        self.deadline = math.inf
        self._action: Callable[[Any], None] = type(self)._abort

    # --- the deadline -----------------------------------------------------------------------------

    def set_deadline(self, when: float, action: "Callable[[Self], None]") -> None:
        """Replace the deadline.

        Args:
            when: in the reactor's seconds.
            action: a method of this class, called with this connection; it sets the next deadline or ends
                the connection.
        """
        self.deadline = when
        self._action = action

    def on_deadline(self) -> None:
        """The deadline has passed: do what was to be done then, once."""
        self.deadline = math.inf
        self._action(self)

    def seconds(self) -> float:
        """Return the reactor's time."""
        now: float = self.factory.reactor.seconds()
        return now

    # --- what Twisted calls -----------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A client has connected; its request must be complete within ``handshake_seconds``."""
        super().connectionMade()
        self.number = next(self.factory.numbers)
        self.factory.connected(self)
        self.set_deadline(self.seconds() + self.factory.settings.handshake_seconds, Connection._handshake_timeout)

    def dataReceived(self, data: bytes) -> None:
        """Parse; whatever our code or an extension raises on the way ends this connection and no other.

        Autobahn's own method formats a line for the log on each read (TRAPS 5), and buffers what comes after the end.
        """
        if self.state == self.STATE_CLOSED:
            return
        try:
            self._dataReceived(data)
        except Exception as error:  # noqa: BLE001 - the guard of all callbacks: else the peer sees 1006 (TRAPS 27)
            self.fail(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended. Also called for connections that never opened (TRAPS 27)."""
        try:
            self.leave()
            super().connectionLost(reason)
        finally:
            self.factory.disconnected(self)

    # --- ends -------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The first sign of closing: leave whatever the subclass has joined. Called more than once."""

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """Close the connection, in whatever state it is; the only way in which the relay does.

        Peer sees:
            A close frame with the row's code and reason; 503 while its handshake is not done.
        """
        if self.state == self.STATE_CONNECTING:
            self.deny(Denied(503, reason.text, [("Retry-After", "10")], cause=f"close_{reason.code}"))
        elif self.state == self.STATE_OPEN:
            self.factory.stats.closes_sent[reason.code] += 1
            # Not sendClose: it takes 1000 and 3000-4999 only (TRAPS 23).
            self.sendCloseFrame(reason.code, reason.reason_bytes(detail))

    def reject(self, reason: CloseReason, detail: str = "") -> None:
        """Close because of what the peer sent, and discard all that it still sends.

        Reading goes on until it answers or the deadline passes: unread bytes would make TCP overtake the close
        frame with a reset.
        """
        self.failedByMe = True
        self.close(reason, detail)

    def deny(self, denied: Denied) -> None:
        """Refuse the handshake; nothing happens if it is done.

        Peer sees:
            The HTTP response, then the end of the connection.
        """
        if self.state != self.STATE_CONNECTING:
            return
        cause = denied.cause or "malformed"
        self.factory.stats.handshakes_denied[denied.status, cause] += 1
        self.factory.lines.add_refusal(
            connection=self.number,
            peer=self.peer,
            status=denied.status,
            cause=cause,
            reason=str(denied.reason)[:LOG_CHARS],
        )
        self.respond(refusal(denied))

    def respond(self, response: bytes) -> None:
        """Write the last that there is to say, and end."""
        self.transport.write(response)
        self.dropConnection()

    def fail(self, error: Failure | Exception) -> None:
        """A bug, ours or an extension's: log it, and end this connection.

        Args:
            error: what was raised.

        Peer sees:
            500 during the handshake, then 1011, each with a fixed text and the id of the line in the log; the end of
            TCP where a close was on its way already.
        """
        self.factory.stats.failures += 1
        failure = error if isinstance(error, Failure) else Failure(error)
        incident = log_failure(f"a callback failed on the connection of {self.peer}", failure)
        try:
            if self.state == self.STATE_CONNECTING:
                self.deny(Denied(500, f"internal error: {incident}", cause="failure"))
            elif self.state == self.STATE_OPEN:
                self.reject(closecodes.INTERNAL_ERROR, incident)
            else:
                self._abort()
        except Exception:  # noqa: BLE001 - not even a polite end works
            with suppress(Exception):
                self._abort()

    def _handshake_timeout(self) -> None:
        self.deny(Denied(408, "the request did not come in time", cause="handshake_seconds"))

    def _abort(self) -> None:
        self.transport.abortConnection()

    # --- ends that Autobahn begins ----------------------------------------------------------------
    # Overridden internals; tests/test_connection.py has a canary for each.

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        """Autobahn refuses, with a reason that may hold the client's words. Peer sees: 400 and a fixed text."""
        self.deny(Denied(400, "the handshake is malformed", cause="malformed"))

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Autobahn's parser found a violation: close with the table's row for it.

        Autobahn ends TCP at the second one, but text that is not UTF-8 counts as two, and the reset would
        overtake the close frame. Here the rest is discarded until the deadline.
        """
        self.reject(closecodes.for_code(code), reason)

    def onFrameData(self, payload: bytes) -> bool | None:
        """Discard what comes after a violation, but for the peer's close frame.

        Autobahn guards data frames only: an illegal ping of 2^40 bytes would be collected, further deflate bombs
        inflated, and a frame that does not inflate never be finished.
        """
        frame = self.current_frame
        if self.failedByMe and not (frame.opcode == frames.CLOSE and frame.length <= frames.MAX_CONTROL_BYTES):
            self._isMessageCompressed = False
            return None
        outcome: bool | None = super().onFrameData(payload)
        return outcome

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Send a close frame, ours or a reply; the connection leaves its room first.

        A reply echoes the peer's code, or its lack of one (RFC 6455 section 5.5.1); Autobahn answers 1000.
        """
        self.leave()
        if isReply:
            code = self.remoteCloseCode
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._abort_later()

    def dropConnection(self, abort: bool = False) -> None:
        """End TCP. After a clean close with FIN: Autobahn's reset could overtake the last frames.

        The deadline is for peers that do not read, or never answer TLS's close_notify (TRAPS 26).
        """
        self.leave()
        super().dropConnection(abort and not self.wasClean)
        self._abort_later()

    def _abort_later(self) -> None:
        self.set_deadline(self.seconds() + self.factory.settings.close_seconds, Connection._abort)
