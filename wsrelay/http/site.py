"""What the relay's own ports serve beside WebSocket: one URL for every tool.

::

    POST /room                             publishes the body                       202
    GET  /room, Accept: text/event-stream  tails the room as server-sent events     200
    GET  /room, Accept: application/json   describes it                             200
    GET  /,     Accept: text/html          the demo page, with --demo               200
    anything else                                                                   426, 405

All but the page are asked of the validators, as a handshake is. How a request is read and a response written is
:mod:`wsrelay.http.exchange`'s; what a stream does once it has begun, :mod:`wsrelay.connection.event_stream`'s.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wsrelay.errors import Denied
from wsrelay.http.exchange import Exchange, HTTPRequest
from wsrelay.http.head import not_websocket
from wsrelay.http.page import Page
from wsrelay.message import Message
from wsrelay.names import ROOT
from wsrelay.request import HandshakeRequest
from wsrelay.settings import Settings
from wsrelay.wire import frames

__all__ = ["EXCEPT", "NUMBER", "PublicSite"]

#: The field with the number of a connection that a published message is not for, and that of a response with its own.
EXCEPT: Final = "wsrelay-except"
NUMBER: Final = "Wsrelay-Connection"

#: How long the reader of a stream that has ended is to wait before it comes back: from and to, so that not all come at
#: once.
_RETRY_SECONDS: Final = (1.0, 5.0)

#: What is text beside ``text/*``, by media type; a form, because that is what curl calls what it is given.
_TEXT: Final = re.compile(
    r"text/.*|application/(json|xml|javascript|x-ndjson|yaml|x-www-form-urlencoded)|[^/]+/[^/]+\+(json|xml|yaml)"
)

#: What of a media type's parameters says that text is in UTF-8.
_UTF8: Final = re.compile(r'charset="?(utf-?8|us-ascii)"?\s*(;|$)')

#: Nobody but who asked may keep a response, or take it for something else than it says.
_SAFE: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class PublicSite:
    """The requests that a relay serves on its own ports.

    Args:
        relay: the factory. See :class:`wsrelay.connection.context.Relay`.

    Attributes:
        methods: those that there are.
    """

    def __init__(self, relay: Any) -> None:
        self._relay = relay
        settings: Settings = relay.settings
        self._serves_rooms = settings.http
        self._page = Page("wsrelay.http", "demo.html", connect="'self' ws: wss:", images="blob: data:")
        self._serves_page = settings.demo
        self.methods = ("GET", "POST") if settings.http else ("GET",)

    def exchange(self, connection: Any, request: HandshakeRequest) -> Exchange:
        """Return the exchange for a request that is no WebSocket handshake.

        Raises:
            Denied: there is none: 426 for a GET of what is served by WebSocket only; 400, 411, 413 and 415 for bodies.
        """
        settings = self._relay.settings
        if request.method == "POST":
            exchange = Exchange(connection, request, self._publish, settings.max_message_bytes)
            exchange.check_size(_length(request.headers))
            _opcode(request.headers)
            return exchange
        if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
            raise Denied(400, "a GET has no body", cause="malformed")
        is_page = self._serves_page and request.room == ROOT
        for media_type, is_served, answer in (
            ("text/event-stream", self._serves_rooms, self._tail),
            ("application/json", self._serves_rooms, self._describe),
            ("text/html", is_page, self._show),
        ):
            if is_served and request.accepts(media_type):
                # The page is no secret; what it connects to is asked of the validators.
                return Exchange(connection, request, answer, 0, is_public=answer == self._show)
        raise not_websocket()

    def _publish(self, exchange: Exchange, request: HTTPRequest) -> None:
        """Publish a body as one message; text or binary as its Content-Type says."""
        relay, grant, headers = self._relay, exchange.grant, exchange.request.headers
        if not grant.can_publish:
            raise Denied(403, "you may not publish here", cause="can_publish")
        opcode, payload = _opcode(headers), request.content.read()
        if opcode == frames.TEXT:
            _check_text(payload)
        if relay.message_types.of(grant.room) not in (None, opcode):
            raise Denied(415, "messages of this type are not taken here", cause="message_type")
        status = relay.hub.status(grant.room)
        if status is not None and status.held:
            # Nobody can stop reading it, as the room's other publishers are (slow policy pause-publishers).
            raise Denied(503, "this room waits for a slow subscriber", [("Retry-After", "1")], cause="slow_policy")
        left_out = self._except(headers, grant.room)
        message = Message(frames.encode(opcode, payload), left_out)
        relay.stats.messages_in += 1
        relay.stats.bytes_in += len(message.plain)
        relay.backplane.publish(grant.room, [message])
        self._respond(exchange, request, 202, {"room": grant.room, "members": status.members if status else 0})

    def _except(self, headers: Mapping[str, str], room: str) -> Any:
        """Return the connection that a message to a room is not for; one that has gone, or is elsewhere, is nobody.

        Complexity:
            One look at each connection.
        """
        number = headers.get(EXCEPT)
        if number is None:
            return None
        if not re.fullmatch(r"[1-9]\d{0,18}", number):
            raise Denied(400, "Wsrelay-Except must be the number of a connection", cause="malformed")
        wanted = int(number)
        numbered = (one for one in self._relay.connections if one.number == wanted and one.grant.room == room)
        return next((one.member for one in numbered), None)

    def _describe(self, exchange: Exchange, request: HTTPRequest) -> None:
        """Say how many there are in a room; none where nobody has opened it."""
        room = exchange.grant.room
        status = self._relay.hub.status(room)
        members, publishers = (status.members, status.publishers) if status else (0, 0)
        self._respond(exchange, request, 200, {"room": room, "members": members, "publishers": publishers})

    def _tail(self, exchange: Exchange, request: HTTPRequest) -> None:
        """Begin a stream of the room's messages."""
        connection = exchange.connection
        if not exchange.grant.can_subscribe:
            raise Denied(403, "you may not receive here", cause="can_subscribe")
        connection.begin_stream(exchange.grant)
        fields = self._about_room(exchange, 200, "text/event-stream")
        # nginx would wait until it has a buffer full.
        request.head(200, [*fields, ("X-Accel-Buffering", "no"), (NUMBER, str(connection.number))])
        least, most = _RETRY_SECONDS
        request.write(b"retry: %d\n\n" % (1e3 * (least + (most - least) * self._relay.random())))
        connection.stream_begun()

    def _show(self, _: Exchange, request: HTTPRequest) -> None:
        """Send the demo page."""
        self._relay.stats.http_requests["GET", 200] += 1
        fields = [("Content-Type", self._page.content_type), ("Content-Security-Policy", self._page.policy)]
        request.respond(200, [*_SAFE, ("Referrer-Policy", "no-referrer"), *fields], self._page.body)

    def _respond(self, exchange: Exchange, request: HTTPRequest, status: int, content: object) -> None:
        fields = self._about_room(exchange, status, "application/json")
        request.respond(status, fields, msgspec.json.encode(content) + b"\n")

    def _about_room(self, exchange: Exchange, status: int, content_type: str) -> list[tuple[str, str]]:
        """Count a response about a room, and return its fields. A page that the validators let in may read it."""
        self._relay.stats.http_requests[exchange.request.method, status] += 1
        origin = exchange.request.origin
        sharing = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")] if origin else []
        return [*_SAFE, *sharing, ("Content-Type", content_type)]


def _length(headers: Mapping[str, str]) -> int:
    """Return the length that a body is said to have, 0 where it comes in chunks; raise ``Denied`` where it is none."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if (length is None) == (coding is None):
        raise Denied(411 if length is None else 400, "give a Content-Length, or send chunks", cause="malformed")
    if coding is not None and coding.lower() != "chunked":
        raise Denied(400, "the Transfer-Encoding must be chunked", cause="malformed")
    if length is not None and not re.fullmatch(r"\d{1,18}", length):
        raise Denied(400, "the Content-Length is malformed", cause="malformed")
    return int(length or 0)


def _opcode(headers: Mapping[str, str]) -> int:
    """Return what a body is as a message: text, or binary."""
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
