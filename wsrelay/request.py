"""HandshakeRequest: one request of a client, as validators see it.

Pure data. Must not live here: parsing (:mod:`wsrelay.http.head`), deciding who may come in (validators).
"""

import re
from codecs import charmap_build, charmap_encode
from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = [
    "BEARER",
    "HOST",
    "MAX_MEMBERS",
    "OPAQUE_BYTES",
    "TOKEN",
    "HandshakeRequest",
    "field_bytes",
    "lists",
    "members",
    "split_host",
]

#: RFC 9110 section 5.6.2, for names that our own response repeats.
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: uri-host [":" port] (RFC 3986 section 3.2.2); groups: host, port.
HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]++\]|[0-9A-Za-z._~-]++)(?::(?P<port>\d{1,5}))?")

#: The most members of a list field, so that a value of commas costs little.
MAX_MEMBERS: Final = 100

#: Prefix of a subprotocol that carries a token, base64url-encoded behind the last dot.
BEARER: Final = "base64url.bearer."

#: The characters of the bytes 0x80-0xff in a field's value: U+F700 + byte, for private use. They are no spaces, line
#: breaks, letters or digits, have no case and no normal form, and can be encoded as UTF-8 and JSON. So a value has the
#: same pieces here and in every other parser, which latin-1 (U+0085 and U+00A0 are spaces) and UTF-8 (U+2028, U+3000)
#: do not give; and no validator fails on it, as on the lone surrogates of "surrogateescape". No collision: values are
#: made of bytes only.
OPAQUE_BYTES: Final = "".join(map(chr, range(0xF780, 0xF800)))

_TO_BYTES: Final = charmap_build("".join(map(chr, range(0x80))) + OPAQUE_BYTES)

#: The fields of a request that can hold no secret.
_SHOWN: Final = ("path", "room", "host", "origin", "subprotocols", "peer", "tls", "method")


class HandshakeRequest(msgspec.Struct, frozen=True):
    """One request: a WebSocket handshake, or plain HTTP. Validators decide on it.

    Immutable. A Struct, because a frozen dataclass takes 15 times as long to make: 3 % of a handshake.

    Attributes:
        path: the canonical path: "/" and the room, percent-decoded.
        room: the room of that path (:func:`wsrelay.names.canonical_room`).
        query: parameter → its values in order; never logged, it may hold tokens. It is parsed when it is first read,
            which raises :class:`~wsrelay.errors.Denied` (400) if it is not UTF-8 or has more than 100 fields.
        headers: lower-case field name → value; one value each, repeated list fields joined by ", ", cookies by "; ".
            A byte above 0x7f is the character U+F700 + byte: see :func:`field_bytes`.
        host: the ``Host`` field, lower-case, with the port if it has one; never empty.
        origin: the ``Origin`` field, or ``None`` (not a browser).
        subprotocols: the offered subprotocols, in the client's order; no duplicates.
        bearers: offered subprotocols that carry a token, ``base64url.bearer.…``: browsers can send one nowhere
            else. They are never chosen and never logged.
        peer: the client's address, a Twisted ``IAddress``; behind a trusted proxy the forwarded one, with port 0.
        tls: the client's certificate (an OpenSSL ``X509``), or ``None``.
        method: the HTTP method: ``GET``, ``HEAD`` or ``POST``; always ``GET`` for a WebSocket handshake. The ``origin``
            validator sees ``OPTIONS``, too.
    """

    path: str
    room: str
    query: Mapping[str, tuple[str, ...]]
    headers: Mapping[str, str]
    host: str
    origin: str | None
    subprotocols: tuple[str, ...]
    bearers: tuple[str, ...]
    # Any: types of Twisted and pyOpenSSL, which this module must not import.
    peer: Any
    tls: Any = None  # Any: the same
    method: str = "GET"

    def __repr__(self) -> str:
        """Return the fields that can hold no secret."""
        return f"HandshakeRequest({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # Any: as Struct declares it
        """Return the same for tracebacks of rich: a struct's own has all fields."""
        return [(name, getattr(self, name)) for name in _SHOWN]

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks for WebSocket, well-formed or not."""
        return self.method == "GET" and lists(self.headers.get("upgrade", ""), "websocket")

    def accepts(self, media_type: str) -> bool:
        """Whether its ``Accept`` field names a media type; ``*/*`` does not."""
        ranges = members(self.headers.get("accept", ""))
        return media_type in [each.partition(";")[0].strip(" \t").lower() for each in ranges]


def split_host(value: str) -> tuple[str, int | None] | None:
    """Split ``host[:port]`` into a lower-case host and a port, or ``None`` for no port.

    Returns:
        ``None`` when ``value`` is not of that form.
    """
    match = HOST.fullmatch(value)
    if match is None:
        return None
    port = match["port"]
    return match["host"].lower(), int(port) if port else None


def members(value: str) -> list[str]:
    """Return the members of a list field's value, without spaces and tabs around them. Empty ones are ignored.

    At most :data:`MAX_MEMBERS` are separated, empty ones included; the rest of the value is one more member.

    Source: RFC 9110 section 5.6.1.2: "not so much that they could be used as a denial-of-service mechanism".
    """
    return [member for each in value.split(",", MAX_MEMBERS) if (member := each.strip(" \t"))]


def lists(value: str, item: str) -> bool:
    """Return whether a list field's value has an item, in any case (RFC 9110 section 5.6.1)."""
    return value.lower() == item or item in members(value.lower())


def field_bytes(value: str) -> bytes:
    """Return the bytes that a client or proxy sent as the value of a field, to decode them by a character set.

    Each byte is the low eight bits of its character, so that other languages need no table.

    Args:
        value: from ``headers``.

    Raises:
        ValueError: a character that no field's value has.
    """
    return charmap_encode(value, "strict", _TO_BYTES)[0]
