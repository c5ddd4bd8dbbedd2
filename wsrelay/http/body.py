"""Request bodies: by length, or in chunks, which h11 decodes. This module bounds the size. Pure.

h11 does not read the client's head a second time. It gets a request line and the one framing field that the strict
parser (:mod:`wsrelay.http.head`) accepted, then the bytes behind the head. So two parsers cannot disagree. A body by
length needs no parser; h11 would add two thirds to the cost of a POST.

h11 rather than twisted.web: it is sans-I/O, so chunks take one object and one loop. ``HTTPChannel`` needs a subclass,
a subclass of ``Request``, and a transport of ours around the connection, and would write long bodies to the disk.

Must not live here: the methods with a body (:mod:`wsrelay.http.site`), deadlines (connection).
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

    __slots__ = ("_chunks", "_content", "_length", "_max_bytes")

    def __init__(self, headers: Mapping[str, str], max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._length = _length(headers)
        self._check_size(self._length or 0)
        self._chunks: h11.Connection | None = None
        if self._length is None:
            self._chunks = h11.Connection(h11.SERVER)
            self._chunks.receive_data(b"POST / HTTP/1.1\r\nHost: -\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._chunks.next_event()  # the request

    def receive(self, data: bytes) -> None:
        """Take bytes from behind the head, without looking at them; the caller bounds their number."""
        if self._chunks is None:
            self._content += data
        elif data:  # h11 takes an empty string for the end of TCP
            self._chunks.receive_data(data)

    def read(self) -> bytes | None:
        """Return the body; ``None`` while it is incomplete. Bytes behind it are dropped. Not called again after that.

        Raises:
            Denied: 400 for malformed chunks, 413 for a body above ``max_bytes``.

        Source: RFC 9112 sections 6 and 7.1.
        """
        if self._chunks is not None and not self._decode(self._chunks):
            return None
        if self._length is not None and len(self._content) < self._length:
            return None
        return bytes(self._content[: self._length])

    def _decode(self, chunks: h11.Connection) -> bool:
        """Take the content out of the chunks; return whether the last one has come."""
        try:
            while isinstance(event := chunks.next_event(), h11.Data):
                self._content += event.data
                self._check_size(len(self._content))
        except h11.RemoteProtocolError:
            raise Denied(400, "the chunks of the body are malformed", cause="malformed") from None
        return isinstance(event, h11.EndOfMessage)

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise too_long(self._max_bytes)


def too_long(max_bytes: int) -> Denied:
    """Return the refusal of a body above ``max_bytes``."""
    return Denied(413, f"a message may have {max_bytes} bytes at most", cause="max_message_bytes")


def _length(headers: Mapping[str, str]) -> int | None:
    """Return the length of the body, ``None`` for chunks; raise ``Denied`` where it is unclear."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if (length is None) == (coding is None):
        raise Denied(411 if length is None else 400, "give a Content-Length, or send chunks", cause="malformed")
    if coding is not None and coding.lower() != "chunked":
        raise Denied(400, "the Transfer-Encoding must be chunked", cause="malformed")
    if length is not None and not _LENGTH.fullmatch(length):
        raise Denied(400, "the Content-Length is malformed", cause="malformed")
    return None if length is None else int(length)
