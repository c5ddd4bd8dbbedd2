"""HandshakeRequest: one request of a client, as validators see it.

Pure data. Must not live here: parsing (:mod:`wsrelay.http.head`), deciding who may come in (validators).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["BEARER", "TOKEN", "HandshakeRequest", "lists", "split_host"]

#: RFC 9110 section 5.6.2, for names that our own response repeats.
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: uri-host [":" port] (RFC 3986 section 3.2.2); groups: host, port.
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]+)(?::(?P<port>\d{1,5}))?")

#: Prefix of a subprotocol that carries a token, base64url-encoded behind the last dot.
BEARER: Final = "base64url.bearer."


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """One request: a WebSocket handshake, or plain HTTP. Validators decide on it.

    Attributes:
        path: the canonical path: "/" and the room, percent-decoded.
        room: the room of that path (:func:`wsrelay.names.canonical_room`).
        query: parameter → its values in order; never logged, it may hold tokens.
        headers: lower-case field name → value; one value each, repeated list fields joined by ", ".
        host: the ``Host`` field, lower-case, with the port if it has one; never empty.
        origin: the ``Origin`` field, or ``None`` (not a browser).
        subprotocols: the offered subprotocols, in the client's order; no duplicates.
        bearers: offered subprotocols that carry a token, ``base64url.bearer.…``: browsers can send one nowhere
            else. They are never chosen and never logged.
        peer: the client's address, a Twisted ``IAddress``; behind a trusted proxy the forwarded one, with port 0.
        tls: the client's certificate (an OpenSSL ``X509``), or ``None``.
        method: the HTTP method: ``GET``, ``HEAD`` or ``POST``; always ``GET`` for a WebSocket handshake.
    """

    path: str
    room: str
    query: Mapping[str, tuple[str, ...]] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    host: str
    origin: str | None
    subprotocols: tuple[str, ...]
    bearers: tuple[str, ...] = field(repr=False)
    # Any: types of Twisted and pyOpenSSL, which this module must not import.
    peer: Any
    tls: Any = None  # Any: the same
    method: str = "GET"

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for WebSocket, well-formed or not."""
        return self.method == "GET" and lists(self.headers.get("upgrade", ""), "websocket")

    def accepts(self, media_type: str) -> bool:
        """Whether its ``Accept`` field names a media type; ``*/*`` does not."""
        ranges = self.headers.get("accept", "").split(",")
        return media_type in [each.partition(";")[0].strip().lower() for each in ranges]


def split_host(value: str) -> tuple[str, int | None] | None:
    """Split ``host[:port]`` into a lower-case host and a port, or ``None`` for no port.

    Returns:
        ``None`` when ``value`` is not of that form.
    """
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    port = match["port"]
    return match["host"].lower(), int(port) if port else None


def lists(value: str, item: str) -> bool:
    """Return whether a comma-separated field value has an item, in any case (RFC 9110 section 5.6.1)."""
    return value.lower() == item or item in [each.strip(" \t").lower() for each in value.split(",")]
