"""The connection as its phases and reports see it, as a type.

Implemented by :class:`wsrelay.connection.protocol.RelayProtocol`. A type only, to avoid an import cycle between the
connection and its phases.
"""

from typing import Any, Protocol

from twisted.python.failure import Failure

from wsrelay.closecodes import CloseReason
from wsrelay.connection.context import Relay
from wsrelay.connection.flow import Flow
from wsrelay.connection.keepalive import KeepAlive
from wsrelay.connection.member import Member
from wsrelay.connection.phase import Phase
from wsrelay.connection.stage import Stage
from wsrelay.connection.writer import Unsent, Writer
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.limits.admission import Visit
from wsrelay.wanted import Start, Wanted

__all__ = ["Host"]


class Host(Protocol):
    """The part of :class:`wsrelay.connection.protocol.RelayProtocol` that phases and reports use.

    Attributes:
        factory: the relay.
        transport: Twisted's transport.
        number: its number in this process.
        stage: its state.
        phase: the current phase.
        data: received bytes that are not parsed yet.
        mid_message: whether a message or a frame of the peer is incomplete.
        forwarded_for: the client's address from a trusted proxy; empty without one.
        deadline: its one deadline, in the reactor's seconds.
        visit: its entry in the limits on connections.
        writer: writes to the transport.
        member: its phase while it is open; ``None`` until it joins a room.
        flow: its flow control; not set before it joins a room.
        keepalive: its deadlines while open, and at its end.
    """

    factory: Relay
    transport: Any  # no interface has all methods that Twisted's transports share
    number: int
    stage: Stage
    phase: Phase
    data: bytes
    mid_message: bool
    forwarded_for: str
    deadline: float
    visit: Visit
    writer: Writer
    member: Member | None
    flow: Flow
    keepalive: KeepAlive

    @property
    def grant(self) -> Grant:
        """Its rights."""

    @property
    def peer(self) -> str:
        """The client's address, for people."""

    @property
    def mid_frame(self) -> bool:
        """Whether a frame of the peer is incomplete."""

    @property
    def paused(self) -> bool:
        """Whether written bytes wait in the transport."""

    @property
    def address(self) -> str | None:
        """The address for which it is counted."""

    @property
    def unsent(self) -> Unsent:
        """Bytes that wait in the transport."""

    @property
    def network(self) -> object:
        """Its address, or IPv6 network."""

    @property
    def incoming_bytes(self) -> int:
        """Bytes buffered of incomplete input."""

    @property
    def message_bytes(self) -> int:
        """Bytes buffered of an incomplete message."""

    def seconds(self) -> float:
        """Return the reactor's time."""

    def expect_within(self, seconds: float) -> None:
        """Set the deadline."""

    def become(self, stage: Stage) -> None:
        """Enter a stage."""

    def join(self, member: Member, wanted: Wanted) -> Start:
        """Join a room; return where it starts."""

    def open(self, stage: Stage, response: bytes, unchosen: str | None = None) -> None:
        """Enter an open stage."""

    def write(self, data: bytes) -> None:
        """Write in order."""

    def write_later(self, data: bytes, sent: int) -> None:
        """Write the rest that ``send`` did not take."""

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """Close."""

    def reject(self, reason: CloseReason, detail: str = "") -> None:
        """Close for a violation or an exceeded limit."""

    def shed(self, reason: CloseReason, denied: Denied) -> None:
        """Close at once."""

    def deny(self, denied: Denied) -> None:
        """Refuse the request."""

    def respond(self, response: bytes, *, is_close: bool = False) -> None:
        """Write the last response, and end.

        With ``http``, or a close frame, the peer may still send: that is read and discarded, or TCP would overtake the
        response with a reset.

        Args:
            response: the response.
            is_close: whether it has a close frame, whose reply is awaited before our half of TCP ends: else Firefox
                finds the close not clean.
        """

    def fail(self, error: Failure | Exception) -> None:
        """End because of a bug."""

    def abort(self) -> None:
        """End TCP now."""

    def begin_stream(self, grant: Grant, wanted: Wanted) -> Start:
        """Join a room as an event stream; return where it starts."""

    def stream_begun(self) -> None:
        """The head of the stream's response is written."""

    def end(self) -> None:
        """End TCP behind a whole response."""

    def dropConnection(self) -> None:
        """End TCP behind the written bytes."""

    def forget_message(self) -> None:
        """Free the parts of an unfinished message."""

    def parse_next(self) -> bool:
        """Let Autobahn parse a step of the unread data; return whether there may be more."""

    def agree_deflate(self, offers: str) -> tuple[str, int] | None:
        """Agree on permessage-deflate, or on nothing."""

    def send_close_frame(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write a close frame."""

    def closed_by_relay(self, code: int | None, reason: bytes | None) -> None:
        """Record a close by the relay without a close frame."""

    def charge(self, frames: int, size_bytes: int) -> None:
        """Charge a message over plain HTTP to its address."""

    def take_turn(self, data: bytes) -> None:
        """Read again, in a new turn."""

    def dataReceived(self, data: bytes) -> None:
        """Take received bytes; empty: go on with the unparsed ones."""

    def sendPing(self, payload: bytes) -> None:
        """Send a ping, if open."""

    def sendPong(self, payload: bytes) -> None:
        """Send a pong, if open."""
