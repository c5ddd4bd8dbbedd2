"""Inflating the payload of one message (RFC 7692), without context.

Must not live here: frames (:mod:`wsrelay.wire.frames`), messages in fragments (:mod:`wsrelay.connection.deflate`).
"""

import zlib
from typing import Final

__all__ = ["TAIL", "inflate"]

#: The end of a deflate sync flush; a sender removes it (RFC 7692 section 7.2.1).
TAIL: Final = b"\x00\x00\xff\xff"


def inflate(payload: bytes, max_bytes: int) -> bytes | None:
    """Return the inflated payload of a message, or ``None`` where that is an error or too long."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than may be: zlib stops there without a word.
        inflated = decompressor.decompress(payload, max_bytes + 1)
        unfinished = decompressor.decompress(TAIL)
    except zlib.error:
        return None
    # eof: a final block, which RFC 7692 section 7.2.3.4 allows, is rare enough to leave to Autobahn.
    return None if len(inflated) > max_bytes or unfinished or decompressor.eof else inflated
