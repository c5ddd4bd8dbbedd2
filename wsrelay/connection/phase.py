"""Phase: the base class of a connection's phases, which handle the peer's bytes and their end. One at a time.

Must not live here: phases with behaviour; each has its own module.
"""

from typing import Any

from twisted.python.failure import Failure

from wsrelay.errors import Denied
from wsrelay.http.linger import half_close
from wsrelay.request import HandshakeRequest

__all__ = ["Ended", "Phase"]


class Phase:
    """The current behaviour of a connection. The base class discards everything; phases override their events.

    Attributes:
        leaves_without_close: whether peers leave by ending TCP, so that it counts as a close by the client.
    """

    __slots__ = ()

    leaves_without_close = False

    @property
    def request(self) -> HandshakeRequest | None:
        """The request that waits for its response, once it is parsed."""
        return None

    @property
    def incoming_bytes(self) -> int:
        """Bytes buffered of incomplete input."""
        return 0

    def receive(self, data: bytes) -> None:
        """Bytes have come; empty after a pause in reading. An exception ends the connection, by its guard."""

    def is_answered_half_closed(self) -> bool:
        """Return whether a peer that ends its half of TCP still gets an answer; else it has left."""
        return False

    def on_deadline(self) -> None:
        """The deadline of an unanswered request has passed."""

    def write_refusal(self, denied: Denied) -> None:
        """Write the response to a refused request, and end."""

    def discard(self) -> None:
        """The last byte is written: free all that is kept of the peer's input."""

    def lost(self, reason: Failure) -> None:
        """TCP has ended."""

    # --- an open connection -------------------------------------------------------------------------

    def ping(self, payload: bytes) -> None:
        """Send a ping."""

    def on_writable(self) -> None:
        """The waiting bytes have been written."""

    def write_close(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write the close frame or the last event, and enter the next stage."""

    # --- frames of the peer, from Autobahn's parser -------------------------------------------------

    def on_frame(self) -> None:
        """A frame begins."""

    def on_message_begin(self) -> None:
        """A message begins."""

    def on_fragment(self) -> None:
        """A data frame begins: a message, or a fragment of one."""

    def on_inflated(self, size_bytes: int) -> None:
        """A part of a message has grown by so much when it was inflated."""

    def on_message(self, payload: bytes, is_binary: bool) -> None:
        """A message is complete; text is valid UTF-8."""

    def on_ping(self, payload: bytes) -> None:
        """A ping has come."""

    def on_pong(self, payload: bytes) -> None:
        """A pong has come."""


class Ended(Phase):
    """The phase after the last written byte: input is discarded.

    Args:
        before: the previous phase, without its buffers; its :meth:`lost` is called at the end of TCP.
        open_half: the transport, if our half of TCP ends when the peer sends something; else ``None``.
    """

    __slots__ = ("_before", "_open_half")

    def __init__(self, before: Phase, open_half: Any = None) -> None:
        self._before = before
        self._open_half = open_half

    def receive(self, data: bytes) -> None:
        """Bytes have come: the reply to a close frame, most likely."""
        open_half, self._open_half = self._open_half, None
        if open_half is not None:
            half_close(open_half)

    def lost(self, reason: Failure) -> None:
        """TCP has ended."""
        self._before.lost(reason)
