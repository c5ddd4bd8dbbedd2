"""What phases, and what reports on a connection, need of it, as a type.

Implemented by :class:`wsrelay.connection.protocol.RelayProtocol`. A type only, so that phases need not import the
connection, which has them.
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
from wsrelay.connection.writer import Writer
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.limits.admission import Visit

__all__ = ["Host"]


class Host(Protocol):
    """A connection as its phases and its member see it. See :class:`wsrelay.connection.protocol.RelayProtocol`.

    Attributes:
        factory: the relay.
        transport: Twisted's.
        number: its number in this process.
        stage: its state.
        phase: what it does now.
        data: bytes that have come and are not parsed.
        mid_message: whether a message or a frame of the peer is incomplete.
        forwarded_for: the client's address, where a trusted proxy has told it.
        deadline: when its deadline is due.
        visit: its place among the connections that are counted.
        writer: the way out.
        member: its phase while it is open; ``None`` until it joins a room.
        flow: its flow control; there once it has joined a room.
        keepalive: its deadlines while open; there once it has joined a room.
    """

    factory: Relay
    transport: Any  # no interface has all that Twisted's transports have in common
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
        """What it may do."""

    @property
    def peer(self) -> str:
        """The client's address, for people."""

    @property
    def paused(self) -> bool:
        """Whether something waits to be written."""

    @property
    def message_bytes(self) -> int:
        """Bytes kept of a message that is not complete."""

    def seconds(self) -> float:
        """Return the reactor's time."""

    def expect_within(self, seconds: float) -> None:
        """Set the deadline."""

    def become(self, stage: Stage) -> None:
        """Take a stage."""

    def join(self, member: Member) -> None:
        """Join a room."""

    def open(self, stage: Stage, response: bytes) -> None:
        """Begin to be open."""

    def write(self, data: bytes) -> None:
        """Write in order."""

    def write_later(self, data: bytes, sent: int) -> None:
        """Write what ``send`` did not take."""

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """Close."""

    def reject(self, reason: CloseReason, detail: str = "") -> None:
        """Close because of what the peer sent."""

    def deny(self, denied: Denied) -> None:
        """Refuse the request."""

    def fail(self, error: Failure | Exception) -> None:
        """End because of a bug."""

    def abort(self) -> None:
        """End TCP now."""

    def on_deadline(self) -> None:
        """The deadline has passed."""

    def begin_stream(self, grant: Grant) -> None:
        """Join a room as an event stream."""

    def stream_begun(self) -> None:
        """The head of the stream's response is written."""

    def end(self) -> None:
        """End TCP behind a whole response."""

    def dropConnection(self) -> None:
        """End TCP behind what was written."""

    def parse_next(self) -> bool:
        """Let Autobahn parse a step of the unread data; return whether there may be more."""

    def agree_deflate(self, offers: str) -> tuple[str, int] | None:
        """Agree on permessage-deflate, or on nothing."""

    def send_close_frame(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write a close frame."""

    def closed_by_relay(self, code: int | None, reason: bytes | None) -> None:
        """Note who closed and why, where there is no close frame."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes that have come; empty: those that are not parsed yet."""

    def sendPing(self, payload: bytes) -> None:
        """Send a ping, if open."""

    def sendPong(self, payload: bytes) -> None:
        """Send a pong, if open."""
