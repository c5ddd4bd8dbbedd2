"""EventStream: the phase of an open connection that gets its room's messages as server-sent events.

A member of its room like any other, with another encoding (:mod:`wsrelay.wire.sse`). Must not live here: access, and
the head of the response (:mod:`wsrelay.http.site`).
"""

from wsrelay import closecodes
from wsrelay.connection.host import Host
from wsrelay.connection.member import Member
from wsrelay.connection.reading import is_too_fast, limit_rate
from wsrelay.grant import Grant
from wsrelay.message_id import MessageId
from wsrelay.wire import sse

__all__ = ["EventStream"]


class EventStream(Member):
    """A stream of events.

    Args:
        host: the connection.
        grant: its rights; a stream publishes nothing.
    """

    __slots__ = ("_gap",)

    leaves_without_close = True

    _host: Host

    def __init__(self, host: Host, grant: Grant) -> None:
        encoding = sse.encode_without_id if grant.history == "none" else sse.encode
        super().__init__(host, grant.narrowed(can_publish=False), encoding)
        #: End and cause of a gap that the peer is to be told.
        self._gap: tuple[MessageId, str] | None = None

    def receive(self, data: bytes) -> None:
        """Discard input behind the request; the connection's rate limits apply."""
        self._host.flow.bytes -= len(data)
        if is_too_fast(self._host):
            limit_rate(self._host)

    def ping(self, payload: bytes) -> None:
        """Write a comment; see :meth:`progressed`."""
        if not self._host.paused:
            self._host.write(sse.ALIVE)

    def progressed(self) -> bool:
        """There are no pongs: what the peer's TCP has taken since the last ping, at least a comment, counts as one."""
        writer = self._host.writer
        place = writer.place
        progressed = writer.progressed()
        if writer.place != place or writer.delivered is None:
            self._host.keepalive.alive()
        return progressed

    def on_writable(self) -> None:
        """The peer has taken the waiting bytes: it is alive. A gap follows behind them, before the room goes on."""
        self._host.keepalive.alive()
        self._tell_gap()

    def skipped(self, at: MessageId, why: str) -> None:
        """Tell the peer a gap; while it is paused, gaps are coalesced. See :class:`wsrelay.interfaces.Subscriber`.

        Peer sees:
            An event; nothing if it may not know ids.
        """
        if self.encoding is sse.encode_without_id:
            return
        self._gap = (at, why)
        if not self._host.paused:
            self._tell_gap()

    def _tell_gap(self) -> None:
        if self._gap is not None:
            gap, self._gap = self._gap, None
            self._host.write(sse.gap(*gap))

    def write_close(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write an event with the code and the reason, and end the stream."""
        self._host.closed_by_relay(code, reason)
        self._host.write(sse.close(code or closecodes.NO_CODE, (reason or b"").decode()))
        self._host.dropConnection()
