"""The fields of a request: from their lines to one value each. Pure.

Three rules, each a table: a field that may come in several lines is joined (:data:`JOINED`), any other one may come
once; a field that decides access, addresses or framing is ASCII (:data:`_ASCII_ONLY`), any other one may have bytes
above 0x7f, each of which becomes an opaque character (:data:`~wsrelay.request.OPAQUE`).

Must not live here: the meaning of a field (:mod:`wsrelay.request`, :mod:`wsrelay.http.head`).
"""

import re
from codecs import charmap_decode
from collections.abc import Mapping
from typing import Final

from wsrelay.errors import Denied
from wsrelay.request import OPAQUE_BYTES

__all__ = ["JOINED", "MAX_FIELDS", "parse_fields"]

#: The most field lines of a request; browsers send some 15, and proxies add as many.
MAX_FIELDS: Final = 100

#: All lines in one match: cheaper than one match per line. RFC 9110 section 5.1: a field name is a token, the colon
#: follows at once; section 5.5: a value is visible ASCII, spaces, tabs and obs-text; RFC 9112 section 5.2: no folding.
_LINES: Final = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+)*+")

#: Why a field may come in several lines, the text that joins them, and the names. Not here although they are lists:
#: fields of framing (Content-Encoding, Transfer-Encoding), and those that a validator may take for an identity or a
#: host (Signature, Client-Cert-Chain, X-Forwarded-User, X-Forwarded-Host).
_LISTS: Final = (
    ("RFC 9110 section 12.5", ", ", "accept accept-charset accept-encoding accept-language"),
    ("RFC 9110 sections 7.6 and 7.8", ", ", "connection upgrade via"),
    ("RFC 9110 sections 6.6.2, 8.5, 10.1 and 13.1", ", ", "trailer content-language expect te if-match if-none-match"),
    ("RFC 9111 sections 5.2, 5.4 and 5.5", ", ", "cache-control pragma warning"),
    ("RFC 2068 section 19.7.1.1", ", ", "keep-alive"),
    ("RFC 6455 sections 11.3.2 and 11.3.4", ", ", "sec-websocket-extensions sec-websocket-protocol"),
    ("RFC 7239 section 4, read by nothing here", ", ", "forwarded"),
    ("RFC 7240 section 2, RFC 9218 section 5", ", ", "prefer priority"),
    ("RFC 8586 section 2", ", ", "cdn-loop"),
    ("RFC 9113 section 8.2.3: HTTP/2 splits it", "; ", "cookie"),
    ("RFC 8288 section 3, RFC 3229 section 10.5.3", ", ", "link a-im"),
    (
        "RFC 3230 section 4.3, RFC 9530",
        ", ",
        "digest want-digest content-digest repr-digest want-content-digest want-repr-digest",
    ),
    ("structured lists of User-Agent Client Hints", ", ", "sec-ch-ua sec-ch-ua-full-version-list"),
    ("Fetch Standard, CORS protocol", ", ", "access-control-request-headers"),
    ("W3C Trace Context section 3.3.1, W3C Baggage section 3.1", ", ", "tracestate baggage"),
    ("no RFC; proxies add a line; identifies no client", ", ", "x-request-id x-correlation-id"),
    ("no RFC; proxies add a line: HAProxy's add-header", ", ", "x-forwarded-proto x-forwarded-port"),
    ("no RFC; proxies add a line; read from right to left", ", ", "x-forwarded-for"),
)

#: Name of a field that may come in several lines → the text that joins their values.
JOINED: Final[Mapping[str, str]] = {name: joiner for _, joiner, names in _LISTS for name in names.split()}

#: Fields that decide access, addresses or framing.
_ASCII_ONLY: Final = re.compile(
    "authorization|connection|content-(encoding|length|type)|expect|forwarded|host|http2-settings|keep-alive|origin"
    "|proxy-(authorization|connection)|te|trailer|transfer-encoding|upgrade|x-real-ip"
    "|(access-control|sec|wsrelay|x-forwarded)-.*"
)

#: Byte → character.
_CHARACTERS: Final = "".join(map(chr, range(0x80))) + OPAQUE_BYTES

#: The most characters of a field's name in a reason.
_REASON_CHARS: Final = 32


def parse_fields(head: bytes, start: int) -> dict[str, str]:
    """Parse the fields of a request strictly.

    Args:
        head: from :func:`wsrelay.http.head.split_head`.
        start: the end of the request line.

    Returns:
        Lower-case field name → value, without spaces and tabs around it; one value each.

    Raises:
        Denied: 400 for a malformed line, a repeated field that is not in :data:`JOINED`, or a byte above 0x7f where
            only ASCII is taken; the reason names the field. 431 for more lines than :data:`MAX_FIELDS`.

    Complexity:
        Linear in the length of ``head``.
    """
    if head.count(b"\r\n", start) > MAX_FIELDS:
        raise Denied(431, f"the request has more than {MAX_FIELDS} header fields")
    if _LINES.fullmatch(head, start) is None:
        raise Denied(400, "a header line is malformed")
    if not head.isascii():
        return _join(charmap_decode(head[start:], "strict", _CHARACTERS)[0].split("\r\n")[1:])
    lines = head[start:].decode("ascii").split("\r\n")[1:]
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()  # of ASCII, _LINES lets spaces and tabs through only
    return fields if len(fields) == len(lines) else _join(lines)


def _join(lines: list[str]) -> dict[str, str]:
    """Join the lines of each field; refuse those that may not be repeated, or must be ASCII."""
    values: dict[str, list[str]] = {}
    for line in lines:
        written, _, value = line.partition(":")
        name = written.lower()
        if name in values and name not in JOINED:
            raise Denied(400, f"the field {written[:_REASON_CHARS]} comes more than once")
        if not value.isascii() and _ASCII_ONLY.fullmatch(name):
            raise Denied(400, f"the field {written[:_REASON_CHARS]} has a byte above 0x7f: write ASCII")
        values.setdefault(name, []).append(value.strip(" \t"))
    return {name: each[0] if len(each) == 1 else JOINED[name].join(each) for name, each in values.items()}
