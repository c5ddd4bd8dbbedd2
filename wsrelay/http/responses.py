"""The HTTP responses to a handshake: 101, and the refusals.

Pure. Must not live here: deciding which one (:mod:`wsrelay.validators.chain`), writing it (connection).
"""

import re
from base64 import b64encode
from hashlib import sha1
from http import HTTPStatus
from typing import Final

from wsrelay.errors import Denied

__all__ = ["acceptance", "refusal"]

#: The most characters of a reason that are sent; more is a validator's mistake.
MAX_REASON_CHARS: Final = 200

#: RFC 9110 section 5.5: what a field of ours may hold; no CR or LF can get in.
_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e]*")

#: RFC 6455 section 1.3: what the key is hashed with.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def acceptance(
    key: str, subprotocol: str | None = None, extension: str | None = None, number: int | None = None
) -> bytes:
    """Return the HTTP response to a granted handshake.

    Args:
        key: the ``Sec-WebSocket-Key`` field.
        subprotocol: one of those offered, or ``None``.
        extension: what the response's ``Sec-WebSocket-Extensions`` says, or ``None``.
        number: the connection's, where its client can use it: for :data:`wsrelay.http.site.EXCEPT`.

    Source: RFC 6455 section 4.2.2.
    """
    accept = b64encode(sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()).decode("ascii")
    chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    agreed = "" if extension is None else f"Sec-WebSocket-Extensions: {extension}\r\n"
    numbered = "" if number is None else f"Wsrelay-Connection: {number}\r\n"
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}{agreed}{numbered}\r\n"
    ).encode("ascii")


def refusal(denied: Denied) -> bytes:
    """Return the HTTP response to a refused handshake.

    Text that is no printable ASCII comes from a validator's mistake and is mended here, so that no line break
    ever gets into the response (TRAPS 12).

    Peer sees:
        The status, ``Content-Length``, ``Connection: close``, and the reason as a line of plain text.
    """
    reason = re.sub(r"[^\x20-\x7e]", "?", str(denied.reason))[:MAX_REASON_CHARS]
    fields = [f"{name}: {value}" for name, value in denied.headers]
    body = f"{reason}\n"
    lines = [
        f"HTTP/1.1 {denied.status} {_PHRASES.get(denied.status, 'Refused')}",
        *(field for field in fields if _FIELD.fullmatch(field)),
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        body,
    ]
    return "\r\n".join(lines).encode("ascii")


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
