"""A connection that tails its room as server-sent events, instead of speaking WebSocket.

It is a subscriber as any other: its messages have another encoding (:mod:`wsrelay.wire.sse`), and what else goes out
has another form. Who may have one, and how its response begins, is :mod:`wsrelay.http.site`'s.
"""

from wsrelay import closecodes
from wsrelay.connection.plain_http import PlainHTTP
from wsrelay.grant import Grant
from wsrelay.wire import sse
from wsrelay.wire.frames import Encoding

__all__ = ["EventStream"]


class EventStream(PlainHTTP):
    """A connection that may become a stream of events.

    Attributes:
        is_stream: whether it has.
    """

    is_stream = False

    def begin_stream(self, grant: Grant) -> None:
        """Join the room, as one that receives only; the response may begin, and :meth:`succeedHandshake` is to follow.

        Raises:
            Denied: it cannot be done.
        """
        self.encoding: Encoding = sse.encode
        self.enter(grant.narrowed(can_publish=False))
        self.is_stream = True

    def consumeData(self) -> None:
        """Discard what comes behind the request of a stream; too much of it is too much, as of anybody."""
        if self.is_stream:
            self.allowance.bytes -= len(self.data)
            self.data = b""
            self._account(published=False)
        else:
            super().consumeData()

    def sendPing(self, payload: bytes | None = None) -> None:
        """Ping; there are no pongs in a stream, but one that takes nothing from ping to ping is dead as well.

        Peer sees:
            A comment.
        """
        if not self.is_stream:
            super().sendPing(payload)
        elif not self.paused:
            self.write(sse.ALIVE)
            self._pong_missing = False

    def resumeProducing(self) -> None:
        """What waited has been taken: the peer of a stream is alive."""
        super().resumeProducing()
        if self.is_stream:
            self._pong_missing = False

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False) -> None:
        """Close.

        Peer sees:
            An event with the code and the reason, and the end of the stream.
        """
        if not self.is_stream:
            super().sendCloseFrame(code, reasonUtf8, isReply)
            return
        self.leave()
        vars(self).update(closedByMe=True, localCloseCode=code, localCloseReason=reasonUtf8)  # as Autobahn does
        self.write(sse.close(code or closecodes.NO_CODE, (reasonUtf8 or b"").decode()))
        self.dropConnection()
