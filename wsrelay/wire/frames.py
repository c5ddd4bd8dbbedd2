"""RFC 6455 framing: a message as the bytes of one frame, and the common frames of clients as such messages.

Pure functions of bytes. Must not live here: state, uncommon frames (connection, which leaves them to Autobahn).

A *frame* is what goes to subscribers, unmasked and whole. An *encoding* makes of a plain frame the one that a
subscriber gets: :func:`plain`, or a :class:`wsrelay.wire.deflate.Deflate` for those that negotiated permessage-deflate.
It is called once per message, and all these subscribers share the frame.
"""

from collections.abc import Callable
from typing import Final

from wsrelay.wire.inflate import inflate

__all__ = [
    "BINARY",
    "CLOSE",
    "MAX_CONTROL_BYTES",
    "PARSED_BYTES",
    "TEXT",
    "Encoding",
    "encode",
    "opcode_of",
    "parse",
    "payload_of",
    "plain",
]

#: Opcodes (RFC 6455 section 5.2).
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8

#: The most bytes of a control frame's payload (RFC 6455 section 5.5).
MAX_CONTROL_BYTES: Final = 125

#: The longest payload that :func:`parse` unmasks. From here on the C masker behind Autobahn's parser, which costs
#: some 20 µs a frame, is faster than arithmetic (1.4 ns a byte).
PARSED_BYTES: Final = 4096

#: Makes a subscriber's frame of a plain one; compared by identity.
Encoding = Callable[[bytes], bytes]

_FIN: Final = 0x80
#: RSV1 marks a compressed message (RFC 7692 section 6).
_RSV1: Final = 0x40
_WHOLE_TEXT: Final = _FIN | TEXT
#: The first bytes of frames that are a whole uncompressed message.
_WHOLE: Final = (_WHOLE_TEXT, _FIN | BINARY)

#: The same for those that are a whole compressed message.
_WHOLE_DEFLATED: Final = (_RSV1 | _WHOLE_TEXT, _RSV1 | _FIN | BINARY)

_MASKED: Final = 0x80
_MASKED_HEADER_BYTES: Final = 6
#: The length that says that the next 16 bits are the length.
_LENGTH_16: Final = 126

#: A read of 64 KiB may inflate to 60 MiB: this much is parsed at a time.
_ENOUGH_BYTES: Final = 2**20


def encode(opcode: int, payload: bytes) -> bytes:
    """Return one unmasked, unfragmented frame. A server does not mask (RFC 6455 section 5.1).

    Args:
        opcode: :data:`TEXT` or :data:`BINARY`.
        payload: of any length; for text it is UTF-8 already, which is not checked again.
    """
    return _header(_FIN | opcode, len(payload)) + payload


def plain(frame: bytes) -> bytes:
    """Return the frame as it is: the encoding of subscribers without permessage-deflate."""
    return frame


def opcode_of(frame: bytes) -> int:
    """Return the opcode of a frame that :func:`encode` made."""
    return frame[0] & 0x0F


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a frame that :func:`encode` made."""
    length = frame[1]
    return frame[4:] if length == 126 else frame[10:] if length == 127 else frame[2:]


def parse(data: bytes, max_payload_bytes: int, *, deflated: bool = False) -> tuple[list[bytes], int]:
    """Read the common frames that the data begins with: whole, masked, unfragmented, short, with valid text.

    It stops after a MiB, so that inflated messages are published before more are inflated. It also stops at any other
    frame, an incomplete or a wrong one included: those are left to Autobahn. Nothing may be accepted here that Autobahn
    rejects (``tests/connection/test_fast_path.py`` compares the two).

    Args:
        data: what a client sent, from the beginning of a frame on, outside a fragmented message.
        max_payload_bytes: of a message, inflated; a longer one ends it, too.
        deflated: whether permessage-deflate was agreed on, without context.

    Returns:
        The frames as subscribers get them, plain, and where in ``data`` the first one begins that was not read.

    Complexity:
        0.5 µs for a frame of 64 bytes, a thirtieth of what Autobahn's parser takes (TRAPS 4).
    """
    frames: list[bytes] = []
    longer_bytes = 0
    at, end, shortest = 0, len(data), min(max_payload_bytes, _LENGTH_16 - 1)
    while end - at >= _MASKED_HEADER_BYTES:
        first, length = data[at], data[at + 1] - _MASKED
        begin = at + _MASKED_HEADER_BYTES
        behind = begin + length
        if not 0 <= length <= shortest or first not in _WHOLE:
            longer = _parse_longer(data, at, max_payload_bytes, deflated)
            if longer is None:
                break
            frame, at = longer
            frames.append(frame)
            longer_bytes += len(frame)
            if longer_bytes > _ENOUGH_BYTES:
                break
            continue
        if behind > end:
            break
        # For payloads this short, integers unmask faster than a call into C does (TRAPS 4). "big" is their default.
        keystream = int.from_bytes(data[begin - 4 : begin]) * _ONES[length] >> 8 * (-length & 3)
        payload = (int.from_bytes(data[begin:behind]) ^ keystream).to_bytes(length)
        if first == _WHOLE_TEXT and not payload.isascii() and not _is_utf8(payload):
            break
        frames.append(_SHORT_HEADERS[first][length] + payload)
        at = behind
    return frames, at


def _parse_longer(data: bytes, at: int, max_payload_bytes: int, deflated: bool) -> tuple[bytes, int] | None:
    """Read a common frame that is not short and plain; return it and where the next begins, ``None`` if it is none."""
    first, length, begin = data[at], data[at + 1] - _MASKED, at + _MASKED_HEADER_BYTES
    if length == _LENGTH_16:
        length, begin = int.from_bytes(data[at + 2 : at + 4]), begin + 2
        if length < _LENGTH_16:  # not in the shortest form
            return None
    elif length > _LENGTH_16:  # in 64 bits
        return None
    behind = begin + length
    known = first in _WHOLE or (deflated and first in _WHOLE_DEFLATED)
    if not known or not 0 <= length <= min(max_payload_bytes, PARSED_BYTES) or behind > len(data):
        return None
    keystream = (data[begin - 4 : begin] * (length // 4 + 1))[:length]
    payload = (int.from_bytes(data[begin:behind]) ^ int.from_bytes(keystream)).to_bytes(length)
    if first & _RSV1:
        first ^= _RSV1
        inflated = inflate(payload, max_payload_bytes)
        if inflated is None:
            return None
        payload = inflated
    if first == _WHOLE_TEXT and not _is_utf8(payload):
        return None
    return _header(first, len(payload)) + payload, behind


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _header(first: int, length: int) -> bytes:
    # RFC 6455 section 5.2: the shortest of 7, 7+16 and 7+64 bits.
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")


#: Factors that turn a key into the keystream of a short payload, rounded up to whole keys: 1, 1 << 32 | 1 and so on.
_ONES: Final = [int.from_bytes(b"\0\0\0\1" * ((length + 3) // 4)) for length in range(_LENGTH_16)]

#: Made once, because this is on the path of every message.
_SHORT_HEADERS: Final = {first: [_header(first, length) for length in range(_LENGTH_16)] for first in _WHOLE}
