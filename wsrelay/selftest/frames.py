"""Frames as a client sends them, valid and invalid ones; and a strict reader of what a server sends.

Pure. Autobahn's client is not used: it sends no invalid frames, and hides how many frames a message had. Must not live
here: connections (:mod:`wsrelay.selftest.connection`).
"""

import secrets
from dataclasses import dataclass
from typing import Final

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "FIN",
    "PING",
    "PONG",
    "RSV1",
    "TEXT",
    "Close",
    "Message",
    "Ping",
    "Pong",
    "close_frame",
    "fragments",
    "masked",
    "message",
]

#: The first byte of a frame, RFC 6455 section 5.2; RSV1 marks a compressed message (RFC 7692 section 6).
FIN: Final = 0x80
RSV1: Final = 0x40
CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

_MASK: Final = 0x80


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message.

    Attributes:
        payload: its bytes, inflated.
        is_text: whether it is text.
        frames: how many frames it came in.
        is_compressed: whether it came compressed.
    """

    payload: bytes
    is_text: bool
    frames: int = 1
    is_compressed: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """A ping."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A pong."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A close frame.

    Attributes:
        code: ``None`` for an empty one.
        reason: as text.
    """

    code: int | None = None
    reason: str = ""


def masked(first: int, payload: bytes = b"", *, length_bits: int = 0) -> bytes:
    """Return one frame with a fresh masking key.

    Args:
        first: its first byte, any.
        payload: of any length.
        length_bits: 16 or 64: a length field of that size, also where a shorter one would do.
    """
    key = secrets.token_bytes(4)
    return header(first, len(payload), is_masked=True, length_bits=length_bits) + key + _xor(payload, key)


def header(first: int, length: int, *, is_masked: bool, length_bits: int = 0) -> bytes:
    """Return the header of a frame, without a masking key."""
    mask = _MASK if is_masked else 0
    if length_bits == 64 or length >= 2**16:
        return bytes((first, mask | 127)) + length.to_bytes(8, "big")
    if length_bits == 16 or length > 125:
        return bytes((first, mask | 126)) + length.to_bytes(2, "big")
    return bytes((first, mask | length))


def _xor(payload: bytes, key: bytes) -> bytes:
    """Return the payload masked: as integers, because a loop over bytes takes 100 ns for each."""
    length = len(payload)
    stream = (key * (length // 4 + 1))[:length]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(length)


def message(payload: str | bytes) -> bytes:
    """Return a message in one frame: text of a ``str``, else binary."""
    return masked(FIN | TEXT, payload.encode()) if isinstance(payload, str) else masked(FIN | BINARY, payload)


def fragments(opcode: int, parts: list[bytes]) -> list[bytes]:
    """Return a message as one frame for each part."""
    last = len(parts) - 1
    return [
        masked((CONTINUATION if index else opcode) | (FIN if index == last else 0), part)
        for index, part in enumerate(parts)
    ]


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return masked(FIN | CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)
