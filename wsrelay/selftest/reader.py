"""What a server sends, as messages and control frames; strict, so that each broken rule is found.

Pure. Must not live here: what a client does about it (:mod:`wsrelay.selftest.member`).
"""

import zlib
from typing import Final

from wsrelay.closecodes import LOST, NO_CODE, NORMAL, TLS_FAILED
from wsrelay.selftest.frames import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, Close, Message, Ping, Pong
from wsrelay.selftest.outcome import BrokenRule, TooMuch

__all__ = ["Event", "Reader"]

Event = Message | Ping | Pong | Close

_RESERVED: Final = 0x70
_OPCODES: Final = frozenset([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])
_MASK: Final = 0x80
_MAX_CONTROL_BYTES: Final = 125

#: Behind the private codes (RFC 6455 section 7.4.2).
_END_OF_CODES: Final = 5000

#: What a sender leaves out at the end of a compressed message (RFC 7692 section 7.2.1).
_TAIL: Final = b"\0\0\xff\xff"


class Reader:
    """The frames of one server, fed with its bytes.

    Args:
        most_bytes: of a message, compressed or not; a larger one is not kept.
        is_compressed: whether permessage-deflate was agreed.
    """

    def __init__(self, most_bytes: int, *, is_compressed: bool = False) -> None:
        self._most_bytes = most_bytes
        self._inflater = _inflater() if is_compressed else None
        self._unread = bytearray()
        self._parts: list[bytes] = []
        self._first = 0

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._unread += data

    def next(self) -> Event | None:
        """Return the next message or control frame; ``None`` until it is whole.

        Raises:
            BrokenRule: the server has broken a rule.
            TooMuch: a message is longer than ``most_bytes``.
        """
        while (frame := self._frame()) is not None:
            first, payload = frame
            opcode = first & 0x0F
            if opcode >= CLOSE:
                return _control(opcode, payload)
            self._continue(first, payload)
            if first & FIN:
                return self._whole()
        return None

    def _frame(self) -> tuple[int, bytes] | None:
        """Take one frame, if it is whole; return its first byte and its payload."""
        data = self._unread
        if len(data) < 2:
            return None
        first, length, begin = data[0], data[1], 2
        self._check(first, length)
        if length > _MAX_CONTROL_BYTES:
            begin = 4 if length == 126 else 10
            if len(data) < begin:
                return None
            length = int.from_bytes(data[2:begin])
            _check_length(length, begin)
        if length + sum(map(len, self._parts)) > self._most_bytes:
            raise TooMuch(f"a message of more than {self._most_bytes} bytes")
        if len(data) < begin + length:
            return None
        payload = bytes(data[begin : begin + length])
        del data[: begin + length]
        return first, payload

    def _check(self, first: int, second: int) -> None:
        """Check the first two bytes of a frame (RFC 6455 sections 5.1, 5.2, 5.4, 5.5)."""
        opcode = first & 0x0F
        _require(not second & _MASK, "a masked frame", "5.1")
        _require(opcode in _OPCODES, f"a frame with the reserved opcode {opcode}", "5.2")
        allowed = RSV1 if self._inflater is not None and opcode in (TEXT, BINARY) else 0
        _require(not first & _RESERVED & ~allowed, "a frame with a reserved bit", "5.2")
        if opcode >= CLOSE:
            _require(bool(first & FIN), "a control frame in fragments", "5.5")
            _require(second <= _MAX_CONTROL_BYTES, "a control frame of more than 125 bytes", "5.5")
        else:
            is_first = opcode != CONTINUATION
            _require(is_first != bool(self._parts), "fragments of a message out of their order", "5.4")

    def _continue(self, first: int, payload: bytes) -> None:
        if first & 0x0F != CONTINUATION:
            self._first = first
        self._parts.append(payload)

    def _whole(self) -> Message:
        """Return the message whose last frame has come."""
        payload, count, self._parts = b"".join(self._parts), len(self._parts), []
        is_text, is_compressed = self._first & 0x0F == TEXT, bool(self._first & RSV1)
        if is_compressed:
            payload = self._inflate(payload)
        if is_text:
            _require(_is_utf8(payload), "a text message that is not UTF-8", "8.1")
        return Message(payload, is_text, count, is_compressed)

    def _inflate(self, payload: bytes) -> bytes:
        """Inflate. The window is kept, which is right for servers with and without context takeover."""
        assert self._inflater is not None  # a frame with RSV1 was refused otherwise
        try:
            inflated = self._inflater.decompress(payload + _TAIL, self._most_bytes + 1)
        except zlib.error as error:
            raise BrokenRule(f"a message that does not inflate: {error} (RFC 7692 section 7.2.2)") from None
        if len(inflated) > self._most_bytes:
            raise TooMuch(f"a message that inflates to more than {self._most_bytes} bytes")
        if self._inflater.eof:  # its last block was marked as final, section 7.2.3.4
            self._inflater = _inflater()
        return inflated


def _inflater() -> "zlib._Decompress":
    return zlib.decompressobj(-zlib.MAX_WBITS)


def _control(opcode: int, payload: bytes) -> Event:
    if opcode == CLOSE:
        return _close(payload)
    return Ping(payload) if opcode == PING else Pong(payload)


def _close(payload: bytes) -> Close:
    """Return a close frame (RFC 6455 sections 5.5.1 and 7.4)."""
    if not payload:
        return Close()
    _require(len(payload) > 1, "a close frame of one byte", "5.5.1")
    code, reason = int.from_bytes(payload[:2]), payload[2:]
    _require(_is_code(code), f"a close frame with the code {code}", "7.4")
    _require(_is_utf8(reason), "a close reason that is not UTF-8", "5.5.1")
    return Close(code, reason.decode())


def _is_code(code: int) -> bool:
    """Return whether a code may be on the wire; those that RFC 6455 leaves to the registry may."""
    return NORMAL <= code < _END_OF_CODES and code not in (NO_CODE, LOST, TLS_FAILED)


def _check_length(length: int, begin: int) -> None:
    """Check an extended length: the shortest form, and no sign bit (RFC 6455 section 5.2)."""
    _require(length > _MAX_CONTROL_BYTES if begin == 4 else length >= 2**16, "a length not in its shortest form", "5.2")
    _require(length < 2**63, "a length with the highest bit set", "5.2")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _require(holds: bool, otherwise: str, section: str) -> None:
    if not holds:
        raise BrokenRule(f"{otherwise} (RFC 6455 section {section})")
