"""The strict parser of request heads: bytes in, one :class:`~wsrelay.request.HandshakeRequest` out.

Pure: no I/O, no clock. It accepts only heads that every proxy on the way reads in the same way. Must not live here:
access (validators), fields (:mod:`wsrelay.http.fields`), targets (:mod:`wsrelay.http.target`), bodies
(:mod:`wsrelay.http.body`). Sequence of calls::

    head, rest = split_head(buffer, …)      None: wait for more bytes; Denied: answer and drop
    request = parse_request(head, peer)     a WebSocket handshake; Denied: answer and drop
    request = parse_head(head, peer, …)     any request; if it wants WebSocket, check_upgrade, else check_no_body

Autobahn's own parser is not used (TRAPS 9-11): it has no bound on bytes or lines, takes 0x85, 0x0b, 0x0c, 0x1c-0x1e,
bare CR, bare LF and folded lines for line ends, so that ``x-user: admin`` can be smuggled past a proxy that strips
``X-User``, and joins all duplicates.
"""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from wsrelay.errors import BadRoomName, Denied
from wsrelay.http.fields import parse_fields
from wsrelay.http.target import NO_QUERY, Query, origin_form
from wsrelay.names import ROOT, canonical_room
from wsrelay.request import BEARER, HOST, TOKEN, HandshakeRequest, lists, members

__all__ = [
    "UPGRADE_LOST",
    "DeniedPath",
    "check_no_body",
    "check_upgrade",
    "handshake_key",
    "not_websocket",
    "parse_head",
    "parse_lines",
    "parse_request",
    "split_head",
]

_END: Final = b"\r\n\r\n"

#: RFC 9112 section 3: method SP request-target SP HTTP-version, single spaces, visible ASCII.
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/(\d\.\d)(?=\r\n|\Z)")

#: RFC 9110 section 15.5.22: a 426 names the protocol to upgrade to.
_HTTP_1_1: Final = (("Upgrade", "HTTP/1.1"), ("Connection", "Upgrade"))

#: The same for WebSocket.
_WEBSOCKET: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade"))

#: What to do about a handshake without its hop-by-hop fields: a client sends them, a proxy drops them.
UPGRADE_LOST: Final = "a proxy in front must pass the fields Upgrade and Connection on"

#: RFC 6455 section 4.1: base64 of 16 bytes.
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")


def split_head(buffer: bytes, max_bytes: int, new_bytes: int | None = None) -> tuple[bytes, bytes] | None:
    """Return the head without its blank line, and the bytes behind it; ``None`` when more bytes are needed.

    Args:
        buffer: all received bytes.
        max_bytes: the most bytes of a head, blank line included.
        new_bytes: the number of bytes at the end that no call has seen; ``None``: all.

    Raises:
        Denied: 431 when it is longer than ``max_bytes``, 414 when its first line is; 400 when it does not begin as a
            request (as TLS would).

    Complexity:
        Linear in ``new_bytes``, but for the copy of what is returned.
    """
    if buffer and not buffer[:1].isalpha():
        raise Denied(400, "this is no HTTP request; if it is TLS: there is none here, use ws:// or http://")
    # The blank line may have begun in the bytes before.
    end = buffer.find(_END, 0 if new_bytes is None else max(0, len(buffer) - new_bytes - 3), max_bytes)
    if end < 0:
        if len(buffer) >= max_bytes:
            status = 431 if b"\r\n" in buffer[:max_bytes] else 414
            raise Denied(
                status, f"the request is larger than {max_bytes} bytes (--max-request-bytes)", cause="max_request_bytes"
            )
        return None
    return buffer[:end], buffer[end + len(_END) :]


def parse_lines(head: bytes, methods: Collection[str]) -> tuple[str, str, dict[str, str]]:
    """Parse the request line and the fields strictly.

    Args:
        head: from :func:`split_head`.
        methods: the methods that are served.

    Returns:
        Method, target, and lower-case field name → value; see :func:`wsrelay.http.fields.parse_fields`.

    Raises:
        Denied: 400 for anything malformed, 405 for another method, 426 for another version of HTTP, 431 for too many
            fields.

    Source: RFC 9112 sections 3-5.
    """
    method, target, end = _parse_request_line(head, methods)
    return method, target, parse_fields(head, end)


def _parse_request_line(head: bytes, methods: Collection[str]) -> tuple[str, str, int]:
    """Return the method, the target, and where the line ends."""
    match = _REQUEST_LINE.match(head)
    if match is None:
        raise Denied(400, "the request line is malformed")
    method, target, version = match[1].decode("ascii"), match[2].decode("ascii"), match[3]
    if version != b"1.1":
        # Not 505: a health check that speaks HTTP/1.0 should read what to do (TRAPS 44).
        raise Denied(
            426,
            "HTTP/1.1 is needed; a proxy in front must speak it (nginx: proxy_http_version 1.1)",
            _HTTP_1_1,
            cause="not_websocket",
        )
    if method not in methods:
        hint = "; to publish by POST, start the relay with --http" if method == "POST" else ""
        reason = f"the method must be {' or '.join(methods)}{hint}"
        raise Denied(405, reason, [("Allow", ", ".join(methods))], cause="not_websocket")
    if "#" in target:
        raise Denied(400, "the request target has a fragment")
    return method, target, match.end()


def parse_request(head: bytes, peer: object, tls: object = None) -> HandshakeRequest:
    """Parse the head of a WebSocket handshake strictly. See :func:`parse_head`.

    Raises:
        Denied: also 426 for a request that is no WebSocket handshake or for another version of it.

    Source: RFC 6455 sections 4.1 and 4.2.1.
    """
    request = parse_head(head, peer, tls)
    if not request.wants_websocket:
        raise not_websocket("connect with a WebSocket client")
    check_upgrade(request.headers)
    return request


class DeniedPath(Denied):
    """A path that names no room, in a request that is well-formed otherwise.

    Attributes:
        request: the request, with the root instead of a room, so that its page can be told.
    """

    def __init__(self, why: str, request: HandshakeRequest) -> None:
        super().__init__(400, why)
        self.request = request


def parse_head(head: bytes, peer: object, tls: object = None, methods: Collection[str] = ("GET",)) -> HandshakeRequest:
    """Parse the head of an HTTP request strictly, whether it is a WebSocket handshake or not.

    The caller decides whether it may have a body: :func:`check_no_body`, :class:`wsrelay.http.body.Body`.

    Args:
        head: from :func:`split_head`.
        peer: the client's address.
        tls: the client's certificate or ``None``.
        methods: the methods that are served.

    Raises:
        Denied: see :func:`parse_lines`; and 400 for a target or a field that is malformed.
        DeniedPath: only the path is malformed.
    """
    method, target, headers = parse_lines(head, methods)
    host = headers.get("host", "").lower()
    if HOST.fullmatch(host) is None:
        raise Denied(400, "the Host field is missing or malformed")
    subprotocols, bearers = _parse_subprotocols(headers.get("sec-websocket-protocol"))
    if target == "*" and method == "OPTIONS":
        target = "/"  # RFC 9112 section 3.2.4: the server as a whole
    path, _, query = origin_form(target, host).partition("?")
    room, problem = _room(path)
    request = HandshakeRequest(
        path=room if room == ROOT else f"/{room}",
        room=room,
        query=Query(query) if query else NO_QUERY,
        headers=MappingProxyType(headers),
        host=host,
        origin=headers.get("origin"),
        subprotocols=subprotocols,
        bearers=bearers,
        peer=peer,
        tls=tls,
        method=method,
    )
    if problem:
        raise DeniedPath(problem, request)
    return request


def _room(path: str) -> tuple[str, str]:
    """Return the room of a path and ``""``, or the root and what is wrong with the path."""
    try:
        return canonical_room(path), ""
    except BadRoomName as error:
        return ROOT, str(error)


def not_websocket(remedy: str) -> Denied:
    """Return the refusal of a request that only a WebSocket client can make: 426.

    Args:
        remedy: what to do.
    """
    return Denied(426, f"this is a WebSocket relay: {remedy}", _WEBSOCKET, cause="not_websocket")


def check_no_body(headers: Mapping[str, str], what: str, status: int = 400) -> None:
    """Raise ``Denied`` where the fields announce a body. ``Content-Length: 0`` announces none.

    Args:
        headers: the request's fields.
        what: the kind of request, for the reason.
        status: the status of the refusal.

    Source: RFC 9112 section 6.3.
    """
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise Denied(status, f"{what} has no body", cause="malformed")


def check_upgrade(headers: Mapping[str, str]) -> None:
    """Raise ``Denied`` unless a request that wants WebSocket is a handshake. See :func:`parse_request`."""
    # RFC 6455 section 4.2.1, items 4-6; a body on an upgrade would be read as frames.
    check_no_body(headers, "a WebSocket handshake")
    if not lists(headers.get("connection", ""), "upgrade"):
        raise not_websocket(UPGRADE_LOST)
    if headers.get("sec-websocket-version") != "13":
        # Version 8 takes the origin from another field (TRAPS 15).
        raise Denied(426, "WebSocket version 13 is needed", [("Sec-WebSocket-Version", "13")], cause="not_websocket")
    if _KEY.fullmatch(headers.get("sec-websocket-key", "")) is None:
        raise Denied(400, "the Sec-WebSocket-Key field is missing or malformed")


def handshake_key(request: HandshakeRequest) -> str | None:
    """Return the ``Sec-WebSocket-Key`` of a well-formed WebSocket handshake; ``None`` for any other request."""
    if not request.wants_websocket:
        return None
    try:
        check_upgrade(request.headers)
    except Denied:
        return None
    return request.headers["sec-websocket-key"]


def _parse_subprotocols(value: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the subprotocols, and the bearer tokens among them."""
    if value is None:
        return (), ()
    names = members(value)
    if len(set(names)) != len(names) or not all(map(TOKEN.fullmatch, names)):
        raise Denied(400, "the Sec-WebSocket-Protocol field is malformed")
    return (
        tuple(name for name in names if not name.startswith(BEARER)),
        tuple(name for name in names if name.startswith(BEARER)),
    )
