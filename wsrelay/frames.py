"""RFC 6455 framing from server to client: a message as the bytes of one frame.

Pure functions of bytes. Sending, state and the frames that come *in* are the protocol's (and Autobahn's).

An *encoding* is an int: :data:`PLAIN` (0), or one of :data:`WINDOW_BITS`, for a subscriber that negotiated
permessage-deflate. One frame per message and encoding is made, and shared by all who need it.
"""

import zlib
from typing import Final

__all__ = [
    "BINARY",
    "CLOSE",
    "MAX_CONTROL_BYTES",
    "PLAIN",
    "TEXT",
    "WINDOW_BITS",
    "encode",
    "encode_deflated",
    "payload_of",
]

#: Opcodes (RFC 6455 section 5.2).
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8

#: The most bytes of a control frame's payload (RFC 6455 section 5.5).
MAX_CONTROL_BYTES: Final = 125

#: The windows that messages are deflated for; a client that allows one between gets the next smaller. Fewer than there
#: could be, because a message in a log may be kept once more for each.
WINDOW_BITS: Final = (9, 12, 15)

#: The encoding of a subscriber without permessage-deflate.
PLAIN: Final = 0

_FIN: Final = 0x80
#: RSV1 marks a compressed message (RFC 7692 section 6).
_RSV1: Final = 0x40

#: What a deflate sync flush ends with; taken off again (RFC 7692 section 7.2.1).
_TAIL: Final = b"\x00\x00\xff\xff"


def encode(opcode: int, payload: bytes) -> bytes:
    """Return one unmasked, unfragmented frame. A server does not mask (RFC 6455 section 5.1).

    Args:
        opcode: :data:`TEXT` or :data:`BINARY`.
        payload: of any length; for text it is UTF-8 already, which is not checked again.
    """
    return _header(_FIN | opcode, len(payload)) + payload


def encode_deflated(opcode: int, payload: bytes, window_bits: int) -> bytes:
    """Return one compressed frame that any subscriber with at least that window can decode.

    It is made without context: no bytes of an earlier message are referred to, so that the same frame fits
    every connection, provided that none of them is ever sent a frame with context (TRAPS 6).

    Args:
        opcode: :data:`TEXT` or :data:`BINARY`.
        payload: of any length.
        window_bits: 9-15, no more than the ``server_max_window_bits`` agreed with the subscriber.

    Source: RFC 7692 sections 7.2.1 and 7.2.3.
    """
    compressor = zlib.compressobj(wbits=-window_bits)
    deflated = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    deflated = deflated.removesuffix(_TAIL)
    return _header(_FIN | _RSV1 | opcode, len(deflated)) + deflated


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a frame that :func:`encode` made."""
    length = frame[1]
    return frame[4:] if length == 126 else frame[10:] if length == 127 else frame[2:]


def _header(first: int, length: int) -> bytes:
    # RFC 6455 section 5.2: the shortest of 7, 7+16 and 7+64 bits.
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")
