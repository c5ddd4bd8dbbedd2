"""EventStream: the phase of an open connection that gets its room's messages as server-sent events.

A member of its room like any other, with another encoding (:mod:`wsrelay.wire.sse`). Must not live here: access, and
the head of the response (:mod:`wsrelay.http.site`).
"""

from wsrelay import closecodes
from wsrelay.connection.host import Host
from wsrelay.connection.member import Member
from wsrelay.connection.reading import is_too_fast, limit_rate
from wsrelay.grant import Grant
from wsrelay.wire import sse

__all__ = ["EventStream"]


class EventStream(Member):
    """A stream of events.

    Args:
        host: the connection.
        grant: its rights; a stream publishes nothing.
    """

    __slots__ = ()

    leaves_without_close = True

    _host: Host

    def __init__(self, host: Host, grant: Grant) -> None:
        super().__init__(host, grant.narrowed(can_publish=False), sse.encode)

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
        """The peer has taken the waiting bytes: it is alive."""
        self._host.keepalive.alive()

    def write_close(self, code: int | None, reason: bytes | None, is_reply: bool) -> None:
        """Write an event with the code and the reason, and end the stream."""
        self._host.closed_by_relay(code, reason)
        self._host.write(sse.close(code or closecodes.NO_CODE, (reason or b"").decode()))
        self._host.dropConnection()
