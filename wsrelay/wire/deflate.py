"""Deflating messages (RFC 7692): the encoding of subscribers that negotiated permessage-deflate.

Must not live here: inflating (:mod:`wsrelay.wire.inflate`), negotiation (:mod:`wsrelay.connection.deflate`).
"""

import zlib
from importlib import import_module
from types import ModuleType
from typing import Final, Protocol

from wsrelay.wire.frames import encode, opcode_of, payload_of
from wsrelay.wire.inflate import TAIL

__all__ = ["ISAL_MIN_BYTES", "WINDOW_BITS", "Deflate", "library_name", "load_isal"]

#: The windows that messages are deflated for; a client that allows one between gets the next smaller. Fewer than there
#: could be, because a message in a log may be kept once more for each.
WINDOW_BITS: Final = (9, 12, 15)

#: The shortest payload that isal deflates. For 1 KiB of JSON it takes half of zlib's time (7 µs), for 16 KiB and more a
#: third to a quarter, and makes about as many bytes; below this it saves less time and makes up to a sixth more bytes.
ISAL_MIN_BYTES: Final = 512

#: Marks a compressed message (RFC 7692 section 6).
_RSV1: Final = 0x40


class _Compressor(Protocol):
    """A compressor of zlib, or of a library with the same interface."""

    def compress(self, data: bytes, /) -> bytes:
        """Take bytes; return those that are compressed."""

    def flush(self, mode: int, /) -> bytes:
        """Return the rest."""


def load_isal() -> ModuleType | None:
    """Return the module ``isal.isal_zlib``, which has zlib's interface; ``None`` if it is not installed."""
    try:
        return import_module("isal.isal_zlib")
    except ImportError:
        return None


def library_name() -> str:
    """Return the name and the version of the library that deflates long messages."""
    isal = load_isal()
    if isal is None:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    return f"isal {getattr(import_module('isal'), '__version__', 'of unknown version')}"


class Deflate:
    """The encoding of subscribers that negotiated permessage-deflate.

    Each frame is made without context: it refers to no bytes of an earlier message, so that the same frame fits
    every connection, provided that none of them is ever sent a frame with context (TRAPS 6).

    Payloads of :data:`ISAL_MIN_BYTES` and more are deflated by isal if it is installed, else by zlib.

    Args:
        window_bits: 9-15, no more than the ``server_max_window_bits`` agreed with the subscriber.
        min_bytes: payloads shorter than this stay plain, which the extension allows for any message.

    Source: RFC 7692 sections 6, 7.2.1 and 7.2.3.
    """

    def __init__(self, window_bits: int, min_bytes: int = 0) -> None:
        # One for all messages: a fresh one costs 50 µs, and a full flush forgets what was before it in 5. Level 6 takes
        # five times as long for 1 MiB of JSON (47 ms with the reactor blocked) and saves a fifth of its bytes.
        self._short: _Compressor = zlib.compressobj(level=zlib.Z_BEST_SPEED, wbits=-window_bits)
        isal = load_isal()
        # Its level 0 makes half as many bytes again; level 3 takes twice the time and saves a fiftieth.
        self._long: _Compressor = self._short if isal is None else isal.compressobj(level=1, wbits=-window_bits)
        self._min_bytes = min_bytes

    def __call__(self, frame: bytes, identity: object = None, /) -> bytes:
        """Return the compressed frame, or the plain one where that is no longer."""
        payload = payload_of(frame)  # a copy, as that of encode: up to 5 % of the time for 1 MiB, less for shorter ones
        if len(payload) < self._min_bytes:
            return frame
        compressor = self._short if len(payload) < ISAL_MIN_BYTES else self._long
        deflated = compressor.compress(payload) + compressor.flush(zlib.Z_FULL_FLUSH)
        deflated = deflated.removesuffix(TAIL)
        if len(deflated) >= len(payload):
            return frame
        return encode(_RSV1 | opcode_of(frame), deflated)
