"""RFC 6455 framing: a message as the bytes of one frame, and the common frames of clients as such messages.

Pure functions of bytes. Must not live here: state, uncommon frames (connection, which leaves them to Autobahn).

A *frame* is what goes to subscribers, unmasked and whole. An *encoding* makes of a plain frame the one that a
subscriber gets: :func:`plain`, or a :class:`wsrelay.wire.deflate.Deflate` for those that negotiated permessage-deflate.
It is called once per message, and all these subscribers share the frame.
"""

from typing import Final, Protocol

from wsrelay.wire import native
from wsrelay.wire.inflate import inflate
from wsrelay.wire.pure import is_utf8

__all__ = [
    "BINARY",
    "CLOSE",
    "COMMON",
    "DEFLATED",
    "MAX_CONTROL_BYTES",
    "MOST_BYTES",
    "PARSED_BYTES",
    "TEXT",
    "Encoding",
    "close",
    "encode",
    "opcode_of",
    "parse",
    "payload_of",
    "plain",
    "split",
]

#: Opcodes (RFC 6455 section 5.2).
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8

#: Beside the opcodes, which are bits as well: compressed messages, for :func:`parse`.
DEFLATED: Final = 4

#: All of these kinds.
COMMON: Final = TEXT | BINARY | DEFLATED

#: The most bytes of a control frame's payload (RFC 6455 section 5.5).
MAX_CONTROL_BYTES: Final = 125

#: The longest payload that :func:`parse` unmasks: a read has no longer one. In pure Python, from here on the C masker
#: behind Autobahn's parser, which costs some 20 µs a frame, is faster than arithmetic (1.4 ns a byte).
PARSED_BYTES: Final = 65536 if native.IS_COMPILED else 4096

_FIN: Final = 0x80
#: RSV1 marks a compressed message (RFC 7692 section 6).
_RSV1: Final = 0x40
_WHOLE_TEXT: Final = _FIN | TEXT
_BINARY_BEGIN: Final = bytes((_FIN | BINARY,))

_MASKED: Final = 0x80
_MASKED_HEADER_BYTES: Final = 6
_MOST_HEADER_BYTES: Final = 14
#: The length that says that the next 16 bits are the length.
_LENGTH_16: Final = 126

#: How much of a read is looked at behind a compressed message and one plain one: each look copies it.
_PART_BYTES: Final = 4096

#: Where :func:`parse` stops, behind the message that reaches it: a read of 64 KiB may inflate to 60 MiB, and one write
#: of what was parsed is to be bounded.
MOST_BYTES: Final = 2**16


class Encoding(Protocol):
    """Makes a subscriber's frame of a plain one; compared by identity."""

    def __call__(self, frame: bytes, identity: object = None, /) -> bytes:
        """Return the frame.

        Args:
            frame: a plain one.
            identity: the id of its message, in a room with history.
        """


def encode(opcode: int, payload: bytes) -> bytes:
    """Return one unmasked, unfragmented frame. A server does not mask (RFC 6455 section 5.1).

    Args:
        opcode: :data:`TEXT` or :data:`BINARY`.
        payload: of any length; for text it is UTF-8 already, which is not checked again.
    """
    return _header(_FIN | opcode, len(payload)) + payload


def close(code: int, reason: bytes) -> bytes:
    """Return an unmasked close frame.

    Args:
        code: the close code.
        reason: UTF-8, at most 123 bytes.

    Source: RFC 6455 section 5.5.1.
    """
    return _header(_FIN | CLOSE, 2 + len(reason)) + code.to_bytes(2, "big") + reason


def plain(frame: bytes, _identity: object = None, /) -> bytes:
    """Return the frame as it is: the encoding of subscribers without permessage-deflate."""
    return frame


def opcode_of(frame: bytes) -> int:
    """Return the opcode of a frame that :func:`encode` made."""
    return frame[0] & 0x0F


def payload_of(frame: bytes) -> bytes:
    """Return the payload of a frame that :func:`encode` made."""
    length = frame[1]
    return frame[4:] if length == 126 else frame[10:] if length == 127 else frame[2:]


def offset_of(frames: bytes, count: int) -> int:
    """Return where the frame with a number, from 0, begins in joined frames that :func:`encode` made.

    Complexity:
        That of the frames before it, 0.1 µs each.
    """
    at = 0
    for _ in range(count):
        length = frames[at + 1]
        if length < _LENGTH_16:
            at += 2 + length
        else:
            wide = 2 if length == _LENGTH_16 else 8
            at += 2 + wide + int.from_bytes(frames[at + 2 : at + 2 + wide])
    return at


def split(frames: bytes) -> list[bytes]:
    """Return each of several joined frames that :func:`encode` made.

    Complexity:
        That of the frames, 0.3 µs each.
    """
    found: list[bytes] = []
    at = 0
    while at < len(frames):
        length, begin = frames[at + 1], at + 2
        if length >= _LENGTH_16:
            wide = 2 if length == _LENGTH_16 else 8
            length, begin = int.from_bytes(frames[begin : begin + wide]), begin + wide
        found.append(frames[at : begin + length])
        at = begin + length
    return found


def parse(data: bytes, max_payload_bytes: int, kinds: int) -> tuple[bytes, int, int]:
    """Read the common frames that the data begins with: whole, masked, unfragmented, not too long, with valid text.

    It stops behind :data:`MOST_BYTES`, so that inflated messages are published before more are inflated. It also stops
    at any other frame, an incomplete or a wrong one included: those are left to Autobahn. Nothing may be accepted here
    that Autobahn rejects (``tests/connection/test_fast_path.py`` compares the two).

    Args:
        data: what a client sent, from the beginning of a frame on, outside a fragmented message.
        max_payload_bytes: of a message, inflated; a longer one ends it, too.
        kinds: the messages to be read, a sum of :data:`TEXT`, :data:`BINARY` and, if permessage-deflate without context
            was agreed on, :data:`DEFLATED`; 0: none.

    Returns:
        The frames as subscribers get them, plain and joined; their number; and where in ``data`` the first one begins
        that was not read.

    Complexity:
        See :func:`wsrelay.wire.pure.parse`; for a compressed message, that of inflating it.
    """
    # Not min(), which parses keywords (TRAPS 147).
    limit_bytes = max_payload_bytes if max_payload_bytes < PARSED_BYTES else PARSED_BYTES
    plain, count, at = native.parse(data, limit_bytes, kinds, MOST_BYTES)
    if not kinds & DEFLATED:
        return plain, count, at
    found, size_bytes = [plain], len(plain)
    while at < len(data) and size_bytes < MOST_BYTES:
        if data[at] & _RSV1:
            plain, more, behind = _parse_deflated(data, at, max_payload_bytes, kinds)
        else:
            part = data[at : at + _most_bytes_of(data, at) + _PART_BYTES]
            plain, more, behind = native.parse(part, limit_bytes, kinds, MOST_BYTES)
            behind += at
        if not more:
            break
        found.append(plain)
        size_bytes += len(plain)
        count, at = count + more, behind
    return b"".join(found), count, at


def _parse_deflated(data: bytes, at: int, max_payload_bytes: int, kinds: int) -> tuple[bytes, int, int]:
    """Read one compressed message; the results are those of :func:`parse`."""
    first = data[at] ^ _RSV1
    if first ^ _FIN not in (TEXT, BINARY) or not first & kinds:
        return b"", 0, at
    # Unmasked as a binary message, because compressed text is no text.
    masked = _BINARY_BEGIN + data[at + 1 : at + _most_bytes_of(data, at)]
    frame, count, length = native.parse(masked, min(max_payload_bytes, PARSED_BYTES), BINARY, 1)
    payload = inflate(payload_of(frame), max_payload_bytes) if count else None
    if payload is None or (first == _WHOLE_TEXT and not is_utf8(payload)):
        return b"", 0, at
    return _header(first, len(payload)) + payload, 1, at + length


def _most_bytes_of(data: bytes, at: int) -> int:
    """Return an upper bound of a frame's length, from its header. All of a read would be copied for each frame."""
    length = data[at + 1] & ~_MASKED if at + 1 < len(data) else 0
    if length == _LENGTH_16:
        length = int.from_bytes(data[at + 2 : at + 4])
    elif length > _LENGTH_16:
        length = PARSED_BYTES
    return _MOST_HEADER_BYTES + length


def is_cut(data: bytes, max_payload_bytes: int, kinds: int) -> bool:
    """Return whether the data is the begin of a frame that :func:`parse` would take, but for its end.

    Args:
        data: what :func:`parse` has left.
        max_payload_bytes: as there.
        kinds: as there.
    """
    if not data:
        return False
    first = data[0] & ~_RSV1 if kinds & DEFLATED else data[0]
    if first ^ _FIN not in (TEXT, BINARY) or not first & kinds:
        return False
    if len(data) < _MASKED_HEADER_BYTES:
        return len(data) == 1 or data[1] >= _MASKED
    length, begin = data[1] - _MASKED, _MASKED_HEADER_BYTES
    if length == _LENGTH_16:
        length, begin = int.from_bytes(data[2:4]), begin + 2
        if length < _LENGTH_16:  # not in the shortest form
            return False
    elif length > _LENGTH_16:
        length = PARSED_BYTES + 1  # or more: not worth a copy
    return 0 <= length <= min(max_payload_bytes, PARSED_BYTES) and begin + length > len(data)


def _header(first: int, length: int) -> bytes:
    # RFC 6455 section 5.2: the shortest of 7, 7+16 and 7+64 bits.
    if length < 126:
        return bytes((first, length))
    if length < 0x10000:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")
