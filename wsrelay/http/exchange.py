"""One HTTP exchange: a request that passed the strict parser, its body, its response. Relay ports and admin use it.

:mod:`wsrelay.http.body` reads the body, :mod:`wsrelay.http.responses` builds the response. One request per
connection: bytes behind it are not read as a request, so nothing can be smuggled.

Must not live here: deadlines and the end of TCP (the connection), the content of responses (:mod:`wsrelay.http.site`,
:mod:`wsrelay.admin.routes`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from twisted.python.failure import Failure

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http.body import MAX_FRAMING_BYTES, Body, too_long
from wsrelay.http.responses import refusal, response
from wsrelay.request import HandshakeRequest, lists
from wsrelay.wanted import ALL_NEW, Wanted

__all__ = ["Exchange", "Line"]

#: Source: RFC 9110 section 10.1.1.
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

#: The grant of a public request, without validators.
_NO_GRANT: Final = Grant(room="", can_publish=False, can_subscribe=False)


class Line(Protocol):
    """A connection as its exchange sees it. No method raises."""

    def write(self, data: bytes) -> None:
        """Write bytes of the response."""

    def end(self) -> None:
        """The response is written: end TCP once the peer has it, or at a deadline."""

    def deny(self, denied: Denied) -> None:
        """Write a refusal and end; no effect once a response has begun."""

    def fail(self, error: Failure | Exception) -> None:
        """A bug: log it, refuse with 500, end."""


class Exchange:
    """One request and its response.

    Args:
        connection: where the response is written.
        request: the parsed head.
        answer: called once, with this exchange, when the request is granted and its body complete. It calls
            :meth:`respond`, at once or later, or raises :class:`~wsrelay.errors.Denied`.
        max_body_bytes: the longest body; 0 for a request without one, as checked by the caller.
        is_public: whether it needs no validators.
        sharing: the fields that let pages of other origins read the answer or the refusal, see
            :mod:`wsrelay.http.cors`.

    Raises:
        Denied: 400, 411 or 413, see :class:`~wsrelay.http.body.Body`.

    Attributes:
        connection: the same.
        request: the same.
        is_public: the same.
        sharing: the same.
        grant: the validators' grant; no rights before :meth:`begin`.
        wanted: what it wants of the room's history.
        content: the body, once it is complete.
        incoming_bytes: bytes received behind the head. See :class:`wsrelay.limits.shedding.Holder`.
        chunks: the decoded chunks of the body.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_forget",
        "_is_begun",
        "_is_over",
        "_late",
        "_max_body_bytes",
        "chunks",
        "connection",
        "content",
        "grant",
        "incoming_bytes",
        "is_public",
        "request",
        "sharing",
        "wanted",
    )

    def __init__(
        self,
        connection: Line,
        request: HandshakeRequest,
        answer: "Callable[[Exchange], None]",
        max_body_bytes: int = 0,
        *,
        is_public: bool = False,
        sharing: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.connection = connection
        self.request = request
        self.is_public = is_public
        self.sharing = sharing
        self.grant, self.wanted = _NO_GRANT, ALL_NEW
        self.content = b""
        self.incoming_bytes = self.chunks = 0
        self._answer = answer
        self._max_body_bytes = max_body_bytes
        self._body = Body(request.headers, max_body_bytes) if max_body_bytes else None
        self._is_begun = self._is_over = False
        self._late: Callable[[], object] | None = None
        self._forget: Callable[[], object] | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes from behind the head. They wait until :meth:`begin`; without a body they are discarded.

        Of small chunks, some are decoded; while :attr:`is_behind`, it must be called again, without bytes, in a later
        turn.

        Raises:
            Denied: 413, more bytes than the longest body in small chunks.
        """
        self.incoming_bytes += len(data)
        if self.incoming_bytes > 2 * self._max_body_bytes + MAX_FRAMING_BYTES:
            raise too_long(self._max_body_bytes)
        if self._body is not None:
            self._body.receive(data)
            if self._is_begun:
                self._answer_if_complete()

    def begin(self, grant: Grant = _NO_GRANT, wanted: Wanted = ALL_NEW) -> None:
        """The request is granted: answer now, or when the body is complete. Raises nothing.

        Peer sees:
            ``100 Continue`` if it expects that and has a body, which has not begun.
        """
        self.grant, self.wanted = grant, wanted
        self._is_begun = True
        if self._body is not None and not self.incoming_bytes and self._expects_continue:
            self.connection.write(_CONTINUE)
        self._answer_if_complete()

    def respond(self, status: int, fields: Iterable[tuple[str, str]], body: bytes = b"") -> None:
        """Write the whole response and end; no effect if there was a response, or the peer has gone.

        Args:
            status: the HTTP status.
            fields: the fields, without ``Content-Length`` and ``Connection``.
            body: the body; for HEAD, that of the same GET.
        """
        if not self._is_over:
            self.connection.write(response(status, fields, body, is_head=self.is_head))
            self.connection.end()

    def wait(self, late: Callable[[], object], forget: Callable[[], object]) -> None:
        """The answer comes later, though the request is carried out.

        Args:
            late: responds without what is awaited.
            forget: called once it is not awaited any more.
        """
        self._late, self._forget = late, forget

    def give_up(self) -> bool:
        """Respond without what is awaited; return whether anything is."""
        late, self._late = self._late, None
        if late is None:
            return False
        late()
        return True

    def refusal(self, denied: Denied) -> bytes:
        """Return the response to the refused request."""
        return refusal(denied, self.sharing, is_head=self.is_head)

    def is_whole(self) -> bool:
        """Return whether the whole body of a request with one has come, so that its sender may have ended its half.

        Also while :attr:`is_behind`: not all is decoded here, in one turn.
        """
        if self._body is None:
            return False
        try:
            content = self._read(self._body)
        except Denied:
            return False
        if content is None:
            return self._body.is_behind
        self._body, self.content = None, content
        return True

    def discard(self) -> None:
        """Free the body: the response is written."""
        self._body, self.content, self.incoming_bytes = None, b"", 0
        self._end()

    def lost(self, reason: Failure) -> None:
        """TCP has ended: a later :meth:`respond` does nothing."""
        self._end()

    @property
    def is_behind(self) -> bool:
        """Whether chunks of the body have come and are not decoded."""
        return self._body is not None and self._body.is_behind

    @property
    def is_waiting(self) -> bool:
        """Whether the request is carried out, and its answer waits. See :meth:`wait`."""
        return self._late is not None

    @property
    def is_head(self) -> bool:
        """Whether the response has no content."""
        return self.request.method == "HEAD"

    @property
    def _expects_continue(self) -> bool:
        return lists(self.request.headers.get("expect", ""), "100-continue")

    def _end(self) -> None:
        if self._forget is not None:
            self._forget()
        self._is_over, self._late, self._forget = True, None, None  # they refer to this exchange

    def _answer_if_complete(self) -> None:
        """Answer; an exception ends this connection and no other."""
        try:
            content = self.content if self._body is None else self._read(self._body)
            if content is not None:
                self._body = None
                self.content = content
                self._answer(self)
        except Denied as denied:
            self.connection.deny(denied)
        except Exception as error:  # noqa: BLE001 - the guard of all callbacks
            self.connection.fail(error)

    def _read(self, body: Body) -> bytes | None:
        content = body.read()
        self.chunks = body.chunks
        return content
