"""A short, slow reader of client frames that shares no code with the relay.

Reads frames by RFC 6455 and RFC 7692. Where the RFCs leave a choice, or the outcome depends on how much of a frame has
arrived, it stops with `UNKNOWN`; only the result before that frame is certain.
"""

import codecs
import struct
import zlib
from dataclasses import dataclass, field

#: End of a stream: still open, closed by the client, protocol error, or undefined.
OPEN, CLOSED, BROKEN, UNKNOWN = "open", "closed", "broken", "unknown"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: Valid close codes by RFC 6455 section 7.4 and the IANA registry.
CLOSE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013} | set(range(3000, 5000))

#: Registered later, so servers differ: undefined.
UNCERTAIN_CODES = {1014}


class Stop(Exception):
    """End of the stream."""


@dataclass
class Reading:
    """Result of a reader.

    Attributes:
        messages: opcode and payload, inflated.
        pings: payloads of pings.
        end: one of the four above.
        close_code: code of the client's close frame, or None.
    """

    messages: list[tuple[int, bytes]] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    end: str = OPEN
    close_code: int | None = None


class Reader:
    """Reads one stream.

    Args:
        deflate: permessage-deflate was negotiated, without context takeover.
        max_message_bytes: above is a protocol error.
        max_fragments: of one message; above is a protocol error.
    """

    def __init__(self, deflate: bool, max_message_bytes: int, max_fragments: int) -> None:
        self._deflate = deflate
        self._max_bytes = max_message_bytes
        self._max_fragments = max_fragments
        self._opcode: int | None = None
        self._compressed = False
        self._parts: list[bytes] = []
        self.reading = Reading()

    def read(self, stream: bytes) -> Reading:
        """Read a whole stream."""
        at = 0
        try:
            while len(stream) - at >= 2:
                at = self._read_frame(stream, at)
        except Stop as stop:
            self.reading.end = str(stop)
        return self.reading

    def _read_frame(self, stream: bytes, at: int) -> int:
        first, second = stream[at], stream[at + 1]
        opcode, fin, length = first & 15, first >> 7, second & 127
        self._check_header(first, second)
        begin = at + 2 + {126: 2, 127: 8}.get(length, 0) + 4
        if len(stream) < begin:
            raise Stop(OPEN)
        if length > 125:
            (length,) = struct.unpack(">H" if length == 126 else ">Q", stream[at + 2 : begin - 4])
            if length < (126 if begin - at == 8 else 65536) or length >> 63:
                raise Stop(BROKEN)  # not the shortest form; section 5.2
        behind = begin + length
        if opcode < CLOSE:
            self._begin_fragment(opcode, first)
        if behind > len(stream):
            raise Stop(OPEN if opcode > CLOSE else UNKNOWN)
        key = stream[begin - 4 : begin]
        payload = bytes(octet ^ key[index % 4] for index, octet in enumerate(stream[begin:behind]))
        if opcode >= CLOSE:
            self._take_control(opcode, payload)
        else:
            self._take_fragment(payload, fin)
        return behind

    def _check_header(self, first: int, second: int) -> None:
        opcode, length = first & 15, second & 127
        broken = (
            first & 0x30  # RSV2 and RSV3
            or (first & 0x40 and (not self._deflate or opcode not in (TEXT, BINARY)))
            or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
            or not second & 0x80
            or (opcode >= CLOSE and (length > 125 or not first & 0x80))
            or (opcode == CLOSE and length == 1)
            or (opcode < CLOSE and (opcode == CONTINUATION) != (self._opcode is not None))
        )
        if broken:
            raise Stop(BROKEN)

    def _begin_fragment(self, opcode: int, first: int) -> None:
        if opcode:
            self._opcode, self._compressed = opcode, bool(first & 0x40)

    def _take_fragment(self, payload: bytes, fin: int) -> None:
        self._parts.append(payload)
        if len(self._parts) > self._max_fragments:
            raise Stop(BROKEN)
        if not fin:
            if self._compressed or self._opcode == TEXT or sum(map(len, self._parts)) > self._max_bytes:
                self._look_ahead()
            return
        opcode, self._opcode = self._opcode, None
        assert opcode is not None
        message, parts = b"".join(self._parts), self._parts
        self._parts = []
        if self._compressed:
            message = self._inflate(message)
            if sum(map(len, parts)) > self._max_bytes and len(message) <= self._max_bytes:
                raise Stop(UNKNOWN)  # the limit is on the inflated size
        if len(message) > self._max_bytes or (opcode == TEXT and not _is_utf8(message)):
            raise Stop(BROKEN)
        self.reading.messages.append((opcode, message))

    def _look_ahead(self) -> None:
        """Stop if an incomplete message can only fail, now or later."""
        message = b"".join(self._parts)
        if self._compressed:
            try:
                message = zlib.decompressobj(-15).decompress(message, self._max_bytes + 1)
            except zlib.error:
                raise Stop(UNKNOWN) from None
        if len(message) > self._max_bytes or (self._opcode == TEXT and not _begins_utf8(message)):
            raise Stop(UNKNOWN)

    def _inflate(self, data: bytes) -> bytes:
        decompressor = zlib.decompressobj(-15)
        try:
            message = decompressor.decompress(data, self._max_bytes + 1)
            unfinished = decompressor.decompress(b"\0\0\xff\xff", self._max_bytes + 1)
        except zlib.error:
            raise Stop(BROKEN) from None
        if len(message) > self._max_bytes:
            raise Stop(BROKEN)
        if unfinished or decompressor.eof:
            raise Stop(UNKNOWN)  # no whole block at the end (TRAPS 69), or a final block and what follows it
        return message

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.reading.pings.append(payload)
        if opcode != CLOSE:
            return
        if payload:
            (code,) = struct.unpack(">H", payload[:2])
            if code in UNCERTAIN_CODES:
                raise Stop(UNKNOWN)
            if code not in CLOSE_CODES or not _is_utf8(payload[2:]):
                raise Stop(BROKEN)
            self.reading.close_code = code
        raise Stop(CLOSED)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def _begins_utf8(payload: bytes) -> bool:
    """Return whether bytes are the start of valid UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(payload)
    except UnicodeDecodeError:
        return False
    return True
