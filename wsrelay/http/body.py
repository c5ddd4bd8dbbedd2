"""Request bodies: by length, or in chunks, which h11 decodes. This module bounds the size and the chunks. Pure.

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

__all__ = ["CHUNK_BYTES", "FREE_CHUNKS", "MAX_FRAMING_BYTES", "STRETCH_CHUNKS", "Body", "too_long"]

#: Bytes that framing (chunk sizes, chunk extensions, trailer fields) may add to twice the longest body.
MAX_FRAMING_BYTES: Final = 65536

#: The most chunks of a body, beside one for each :data:`CHUNK_BYTES` of its content. A chunk costs 6 µs, whatever its
#: size; lines of a hundred bytes, each sent as it is written, stay below.
FREE_CHUNKS: Final = 4096

#: The least size of chunks, on average, in a body of many.
CHUNK_BYTES: Final = 64

#: The most chunks that one :meth:`Body.read` decodes: 0.4 ms.
STRETCH_CHUNKS: Final = 64

_LENGTH: Final = re.compile(r"[0-9]{1,18}")


class Body:
    """The body of one request.

    Args:
        headers: the request's fields, from :func:`wsrelay.http.head.parse_head`.
        max_bytes: the longest body.

    Raises:
        Denied: 411 without a framing field; 400 for two of them, or a malformed one; 413 for a ``Content-Length``
            above ``max_bytes``.

    Attributes:
        chunks: the number of chunks that have been decoded.
        is_behind: whether :meth:`read` has left chunks undecoded, and must be called again in a later turn.
    """

    __slots__ = ("_content", "_decoder", "_length", "_max_bytes", "chunks", "is_behind")

    def __init__(self, headers: Mapping[str, str], max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._content = bytearray()
        self._length = _length(headers)
        self._check_size(self._length or 0)
        self.chunks = 0
        self.is_behind = False
        self._decoder: h11.Connection | None = None
        if self._length is None:
            self._decoder = h11.Connection(h11.SERVER)
            self._decoder.receive_data(b"POST / HTTP/1.1\r\nHost: -\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._decoder.next_event()  # the request

    def receive(self, data: bytes) -> None:
        """Take bytes from behind the head, without looking at them; the caller bounds their number."""
        if self._decoder is None:
            self._content += data
        elif data:  # h11 takes an empty string for the end of TCP
            self._decoder.receive_data(data)

    def read(self) -> bytes | None:
        """Return the body; ``None`` while it is incomplete, or not decoded. Not called again after that.

        Bytes behind the body are dropped.

        Raises:
            Denied: 400 for malformed or too many chunks, 413 for a body above ``max_bytes``.

        Source: RFC 9112 sections 6 and 7.1.
        """
        if self._decoder is not None and not self._decode(self._decoder):
            return None
        if self._length is not None and len(self._content) < self._length:
            return None
        return bytes(self._content[: self._length])

    def _decode(self, decoder: h11.Connection) -> bool:
        """Take the content out of some chunks; return whether the last one has come."""
        self.is_behind = False
        try:
            for _ in range(STRETCH_CHUNKS):
                event = decoder.next_event()
                if not isinstance(event, h11.Data):
                    return isinstance(event, h11.EndOfMessage)
                self._content += event.data
                self.chunks += event.chunk_start
                self._check_size(len(self._content))
        except h11.RemoteProtocolError:
            raise Denied(400, "the chunks of the body are malformed", cause="malformed") from None
        if self.chunks > FREE_CHUNKS + len(self._content) // CHUNK_BYTES:
            reason = "the body has too many small chunks; send larger ones, or a Content-Length"
            raise Denied(400, reason, cause="malformed")
        self.is_behind = True
        return False

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
