"""The reference of the compiled parts, in pure Python: the common frames of a read, and one write to many.

What runs where there is no compiled module, and what it is tested against: both give the same results for all
arguments (``tests/wire/test_native.py``). Must not live here: state, uncommon and compressed frames (frames), which
of the two runs (native).
"""

from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["is_utf8", "parse", "send_all"]

#: The same as ``wsrelay.interfaces.Send``, which is above.
_Send = Callable[[bytes], int]

_Member = TypeVar("_Member")

#: FIN and an opcode: the first bytes of whole, uncompressed text and binary messages.
_TEXT: Final = 0x81
_BINARY: Final = 0x82

#: ``kinds`` → the first bytes that are parsed.
_FIRSTS: Final = ((), (_TEXT,), (_BINARY,), (_TEXT, _BINARY))

_MASKED: Final = 0x80
_MASKED_HEADER_BYTES: Final = 6
_KEY_BYTES: Final = 4

#: Lengths that say that the next 16 and 64 bits are the length.
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127


def parse(data: bytes, max_payload_bytes: int, kinds: int, most_bytes: int) -> tuple[bytes, int, int]:
    """Take the common frames that the data begins with: whole, masked, FIN, RSV clear, text in UTF-8 or binary.

    It stops at an incomplete frame, and at any other frame, whether uncommon or wrong: those are left to Autobahn.
    Nothing may be accepted here that Autobahn rejects.

    Args:
        data: what a client sent, from the beginning of a frame on, outside a fragmented message.
        max_payload_bytes: longer frames are left; 0 to ``sys.maxsize``.
        kinds: the types to take: 1 text, 2 binary, 3 both; others are left.
        most_bytes: stop behind the frame with which the result is as long; 0 to ``sys.maxsize``.

    Returns:
        The same messages as unmasked frames of a server, joined; their number; and where in ``data`` the rest begins.

    Complexity:
        0.6 µs for each of many frames of 64 bytes, and 1.7 ns a byte of long ones, above 4 KiB more than Autobahn's
        masker. Compiled: 13 ns, and 0.04 ns a byte of ASCII. A call takes 0.3 µs, compiled 0.07.

    Source: RFC 6455 sections 5.2 and 5.3, RFC 3629.
    """
    frames: list[bytes] = []
    firsts = _FIRSTS[kinds & 3]
    at, end, shortest = 0, len(data), min(max_payload_bytes, _LENGTH_16 - 1)
    while end - at >= _MASKED_HEADER_BYTES:
        first, length = data[at], data[at + 1] - _MASKED
        begin = at + _MASKED_HEADER_BYTES
        behind = begin + length
        if first not in firsts or length < 0:
            break
        if length > shortest:
            longer = _parse_longer(data, at, max_payload_bytes)
            if longer is None:
                break
            frame, at = longer
            frames.append(frame)
        else:
            if behind > end:
                break
            # For payloads this short, integers unmask faster than a call into C does (TRAPS 4). "big" is their default.
            keystream = int.from_bytes(data[begin - 4 : begin]) * _ONES[length] >> 8 * (-length & 3)
            payload = (int.from_bytes(data[begin:behind]) ^ keystream).to_bytes(length)
            if first == _TEXT and not payload.isascii() and not is_utf8(payload):
                break
            frames.append(_HEADERS[first][length] + payload)
            at = behind
        if at >= most_bytes and at - _KEY_BYTES * len(frames) >= most_bytes:
            break
    return b"".join(frames), len(frames), at


def _parse_longer(data: bytes, at: int, max_payload_bytes: int) -> tuple[bytes, int] | None:
    """Take a frame with a length of 16 or 64 bits; return it and where the next begins, ``None`` if it is left."""
    field = {_LENGTH_16: 2, _LENGTH_64: 8}.get(data[at + 1] - _MASKED, 0)
    key = at + 2 + field
    length, begin = int.from_bytes(data[at + 2 : key]), key + _KEY_BYTES
    behind = begin + length
    if length < (0x10000 if field == 8 else _LENGTH_16) or length > max_payload_bytes or behind > len(data):
        return None
    keystream = (data[key:begin] * (length // 4 + 1))[:length]
    payload = (int.from_bytes(data[begin:behind]) ^ int.from_bytes(keystream)).to_bytes(length)
    if data[at] == _TEXT and not is_utf8(payload):
        return None
    return bytes((data[at], data[at + 1] - _MASKED)) + data[at + 2 : key] + payload, behind


def is_utf8(payload: bytes) -> bool:
    """Return whether a payload is UTF-8 (RFC 3629), as that of a text message must be."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def send_all(
    members: dict[_Member, _Send], but: object, data: bytes, /
) -> dict[_Member, tuple[bytes, int] | Exception]:
    """Call the ``send`` of each member but one with the data.

    Args:
        members: each with its ``send``: that of a socket, or any callable that says how many bytes it took. A call may
            change the dict, with no effect on who gets the data.
        but: gets nothing, if it is a member; compared by identity.
        data: if it is empty, nothing is called.

    Returns:
        The members that did not take all: ``(data, taken)``, where an ``OSError`` means that 0 bytes were taken, or
        another ``Exception`` that a ``send`` raised. The others get their data in any case.

    Complexity:
        Compiled, a write to a non-blocking ``socket.socket`` costs 0.2 to 0.3 µs less, of some 4.
    """
    unsent: dict[_Member, tuple[bytes, int] | Exception] = {}
    size = len(data)
    for member, send in members.copy().items() if size else ():
        if member is but:
            continue
        try:
            taken = send(data)
        except Exception as error:  # noqa: BLE001 - whatever one raises, the others get their data
            unsent[member] = (data, 0) if isinstance(error, OSError) else error
        else:
            if taken != size:
                unsent[member] = (data, taken)
    return unsent


#: Factors that turn a key into the keystream of a short payload, rounded up to whole keys: 1, 1 << 32 | 1 and so on.
_ONES: Final = [int.from_bytes(b"\0\0\0\1" * ((length + 3) // 4)) for length in range(_LENGTH_16)]

#: Made once, because this is on the path of every message.
_HEADERS: Final = {first: [bytes((first, length)) for length in range(_LENGTH_16)] for first in (_TEXT, _BINARY)}
