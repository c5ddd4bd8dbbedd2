"""Plain HTTP on the relay's own ports: one URL for every tool.

::

    GET     /room                             explains what a handshake would get      426
    GET     /,     Accept: text/html          the demo page, with --demo               200
    HEAD                                      the same as GET, without the content

    with --http:
    POST    /room                             publishes the body                       202
    GET     /room, Accept: text/event-stream  tails the room as server-sent events     200
    GET     /room, Accept: application/json   describes it, shows old messages         200, 410
    OPTIONS                                   lists the methods; CORS preflight        204

Others get 405. The validators decide on each of them as on a handshake, but for the page, and OPTIONS, where the
``origin`` validator alone decides. It is asked about a browser first: a page of an origin that is not allowed may read
that this is so, and nothing that other validators say. Must not live here: bodies and responses
(:mod:`wsrelay.http.exchange`), the fields for pages of other origins (:mod:`wsrelay.http.cors`), a stream after its
first event (:mod:`wsrelay.connection.event_stream`).
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from secrets import token_urlsafe
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
from twisted.internet.interfaces import ISSLTransport

from wsrelay.errors import Denied
from wsrelay.grant import Grant
from wsrelay.http import room_views
from wsrelay.http.cors import EVERY, is_preflight, preflight_fields, sharing_fields
from wsrelay.http.exchange import Exchange, Line
from wsrelay.http.head import UPGRADE_LOST, check_no_body, not_websocket
from wsrelay.http.page import Page
from wsrelay.http.responses import MAX_REASON_CHARS, SAFE_FIELDS, head, refusal
from wsrelay.interfaces import Backplane, Subscriber
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.names import ROOT
from wsrelay.policies import ByRoom
from wsrelay.request import HandshakeRequest
from wsrelay.settings import Settings
from wsrelay.stats import NodeStatus, Stats
from wsrelay.wanted import Start, Wanted
from wsrelay.wire import frames, sse

__all__ = ["EXCEPT", "HANDLE", "Connection", "Handled", "PublicSite", "Relay"]

#: The request field with the handle of the connection that must not receive the message.
EXCEPT: Final = "wsrelay-except"

#: The response field with the connection's own handle.
HANDLE: Final = "Wsrelay-Connection"

#: Random bytes of a handle: no client can guess that of another one, and hide a message from it.
HANDLE_BYTES: Final = 16

#: A handle: these bytes as base64url.
_HANDLE: Final = re.compile(r"[\w-]{22}", re.ASCII)

#: The shortest and the longest reconnect delay of a stream's reader; the jitter spreads the readers of one room.
_RETRY_SECONDS: Final = (1.0, 5.0)

#: How long a publish with a broker is answered later, to give its id; with a sweep more, in seconds at most 2.
_PLACED_SECONDS: Final = 1.5

#: Media types of text beside ``text/*``; forms, because curl sends all data as one.
_TEXT: Final = re.compile(
    r"text/.*|application/(json|xml|javascript|x-ndjson|yaml|x-www-form-urlencoded)|[^/]+/[^/]+\+(json|xml|yaml)"
)

#: The parameters of a media type that name UTF-8.
_UTF8: Final = re.compile(r'charset="?(utf-?8|us-ascii)"?\s*(;|$)')


class Handled(Subscriber, Protocol):
    """The part of :class:`wsrelay.connection.member.Member` that this site uses.

    Attributes:
        grant: its rights.
        handle: its handle; ``None`` without ``--http``.
    """

    grant: Grant
    handle: str | None


class Connection(Line, Protocol):
    """The part of :class:`wsrelay.connection.protocol.RelayProtocol` that this site uses.

    Attributes:
        transport: Twisted's transport.
    """

    transport: Any  # no interface has all methods that Twisted's transports share

    @property
    def member(self) -> Handled | None:
        """Its subscriber in the room."""

    def charge(self, frames: int, size_bytes: int) -> None:
        """Charge a message to its address; raises ``Denied`` if that is above its rates."""

    def begin_stream(self, grant: Grant, wanted: Wanted) -> Start:
        """Join the room, and return where it starts; raises ``Denied`` if the room or the relay is full."""

    def stream_begun(self) -> None:
        """The stream's head is written: the connection is open."""

    def expect_within(self, seconds: float) -> None:
        """Set the deadline of the answer."""


class _Hub(room_views.Rooms, Protocol):
    def check_join(self, name: str) -> None:
        """Raise ``Denied`` if the room or the relay is full."""

    def check_publish(self, name: str) -> None:
        """Raise ``Denied`` if the room has history, is not open, and the relay is full."""


class _Chain(Protocol):
    def check_origin(self, request: HandshakeRequest) -> None:
        """Raise ``Denied`` if it is a browser's, of an origin that is not allowed."""

    def shared_with(self, request: HandshakeRequest) -> str | None:
        """Return the origin whose pages may read the answer: named, or ``"*"``."""


class Relay(Protocol):
    """The part of :class:`wsrelay.factory.RelayFactory` that this site uses."""

    settings: Settings
    stats: Stats
    backplane: Backplane
    message_types: ByRoom[int]
    random: Callable[[], float]

    def describe(self) -> NodeStatus:
        """Return the description of this process."""

    @property
    def hub(self) -> _Hub:
        """The rooms."""

    @property
    def chain(self) -> _Chain:
        """The validators."""


class PublicSite:
    """The requests that a relay serves on its own ports.

    Args:
        relay: the relay.

    Attributes:
        methods: the served methods.
        handles: handle → member, for all members; empty without ``--http``.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.handles: dict[str, Handled] = {}
        settings = relay.settings
        self._serves_rooms = settings.http
        page = ("wsrelay.http", "demo.html")
        self._page = Page(*page, connect="'self' ws: wss:", images="blob: data:") if settings.demo else None
        self.methods = ("GET", "HEAD", "POST", "OPTIONS") if settings.http else ("GET", "HEAD")

    def exchange(self, connection: Connection, request: HandshakeRequest) -> Exchange:
        """Return the exchange for a request that is no WebSocket handshake.

        Raises:
            Denied: 403 for a page of an origin that is not allowed; 400, 411, 413 and 415 for bodies.
        """
        begin = partial(Exchange, connection, request, sharing=self._sharing(request))
        page = self._page_for(request)
        if page is None:
            self._check_origin(request)
        if request.method == "POST":
            exchange = begin(partial(self._publish, connection), self._relay.settings.max_message_bytes)
            _opcode(request.headers)
            return exchange
        check_no_body(request.headers, "a request other than POST")
        if request.method == "OPTIONS":
            return begin(self._permit, is_public=True)
        if self._serves_rooms and request.accepts("text/event-stream"):
            return begin(partial(self._tail, connection))
        if self._serves_rooms and request.accepts("application/json"):
            return begin(partial(self._describe, connection))
        if page is not None:
            return begin(partial(self._show, page), is_public=True)
        return begin(partial(self._explain, connection))

    def name(self, member: Handled) -> None:
        """Give a new member its handle, with ``--http``; :meth:`forget` follows."""
        member.handle = token_urlsafe(HANDLE_BYTES)
        self.handles[member.handle] = member

    def forget(self, handle: str) -> None:
        """Take back the handle of a member that leaves."""
        del self.handles[handle]

    def refusal(self, denied: Denied, request: HandshakeRequest) -> bytes:
        """Return the response to a request that was refused before it had an exchange.

        Args:
            denied: the refusal.
            request: the request.

        Peer sees:
            The refusal. A page of an allowed origin may read it, unless it asked for WebSocket.
        """
        sharing = () if request.wants_websocket else self._sharing(request)
        return refusal(denied, sharing, is_head=request.method == "HEAD")

    def _page_for(self, request: HandshakeRequest) -> Page | None:
        """Return the page if a browser asks for it. It is public: the validators decide on the WebSocket it opens."""
        is_asked = request.room == ROOT and request.method in ("GET", "HEAD") and request.accepts("text/html")
        return self._page if is_asked else None

    def _check_origin(self, request: HandshakeRequest) -> None:
        """Ask the ``origin`` validators about a browser, before any other validator.

        Raises:
            Denied: its origin is not allowed. Every page may read that.
        """
        try:
            self._relay.chain.check_origin(request)
        except Denied as denied:
            fields = [*denied.headers, *sharing_fields(EVERY)]
            raise Denied(denied.status, denied.reason, fields, cause=denied.cause) from None

    def _sharing(self, request: HandshakeRequest) -> tuple[tuple[str, str], ...]:
        return sharing_fields(self._relay.chain.shared_with(request))

    def _permit(self, exchange: Exchange) -> None:
        """List the methods; to a preflight, what a page may send."""
        headers = exchange.request.headers
        preflight = preflight_fields(headers, self.methods) if is_preflight(headers) else ()
        self._count(exchange, 204)
        exchange.respond(204, [*SAFE_FIELDS, ("Allow", ", ".join(self.methods)), *exchange.sharing, *preflight])

    def _publish(self, connection: Connection, exchange: Exchange) -> None:
        """Publish a body as one message; text or binary as its Content-Type says."""
        relay, grant, headers, payload = self._relay, exchange.grant, exchange.request.headers, exchange.content
        if not grant.can_publish:
            raise Denied(403, "you may not publish here", cause="can_publish")
        opcode = _opcode(headers)
        if opcode == frames.TEXT:
            _check_text(payload)
        if not relay.message_types.of(grant.room) & opcode:
            raise Denied(415, "messages of this type are not taken here", cause="message_type")
        status = relay.hub.status(grant.room)
        if status is not None and status.held:
            # Slow policy pause-publishers: an HTTP client cannot be held.
            raise Denied(503, "this room waits for a slow subscriber", [("Retry-After", "1")], cause="slow_policy")
        histories = relay.hub.histories
        keeps = histories.exist and histories.keeps(grant.room)
        if keeps:
            relay.hub.check_publish(grant.room)
        relay.backplane.check(grant.room)
        left_out = self._except(headers, grant.room)
        connection.charge(max(1, exchange.chunks), len(payload))
        message = Run(frames.encode(opcode, payload), 1, left_out)
        relay.stats.messages_in += 1
        relay.stats.bytes_in += len(message.plain)
        relay.backplane.publish(grant.room, message)
        accept = partial(self._accept, exchange, {"room": grant.room, "members": status.members if status else 0})
        if keeps and message.id is None:
            exchange.wait(accept, histories.when_placed(message, accept))
            connection.expect_within(_PLACED_SECONDS)
        else:
            accept(message.id)

    def _accept(self, exchange: Exchange, content: dict[str, object], identity: MessageId | None = None) -> None:
        """Answer a publish; in a room with history with the id of the message, if it is known, and may be."""
        placed = {} if identity is None or exchange.grant.history == "none" else {"id": str(identity)}
        self._respond(exchange, 202, content | placed | self._here())

    def _except(self, headers: Mapping[str, str], room: str) -> Subscriber | str | None:
        """Return the member with the handle in :data:`EXCEPT`; the handle, where the member may be on another node.

        ``None`` if it is gone or in another room.

        Complexity:
            Constant.
        """
        handle = headers.get(EXCEPT)
        if handle is None:
            return None
        if not _HANDLE.fullmatch(handle):
            raise Denied(400, "Wsrelay-Except must be the Wsrelay-Connection of a connection", cause="malformed")
        member = self.handles.get(handle)
        if member is None:
            return handle if self._relay.settings.backplane else None
        return member if member.grant.room == room else None

    def _describe(self, connection: Connection, exchange: Exchange) -> None:
        """Describe a room on this node, and show what is wanted of its history; charged as if it were published."""
        hub, grant = self._relay.hub, exchange.grant
        counts = room_views.counts(hub, grant.room)
        history = room_views.history(hub, grant, exchange.wanted, connection.charge)
        self._respond(exchange, 200, counts | self._here() | history)

    def _here(self) -> dict[str, str]:
        """Return the name of this node, if there may be others: only its own members are counted."""
        return {"node": self._relay.describe().name} if self._relay.settings.backplane else {}

    def _tail(self, connection: Connection, exchange: Exchange) -> None:
        """Begin a stream of the room's messages."""
        if not exchange.grant.can_subscribe:
            raise Denied(403, "you may not receive here", cause="can_subscribe")
        self._relay.backplane.check(exchange.grant.room)  # it was asked before the request was complete
        start = Start()
        if exchange.is_head:
            self._relay.hub.check_join(exchange.grant.room)
        else:
            start = connection.begin_stream(exchange.grant, exchange.wanted)
        fields = [
            *self._about_room(exchange, 200, "text/event-stream"),
            ("X-Accel-Buffering", "no"),  # nginx would fill a buffer first
            *([] if connection.member is None else [(HANDLE, str(connection.member.handle))]),
            ("Transfer-Encoding", "chunked"),
        ]
        if exchange.is_head:
            connection.write(head(200, fields))
            connection.end()
            return
        least, most = _RETRY_SECONDS
        retry_ms = 1e3 * (least + (most - least) * self._relay.random())
        first = sse.chunk(b"retry: %d\n\n" % retry_ms) + room_views.first_events(start, exchange.grant, exchange.wanted)
        connection.write(head(200, fields) + first)
        connection.stream_begun()

    def _show(self, page: Page, exchange: Exchange) -> None:
        """Send the demo page."""
        self._count(exchange, 200)
        fields = [("Content-Type", page.content_type), ("Content-Security-Policy", page.policy)]
        exchange.respond(200, [*SAFE_FIELDS, ("Referrer-Policy", "no-referrer"), *fields], page.body)

    def _explain(self, connection: Connection, exchange: Exchange) -> None:
        """Say that a handshake would be accepted: what would refuse it has been asked, but for the room's limits."""
        self._relay.hub.check_join(exchange.grant.room)
        request = exchange.request
        if "sec-websocket-key" in request.headers:
            raise not_websocket(UPGRADE_LOST)
        accepted = not_websocket(f'it would accept new WebSocket("{_url(connection, request)}") from here')
        is_long = len(accepted.reason) > MAX_REASON_CHARS
        raise not_websocket("it would accept a WebSocket client from here") if is_long else accepted

    def _respond(self, exchange: Exchange, status: int, content: object) -> None:
        fields = self._about_room(exchange, status, "application/json")
        exchange.respond(status, fields, msgspec.json.encode(content) + b"\n")

    def _about_room(self, exchange: Exchange, status: int, content_type: str) -> list[tuple[str, str]]:
        """Count a response about a room and return its fields."""
        self._count(exchange, status)
        return [*SAFE_FIELDS, *exchange.sharing, ("Content-Type", content_type)]

    def _count(self, exchange: Exchange, status: int) -> None:
        self._relay.stats.http_requests[exchange.request.method, status] += 1


def _url(connection: Connection, request: HandshakeRequest) -> str:
    """Return the URL of a room for WebSocket, without a query, which may hold a token."""
    is_secure = (
        ISSLTransport.providedBy(connection.transport)
        or request.headers.get("x-forwarded-proto") == "https"
        or (request.origin or "").startswith("https:")  # such a page can use no other
    )
    return f"{'wss' if is_secure else 'ws'}://{request.host}{quote(request.path)}"


def _opcode(headers: Mapping[str, str]) -> int:
    """Return the message type of a body: text or binary."""
    if headers.get("content-encoding", "identity") != "identity":
        raise Denied(415, "send the body without a Content-Encoding", cause="malformed")
    media_type, _, parameters = headers.get("content-type", "text/plain").lower().partition(";")
    if not _TEXT.fullmatch(media_type.strip()):
        return frames.BINARY
    if "charset" in parameters and not _UTF8.search(parameters):
        raise Denied(415, "text must be UTF-8", cause="malformed")
    return frames.TEXT


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise Denied(400, "the body is not UTF-8; send bytes as application/octet-stream", cause="malformed") from None
