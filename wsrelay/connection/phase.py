"""Phase: what the bytes of a peer mean to its connection, and what their end means. One at a time.

Must not live here: the phases that do something; each has a module of its own.
"""

from twisted.python.failure import Failure

__all__ = ["Ended", "Phase"]


class Phase:
    """What a connection does now. This one discards everything; others override what they take part in.

    Attributes:
        leaves_without_close: whether a peer that has enough just ends TCP, so that this is no loss.
    """

    __slots__ = ()

    leaves_without_close = False

    @property
    def incoming_bytes(self) -> int:
        """Bytes kept of what is incomplete."""
        return 0

    def receive(self, data: bytes) -> None:
        """Bytes have come; empty after a pause in reading. May raise: the connection's guard ends it then."""

    def on_deadline(self) -> None:
        """The deadline of an unanswered request has passed."""

    def lost(self, reason: Failure) -> None:
        """TCP has ended."""

    # --- an open connection -------------------------------------------------------------------------

    def ping(self, payload: bytes) -> None:
        """Make the peer show that it is there."""

    def on_writable(self) -> None:
        """What waited to be written has been written."""

    def write_close(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write the last that the peer gets, and take the next stage."""

    # --- frames of the peer, by the parser of Autobahn ----------------------------------------------

    def on_frame(self) -> None:
        """A frame begins."""

    def on_message_begin(self) -> None:
        """A message begins."""

    def on_fragment(self) -> None:
        """A data frame begins: a message, or a fragment of one."""

    def on_message(self, payload: bytes, is_binary: bool) -> None:
        """A message is complete; text is valid UTF-8."""

    def on_ping(self, payload: bytes) -> None:
        """A ping has come."""

    def on_pong(self, payload: bytes) -> None:
        """A pong has come."""


class Ended(Phase):
    """A connection whose last byte is written: what still comes is discarded.

    Args:
        before: the phase that has ended; it is told when TCP ends.
    """

    __slots__ = ("_before",)

    def __init__(self, before: Phase) -> None:
        self._before = before

    def lost(self, reason: Failure) -> None:
        """TCP has ended."""
        self._before.lost(reason)
