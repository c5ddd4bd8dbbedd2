"""Server-sent events: a room's messages as the chunks of a stream that ``curl`` and ``EventSource`` read. Pure.

An *encoding* of messages, as those in :mod:`wsrelay.wire.frames`: made once per message, and shared by all readers of
the room. The client gets::

    text                                 data: …             an event of the usual type; a line of data for each line
    text with a carriage return in it    event: text64       data is base64: the format knows no carriage returns
    binary                               event: binary       data is base64
    the relay closes                     event: close        data is JSON: code and reason, as a close frame's

Each event is one chunk of the response, so that its reader knows the end of the stream from the end of the line.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; RFC 9112 section 7.1.
"""

import json
from base64 import b64encode
from typing import Final

from wsrelay.wire import frames

__all__ = ["ALIVE", "END", "chunk", "close", "encode"]

#: The end of a stream: the last chunk.
END: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return bytes, at least one, as one chunk of a response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


#: A comment, which says that the relay is still there, and keeps proxies from closing an idle stream.
ALIVE: Final = chunk(b":\n\n")


def encode(frame: bytes) -> bytes:
    """Return the chunk with the event for a message, given as a plain frame; a :data:`wsrelay.wire.frames.Encoding`."""
    payload = frames.payload_of(frame)
    if frames.opcode_of(frame) == frames.BINARY:
        return _event(b"event: binary\n", b64encode(payload))
    if b"\r" in payload:
        return _event(b"event: text64\n", b64encode(payload))
    return _event(b"", payload.replace(b"\n", b"\ndata: "))


def close(code: int, reason: str) -> bytes:
    """Return the chunks that end a stream: the event that says why, and the end."""
    return _event(b"event: close\n", json.dumps({"code": code, "reason": reason}).encode()) + END


def _event(kind: bytes, data: bytes) -> bytes:
    return chunk(b"%bdata: %b\n\n" % (kind, data))
