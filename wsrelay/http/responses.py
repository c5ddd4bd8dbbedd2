"""HTTP responses as bytes: the 101, refusals, also as a close frame, answers, and the security fields. Pure.

Must not live here: which response (:mod:`wsrelay.validators.chain`, :mod:`wsrelay.http.site`,
:mod:`wsrelay.admin.routes`), writing it (the connection).
"""

import re
from binascii import b2a_base64
from collections.abc import Iterable
from hashlib import sha1
from http import HTTPStatus
from typing import Final

from wsrelay import closecodes
from wsrelay.errors import Denied
from wsrelay.http.head import handshake_key
from wsrelay.request import HandshakeRequest
from wsrelay.wire import frames

__all__ = [
    "HEAD",
    "MAX_REASON_CHARS",
    "PRIVATE_FIELDS",
    "SAFE_FIELDS",
    "acceptance",
    "content_policy",
    "explained_refusal",
    "head",
    "refusal",
    "response",
]

#: The first bytes of a request whose response has no content.
HEAD: Final = b"HEAD "

#: On every answer: no cache may keep it, no browser may guess its type.
SAFE_FIELDS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))

#: On every answer and refusal of the admin endpoint: besides, no other site may embed it or learn its URL.
PRIVATE_FIELDS: Final = (
    *SAFE_FIELDS,
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)

#: The most characters of a reason that are sent and logged; a longer one is a validator's mistake.
MAX_REASON_CHARS: Final = 200

#: RFC 9110 section 5.5: the characters of a response field; no CR or LF can get in.
_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e]*")

#: Fields of a refusal's content, in lower case. Twice, they would let two parsers end the response at different bytes.
_CONTENT_FIELDS: Final = frozenset(["content-encoding", "content-length", "content-type", "transfer-encoding"])

#: What a reason must not have.
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")

#: The first bytes of every 101.
_ACCEPTANCE: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)

#: RFC 6455 section 1.3: hashed together with the key.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def acceptance(
    key: str, subprotocol: str | None = None, extension: str | None = None, handle: str | None = None
) -> bytes:
    """Return the HTTP response to a granted handshake.

    Args:
        key: the ``Sec-WebSocket-Key`` field.
        subprotocol: an offered one, or ``None``.
        extension: the value of ``Sec-WebSocket-Extensions``, or ``None``.
        handle: the connection's handle, for :data:`wsrelay.http.site.EXCEPT`; ``None`` without ``--http``.

    Source: RFC 6455 section 4.2.2.
    """
    accept = b2a_base64(sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest(), newline=False)
    chosen = "" if subprotocol is None else f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    agreed = "" if extension is None else f"Sec-WebSocket-Extensions: {extension}\r\n"
    named = "" if handle is None else f"Wsrelay-Connection: {handle}\r\n"
    return b"".join((_ACCEPTANCE, accept, b"\r\n", f"{chosen}{agreed}{named}\r\n".encode("ascii")))


def refusal(denied: Denied, fields: Iterable[tuple[str, str]] = (), *, is_head: bool = False) -> bytes:
    """Return the HTTP response to a refused request.

    Bytes other than printable ASCII are a validator's mistake and are mended here, so that no line break
    ever gets into the response (TRAPS 12).

    Args:
        denied: status, reason and fields; those about the content are left out.
        fields: more fields; those that ``denied`` has, too, are left out.
        is_head: whether the request was HEAD.

    Peer sees:
        The status, :data:`SAFE_FIELDS`, ``Content-Length``, ``Connection: close``, and the reason as a line of plain
        text; not for HEAD: the client would read it as its next response (RFC 9112 section 6.3).
    """
    reason = _reason(denied)
    text = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(reason) + 1}\r\n"
    content = b"" if is_head else f"{reason}\n".encode("ascii")
    theirs = [field for field in denied.headers if field[0].lower() not in _CONTENT_FIELDS]
    given = {name.lower() for name, _ in theirs}
    # SAFE_FIELDS because the reason may quote the client: no browser may take it for markup.
    more = dict.fromkeys(field for field in (*SAFE_FIELDS, *fields) if field[0].lower() not in given)
    return head(denied.status, (*theirs, *more), text) + content


def explained_refusal(denied: Denied, request: HandshakeRequest) -> bytes | None:
    """Return the refusal of a WebSocket handshake in a form that pages can read; ``None`` if the request is none.

    Browsers tell a page neither status nor reason of a refused handshake (WebSockets, section "Feedback from the
    protocol"), but those of a close. Chromium fails a handshake of whose offered subprotocols none is chosen, so one
    is; not a token.

    Args:
        denied: status and reason.
        request: the refused request.

    Peer sees:
        The 101, and behind it a close frame with 4000 and the status, and the reason, cut to 123 bytes.
    """
    key = handshake_key(request)
    if key is None:
        return None
    close = closecodes.for_status(denied.status, _reason(denied))
    accepted = acceptance(key, next(iter(request.subprotocols), None))
    return accepted + frames.close(close.code, close.reason_bytes())


def _reason(denied: Denied) -> str:
    """Return the reason of a refusal, mended: see :func:`refusal`."""
    return _UNPRINTABLE.sub("?", str(denied.reason))[:MAX_REASON_CHARS]


def response(status: int, fields: Iterable[tuple[str, str]], body: bytes, *, is_head: bool = False) -> bytes:
    """Return a whole response, the last one on its connection.

    Args:
        status: the HTTP status. 204 has neither a body nor a length (RFC 9110 section 8.6).
        fields: the fields, without ``Content-Length`` and ``Connection``.
        body: the body.
        is_head: whether the request was HEAD: the body's length is given, the body is not.
    """
    if status == HTTPStatus.NO_CONTENT:
        return head(status, fields)
    return head(status, fields, f"Content-Length: {len(body)}\r\n") + (b"" if is_head else body)


def head(status: int, fields: Iterable[tuple[str, str]], lines: str = "") -> bytes:
    """Return the head of a response, blank line included.

    Args:
        status: the HTTP status.
        fields: the fields; those with forbidden characters are left out.
        lines: more fields, as lines of ours that need no check.
    """
    lines_of = [f"{name}: {value}" for name, value in fields if ":" not in name]
    checked = [f"{line}\r\n" for line in lines_of if _FIELD.fullmatch(line)]
    phrase = _PHRASES.get(status, "Refused")
    return f"HTTP/1.1 {status} {phrase}\r\n{''.join(checked)}{lines}Connection: close\r\n\r\n".encode("ascii")


def content_policy(*sources: str) -> str:
    """Return a Content-Security-Policy that allows nothing but ``sources``. Source: CSP Level 3."""
    return "; ".join(
        ["default-src 'none'", *sources, "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]
    )


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
