"""The opening handshake's request: a head in, one frozen :class:`HandshakeRequest` out.

Pure: no I/O, no clock. Nothing is *decided* here about who may come in (that is the validators'), only
whether the bytes are one well-formed request: :func:`parse_request` for WebSocket, :func:`parse_head` for any other
that is served. Which bytes are a head at all is :mod:`wsrelay.head`'s.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs

from wsrelay.errors import BadRoomName, Denied
from wsrelay.head import parse_lines
from wsrelay.names import ROOT, canonical_room

__all__ = [
    "BEARER",
    "TOKEN",
    "HandshakeRequest",
    "check_upgrade",
    "not_websocket",
    "parse_head",
    "parse_request",
    "split_host",
]

#: RFC 9110 section 5.6.2, for names that end up in our own response.
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: RFC 6455 section 4.1: base64 of 16 bytes.
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")

#: uri-host [":" port] (RFC 3986 section 3.2.2); the name of what it finds: host, port.
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]+)(?::(?P<port>\d{1,5}))?")

#: How a subprotocol starts that carries a token, base64url-encoded behind its last dot.
BEARER: Final = "base64url.bearer."

#: RFC 9110 section 15.5.22: a 426 says what to upgrade to.
_UPGRADE: Final = (("Upgrade", "websocket"), ("Connection", "Upgrade"))

_NO_QUERY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """What a client asks for; what validators decide on.

    Attributes:
        path: the canonical path: "/" and the room, percent-decoded.
        room: the room that the path names (:func:`wsrelay.names.canonical_room`).
        query: parameter → its values in order; never logged, tokens may be in it.
        headers: lower-case field name → value; one value each, repeated list fields joined by ", ".
        host: the ``Host`` field, lower-case, with the port if it names one; never empty.
        origin: the ``Origin`` field, or ``None`` when there is none (not a browser).
        subprotocols: the offered subprotocols, in the client's order; no duplicates.
        bearers: what was offered as a subprotocol but carries a token, ``base64url.bearer.…``: browsers can
            send one nowhere else. It is no subprotocol and can never be chosen; never logged.
        peer: the client's address, a Twisted ``IAddress``; the one that a trusted proxy names, then with port 0.
        tls: the client's certificate (an OpenSSL ``X509``), or ``None``.
        method: the HTTP method; a WebSocket handshake's is always ``GET``.
    """

    path: str
    room: str
    query: Mapping[str, tuple[str, ...]] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    host: str
    origin: str | None
    subprotocols: tuple[str, ...]
    bearers: tuple[str, ...] = field(repr=False)
    peer: Any
    tls: Any = None
    method: str = "GET"

    @property
    def wants_websocket(self) -> bool:
        """Whether it is meant as a WebSocket handshake, be it right or wrong."""
        return self.method == "GET" and _lists(self.headers.get("upgrade", ""), "websocket")

    def accepts(self, media_type: str) -> bool:
        """Whether its ``Accept`` field names a media type; ``*/*`` does not."""
        ranges = self.headers.get("accept", "").split(",")
        return media_type in [each.partition(";")[0].strip().lower() for each in ranges]


def parse_request(head: bytes, peer: Any, tls: Any = None) -> HandshakeRequest:
    """Parse the head of a WebSocket handshake strictly. See :func:`parse_head`.

    Raises:
        Denied: also 426 for a request that is no WebSocket handshake or for another version of it.

    Source: RFC 6455 sections 4.1 and 4.2.1.
    """
    request = parse_head(head, peer, tls)
    check_upgrade(request.headers)
    return request


def parse_head(head: bytes, peer: Any, tls: Any = None, methods: Collection[str] = ("GET",)) -> HandshakeRequest:
    """Parse the head of an HTTP request strictly, whether it is a WebSocket handshake or not.

    Whether it may have a body is the caller's business; this says no more of it than the fields do.

    Args:
        head: what :func:`wsrelay.head.split_head` returned.
        peer: the client's address.
        tls: the client's certificate or ``None``.
        methods: which may be used.

    Raises:
        Denied: see :func:`wsrelay.head.parse_lines`; and 400 for a target or a field that is malformed.
    """
    method, target, headers = parse_lines(head, methods)
    host = headers.get("host", "").lower()
    if split_host(host) is None:
        raise Denied(400, "the Host field is missing or malformed")
    subprotocols, bearers = _parse_subprotocols(headers.get("sec-websocket-protocol"))
    path, _, query = target.partition("?")
    try:
        room = canonical_room(path)
    except BadRoomName as error:
        raise Denied(400, str(error)) from None
    return HandshakeRequest(
        path=room if room == ROOT else f"/{room}",
        room=room,
        query=_parse_query(query),
        headers=MappingProxyType(headers),
        host=host,
        origin=headers.get("origin"),
        subprotocols=subprotocols,
        bearers=bearers,
        peer=peer,
        tls=tls,
        method=method,
    )


def split_host(value: str) -> tuple[str, int | None] | None:
    """Split ``host[:port]`` into a lower-case host and a port, ``None`` where none is named.

    Returns:
        ``None`` when ``value`` is not of that form.
    """
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    port = match["port"]
    return match["host"].lower(), int(port) if port else None


def not_websocket() -> Denied:
    """Return what a request is answered with for which there is nothing but WebSocket."""
    return Denied(426, "this is a WebSocket relay: connect with a WebSocket client", _UPGRADE, cause="not_websocket")


def check_upgrade(headers: Mapping[str, str]) -> None:
    """Raise ``Denied`` unless the fields are those of a WebSocket handshake. See :func:`parse_request`."""
    # RFC 6455 section 4.2.1, items 3-6; a body on an upgrade would be read as frames.
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise Denied(400, "a WebSocket handshake has no body")
    if not (_lists(headers.get("upgrade", ""), "websocket") and _lists(headers.get("connection", ""), "upgrade")):
        raise not_websocket()
    if headers.get("sec-websocket-version") != "13":
        # Version 8 takes the origin from another field (TRAPS 15).
        raise Denied(426, "WebSocket version 13 is needed", [("Sec-WebSocket-Version", "13")], cause="not_websocket")
    if _KEY.fullmatch(headers.get("sec-websocket-key", "")) is None:
        raise Denied(400, "the Sec-WebSocket-Key field is missing or malformed")


def _lists(value: str, item: str) -> bool:
    return value.lower() == item or item in [each.strip(" \t").lower() for each in value.split(",")]


def _parse_query(query: str) -> Mapping[str, tuple[str, ...]]:
    if not query:  # what most have; parse_qs takes its time for it
        return _NO_QUERY
    try:
        parsed = parse_qs(query, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Denied(400, "the query is malformed") from None
    return MappingProxyType({name: tuple(values) for name, values in parsed.items()})


def _parse_subprotocols(value: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the subprotocols, and apart from them those that carry a token."""
    if value is None:
        return (), ()
    names = [name.strip(" \t") for name in value.split(",")]
    if len(set(names)) != len(names) or not all(map(TOKEN.fullmatch, names)):
        raise Denied(400, "the Sec-WebSocket-Protocol field is malformed")
    return (
        tuple(name for name in names if not name.startswith(BEARER)),
        tuple(name for name in names if name.startswith(BEARER)),
    )
