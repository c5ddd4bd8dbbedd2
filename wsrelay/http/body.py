"""Request bodies: h11 removes the framing, this module bounds the size. Pure.

h11 does not read the client's head a second time. It gets a request line and the one framing field that the strict
parser (:mod:`wsrelay.http.head`) accepted, then the bytes behind the head. So two parsers cannot disagree.

h11 rather than twisted.web: it is sans-I/O, so a body takes one object and one loop. ``HTTPChannel`` needs a subclass,
a subclass of ``Request``, and a transport of ours around the connection, and would write long bodies to the disk.

Must not live here: who may send a body (:mod:`wsrelay.http.site`), deadlines (connection).
"""

import re
from collections.abc import Mapping
from typing import Final

import h11

from wsrelay.errors import Denied

__all__ = ["MAX_FRAMING_BYTES", "Body", "too_long"]

#: Bytes that framing (chunk sizes, chunk extensions, trailer fields) may add to twice the longest body.
MAX_FRAMING_BYTES: Final = 65536

_LENGTH: Final = re.compile(r"[0-9]{1,18}")


class Body:
    """The body of one request.

    Args:
        headers: the request's fields, from :func:`wsrelay.http.head.parse_head`.
        max_bytes: the longest body.

    Raises:
        Denied: 411 without a framing field; 400 for two of them, or a malformed one; 413 for a ``Content-Length``
            above ``max_bytes``.
    """

    __slots__ = ("_content", "_max_bytes", "_reader")

    def __init__(self, headers: Mapping[str, str], max_bytes: int) -> None:
        framing = _framing(headers)
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._check_size(int(headers.get("content-length", 0)))
        self._reader = h11.Connection(h11.SERVER)
        self._reader.receive_data(f"POST / HTTP/1.1\r\nHost: -\r\n{framing}\r\n\r\n".encode("ascii"))
        self._reader.next_event()  # the request

    def receive(self, data: bytes) -> None:
        """Take bytes from behind the head, without looking at them; the caller bounds their number."""
        if data:  # h11 takes an empty string for the end of TCP
            self._reader.receive_data(data)

    def read(self) -> bytes | None:
        """Return the body, once; ``None`` while it is incomplete. Bytes behind it stay unread.

        Raises:
            Denied: 400 for malformed chunks, 413 for a body above ``max_bytes``.

        Source: RFC 9112 sections 6 and 7.1.
        """
        try:
            while isinstance(event := self._reader.next_event(), h11.Data):
                self._content += event.data
                self._check_size(len(self._content))
        except h11.RemoteProtocolError:
            raise Denied(400, "the chunks of the body are malformed", cause="malformed") from None
        return bytes(self._content) if isinstance(event, h11.EndOfMessage) else None

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise too_long(self._max_bytes)


def too_long(max_bytes: int) -> Denied:
    """Return the refusal of a body above ``max_bytes``."""
    return Denied(413, f"a message may have {max_bytes} bytes at most", cause="max_message_bytes")


def _framing(headers: Mapping[str, str]) -> str:
    """Return the one field that frames the body; raise ``Denied`` where the length is unclear."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if (length is None) == (coding is None):
        raise Denied(411 if length is None else 400, "give a Content-Length, or send chunks", cause="malformed")
    if length is None:
        if coding is not None and coding.lower() != "chunked":
            raise Denied(400, "the Transfer-Encoding must be chunked", cause="malformed")
        return "Transfer-Encoding: chunked"
    if not _LENGTH.fullmatch(length):
        raise Denied(400, "the Content-Length is malformed", cause="malformed")
    return f"Content-Length: {length}"
