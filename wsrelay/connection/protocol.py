"""RelayProtocol: one connection, which *has* a phase and parts.

::

    RelayProtocol ── phase: Opening │ PlainHTTP │ OpenWebSocket │ EventStream │ Ended       handles bytes of the peer
        ├── writer     writes to the transport
        ├── flow       rate limits, held or read
        └── keepalive  pings, expiry, message deadline

Here: the stages (:mod:`wsrelay.connection.stage`), one deadline, one guard around callbacks, one close, one refusal.
Must not live here: handling of requests and frames (phases), delivery (:mod:`wsrelay.rooms`), Autobahn's internals
(:mod:`wsrelay.connection.autobahn`).
"""

import math
from typing import Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from wsrelay import closecodes
from wsrelay.closecodes import CloseReason
from wsrelay.connection.autobahn import AutobahnProtocol
from wsrelay.connection.context import Relay
from wsrelay.connection.ends import end, fail, refused_plain_http, shed, take_rest
from wsrelay.connection.event_stream import EventStream
from wsrelay.connection.flow import Flow
from wsrelay.connection.keepalive import NO_KEEPALIVE, KeepAlive
from wsrelay.connection.member import NO_GRANT, Member
from wsrelay.connection.opening import Opening
from wsrelay.connection.phase import Ended, Phase
from wsrelay.connection.reading import charge, charge_records, limit_rate, release
from wsrelay.connection.report import JUST_ENDED, report_end, report_open, report_refusal, status
from wsrelay.connection.stage import OPEN_STAGES, OPENING_STAGES, TRANSITIONS, Stage
from wsrelay.connection.writer import Unsent, Writer
from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.linger import is_in_handshake, linger
from wsrelay.limits.admission import UNCOUNTED
from wsrelay.limits.turns import SHORT_SECONDS
from wsrelay.stats import ConnectionStatus
from wsrelay.wanted import Start, Wanted

__all__ = ["RelayProtocol"]

#: The phase of all connections after the end of TCP.
_GONE: Final = Phase()


@implementer(IPushProducer, IHalfCloseableProtocol)
class RelayProtocol(AutobahnProtocol):
    """One connection of a relay. Made by :class:`wsrelay.factory.RelayFactory`.

    Attributes:
        number: its number in this process, counted from 1; set when TCP begins.
        stage: its state.
        deadline: when :func:`wsrelay.connection.deadline.act` is due, in the reactor's seconds; infinite for never.
        visit: its entry in the limits on connections.
        writer: writes to the transport; set when TCP begins.
        member: its phase while open, and the subscriber in its room; ``None`` until it joins.
        flow: its allowance, and the reasons for not reading; not set before it joins.
        keepalive: its deadlines while open, and at its end.
    """

    # Not in the instance's dictionary: CPython shares at most 30 names between instances (TRAPS 61).
    __slots__ = ("deadline", "flow", "keepalive", "member", "number", "stage", "visit", "writer")

    factory: Relay
    flow: Flow
    keepalive: KeepAlive
    writer: Writer

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.stage = Stage.REQUEST
        self.deadline = math.inf
        self.visit, self.keepalive = UNCOUNTED, NO_KEEPALIVE
        self.member: Member | None = None

    # --- called by Twisted --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A client has connected; its request must be complete within ``handshake_seconds``."""
        self.writer = Writer(self.transport)
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:  # only sockets have it
            set_no_delay(self.tcpNoDelay)
        self.number = next(self.factory.numbers)
        self.factory.connected(self)
        self.expect_within(self.factory.settings.handshake_seconds)
        self.phase = opening = Opening(self)
        try:
            opening.arrive()
        except Exception as error:  # noqa: BLE001 - Twisted would log it, and leave the connection as it is
            self.fail(error)

    def dataReceived(self, data: bytes) -> None:
        """Let the phase take received bytes, now or in a later turn; an exception ends this connection and no other."""
        turns = self.factory.turns
        if turns.is_contended and turns.postpone(self, data):
            self.transport.pauseProducing()
            self.factory.memory.grow(self, len(data))
            return
        seconds = turns.seconds
        began = seconds()
        try:
            self.phase.receive(data)
        except Exception as error:  # noqa: BLE001 - the guard of all callbacks: else the peer sees 1006 (TRAPS 27)
            self.fail(error)
        took = seconds() - began  # with the line above, 0.8 % of a message in a room of two
        if took > SHORT_SECONDS:
            turns.took(self, took)

    def take_turn(self, data: bytes) -> None:
        """Read on, in a new turn. See :class:`wsrelay.limits.turns.Waiting`."""
        if self.member is None or not self.flow.held:
            self.transport.resumeProducing()
        self.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """TCP has ended. Also called for connections that never opened (TRAPS 27), sometimes twice."""
        if self.stage is Stage.LOST:
            return
        take_rest(self)
        phase, self.phase = self.phase, _GONE  # breaks the reference cycle, which frees both here
        try:
            self.visit.end()
            self.leave()
            self.become(Stage.LOST)
            phase.lost(reason)
            by, code, said = self.close_cause() or JUST_ENDED[phase.leaves_without_close]
            if self.member is not None:
                report_end(self, self.member, by, code or closecodes.NO_CODE, said)
            self.onClose(self.wasClean, self.remoteCloseCode, self.remoteCloseReason)
        finally:
            self.member = None
            self.factory.disconnected(self)

    def readConnectionLost(self) -> None:
        """The peer has ended its half of TCP: a response that waits still goes out (TRAPS 124). Not called with TLS."""
        if self.stage is Stage.ENDING:
            self.transport.loseConnection()
        elif not self.phase.is_answered_half_closed():
            self.transport.connectionLost(Failure(ConnectionDone()))  # as Twisted does without this method

    def writeConnectionLost(self) -> None:
        """Our half has ended, behind a refusal: the deadline follows."""

    def pauseProducing(self) -> None:
        """The peer does not read: its cursor in the room's log stays."""
        self.writer.pause()
        if self.member is not None:
            self.factory.hub.pause(self.member)

    def resumeProducing(self) -> None:
        """The waiting bytes have been written: go on from the cursor."""
        self.writer.resume()
        self.phase.on_writable()
        if self.member is not None and self.writer.writable:  # a pong may wait
            self.factory.hub.resume(self.member)

    def stopProducing(self) -> None:
        """The transport takes no more."""
        self.leave()

    # --- deadline -----------------------------------------------------------------------------------

    def seconds(self) -> float:
        """Return the reactor's time."""
        return self.factory.reactor.seconds()

    def expect_within(self, seconds: float) -> None:
        """Set the one deadline, from now on; the stage decides which action is due."""
        self.deadline = self.seconds() + seconds

    # --- writing ------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write at once if no bytes wait in the transport, else behind them."""
        if not self.writer.write(data) and self.member is not None:
            self.factory.hub.pause(self.member)

    def write_later(self, data: bytes, sent: int) -> None:
        """Write the rest of a batch that ``send`` did not take. See :class:`wsrelay.interfaces.Subscriber`."""
        self.writer.write_later(data, sent)
        self.factory.hub.pause(self._joined)

    @property
    def paused(self) -> bool:
        """Whether written bytes wait in the transport, because the peer does not read."""
        return not self.writer.writable

    @property
    def unsent(self) -> Unsent:
        """Bytes waiting in the transport, also before a close frame. See :class:`wsrelay.limits.shedding.Holder`."""
        return self.writer.unsent

    @property
    def address(self) -> str | None:
        """The address for which it is counted. See :class:`wsrelay.limits.shedding.Holder`."""
        return self.visit.address

    @property
    def incoming_bytes(self) -> int:
        """Bytes buffered of incomplete input. See :class:`wsrelay.limits.shedding.Holder`."""
        return self.phase.incoming_bytes + self.factory.turns.waiting_bytes(self)

    @property
    def network(self) -> object:
        """Its address, or IPv6 network. See :class:`wsrelay.limits.turns.Waiting`."""
        return self.visit.network

    # --- stages -------------------------------------------------------------------------------------

    def become(self, stage: Stage) -> None:
        """Enter a stage.

        Raises:
            ValueError: a bug: it may not follow the current stage.
        """
        if stage not in TRANSITIONS[self.stage]:
            raise ValueError(f"{self.stage} is not followed by {stage}")
        self.stage = stage
        self.take_stage(stage)

    @property
    def grant(self) -> Grant:
        """Its rights; none until it joins a room."""
        return NO_GRANT if self.member is None else self.member.grant

    def join(self, member: Member, wanted: Wanted) -> Start:
        """Join a room; return where it starts. The response and :meth:`open` follow in the same turn.

        Raises:
            Denied: the room or the relay is full.
        """
        grant, settings, now = member.grant, self.factory.settings, self.seconds()
        # The expiry of a grant is a date; see clock.Expiry for a wall clock that is set later.
        expires = math.inf if grant.expires_at is None else now + grant.expires_at - self.factory.wall_clock()
        self.flow = Flow(self.factory.rates, self.factory.now)
        self.keepalive = KeepAlive(now, settings.ping_seconds, self.factory.random(), expires)
        start = self.factory.hub.join(
            grant.room, member, can_subscribe=grant.can_subscribe, can_publish=grant.can_publish, wanted=wanted
        )
        self.member = member
        if settings.http:
            self.factory.web.name(member)
        return start

    def open(self, stage: Stage, response: bytes, unchosen: str | None = None) -> None:
        """Enter an open stage.

        Args:
            stage: ``OPEN`` or ``STREAM``.
            response: the last bytes before frames or events.
            unchosen: the subprotocols of which none was chosen, for the log.
        """
        # A producer is told when the peer does not read; there is no other sign (TRAPS 25).
        self.transport.registerProducer(self, True)
        self.write(response)
        self.phase = member = self._joined
        self.become(stage)
        self.visit.opened()
        member.opened_at = self.seconds()
        report_open(self, member, unchosen)
        self.deadline = self.keepalive.deadline
        if self.visit.is_overdrawn:  # else a new connection would have a new burst
            limit_rate(self)
        self.onOpen()

    def begin_stream(self, grant: Grant, wanted: Wanted) -> Start:
        """Join a room as an event stream, as :meth:`join`; the head of the response follows in the same turn."""
        return self.join(EventStream(self, grant), wanted)

    def stream_begun(self) -> None:
        """The head of the response is written: events follow."""
        self.open(Stage.STREAM, b"")

    # --- ends ---------------------------------------------------------------------------------------

    def close(self, reason: CloseReason, detail: str = "") -> None:
        """Close the connection in any stage; the relay has no other way to close.

        Peer sees:
            A close frame with the row's code and reason, or a stream's event; 503 while its request is unanswered; the
            end of TCP before its first byte: browsers open sockets on speculation, and take a 503 for the next answer.
        """
        if self.stage in OPEN_STAGES:
            self.factory.stats.closes_sent[reason.code] += 1
            # Not sendClose: it takes 1000 and 3000-4999 only (TRAPS 23).
            self.sendCloseFrame(reason.code, reason.reason_bytes(detail))
        elif self.stage is Stage.REQUEST and not self.data:
            self.dropConnection()
        else:
            self.deny(Denied(503, reason.text, [("Retry-After", "10")], cause=f"close_{reason.code}"))

    def reject(self, reason: CloseReason, detail: str = "") -> None:
        """Close for a violation or an exceeded limit, and discard further input."""
        self.failedByMe = True
        self.close(reason, detail)

    def shed(self, reason: CloseReason, denied: Denied) -> None:
        """Close, to free memory now. See :class:`wsrelay.limits.shedding.Holder`."""
        shed(self, reason, denied)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Close an open connection, by the relay or in reply to the peer, in this order.

        1. Deliver messages published before, as far as the peer takes them.
        2. Leave the room: nothing follows the close frame.
        3. Write the close frame, or a stream's last event and end.
        4. Free the unfinished message of the peer.
        5. Set the deadline for aborting TCP: ``close_seconds``, extended while the peer takes waiting bytes.
        6. Read on, and discard the input: with unread bytes, TCP would overtake the close frame with a reset.
        """
        if self.stage not in OPEN_STAGES:
            return
        self.factory.hub.finish(self._joined)
        self.leave()
        if self.stage in OPEN_STAGES:  # else a failed delivery has closed it
            is_slow, close_seconds = self.writer.progressed(), self.factory.settings.close_seconds
            self.phase.write_close(code, reasonUtf8, isReply)
            self.expect_within(self.keepalive.begin_close(self.seconds(), close_seconds, is_slow=is_slow))
            release(self, self.flow.held)

    def charge(self, frames: int, size_bytes: int) -> None:
        """Charge a message over plain HTTP to its address. See :func:`wsrelay.connection.reading.charge`."""
        charge(self, frames, size_bytes)

    def leave(self) -> None:
        """Leave the room, at the first sign of an end. May be called again."""
        if self.member is not None and (given := self.factory.hub.leave(self.member)) is not None:
            self.member.given = given
            if self.member.handle is not None:
                self.factory.web.forget(self.member.handle)

    def deny(self, denied: Denied) -> None:
        """Refuse the request; no effect after its response.

        Peer sees:
            The HTTP response, then the end of the connection.
        """
        if self.stage not in OPENING_STAGES:
            return
        report_refusal(self, denied)
        self.phase.write_refusal(denied)

    def respond(self, response: bytes, *, is_close: bool = False) -> None:
        """Write the last response, and end. See :meth:`wsrelay.connection.host.Host.respond`."""
        if is_in_handshake(self.transport):
            self.abort()
        elif is_close or self.factory.settings.http:
            linger(self.transport, response, until_reply=is_close)
            self._discard(until_reply=is_close)
        else:
            self.transport.write(response)
            self.dropConnection()

    def dropConnection(self, abort: bool = False) -> None:
        """End TCP; after a clean close with FIN, as Autobahn's reset could overtake the last frames."""
        self.leave()
        super().dropConnection(abort)
        self._discard()

    charge_records = charge_records  #: of TLS; see :class:`wsrelay.net.tls.Charged`
    refused_plain_http = refused_plain_http  #: the same
    end = end  #: behind a whole response; see :class:`wsrelay.http.exchange.Line`

    def _discard(self, *, until_reply: bool = False) -> None:
        """Discard input until TCP ends, or the deadline: peers may not read, nor answer close_notify (TRAPS 26)."""
        self.leave()
        if self.stage not in (Stage.ENDING, Stage.LOST):
            self.become(Stage.ENDING)
            before, self.phase = self.phase, Ended(self.phase, self.transport if until_reply else None)
            before.discard()
        self.expect_within(self.factory.settings.close_seconds)

    def fail(self, error: Failure | Exception) -> None:
        """End this connection after a bug. See :func:`wsrelay.connection.ends.fail`."""
        fail(self, error)

    def abort(self) -> None:
        """End TCP now, with a reset."""
        if self.stage is not Stage.ENDING:
            self._discard()
        self.transport.abortConnection()

    def status(self) -> ConnectionStatus:
        """Return its current status."""
        return status(self, self.member)

    @property
    def _joined(self) -> Member:
        assert self.member is not None
        return self.member
