"""Server-sent events: a room's messages as the chunks of a stream that ``curl`` and ``EventSource`` read. Pure.

An *encoding* of messages, as those in :mod:`wsrelay.wire.frames`: made once per message, and shared by all readers of
the room. The client gets::

    text                                 data: …             an event of the usual type; a line of data for each line
    text with a carriage return in it    event: text64       data is base64: the format knows no carriage returns
    binary                               event: binary       data is base64
    the relay closes                     event: close        data is JSON: code and reason, as a close frame's
    messages were skipped                event: gap          data is JSON: at and why; see :func:`gap`

In rooms with history, messages and gaps have an ``id:`` line: a reader that reconnects sends the last one as
``Last-Event-ID``. Each event is one chunk of the response, so that its reader knows the end of the stream from the end
of the line.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html; RFC 9112 section 7.1.
"""

import json
from base64 import b64encode
from typing import Final

from wsrelay.wire import frames

__all__ = ["ALIVE", "END", "chunk", "close", "encode", "encode_without_id", "gap", "identify"]

#: The end of a stream: the last chunk.
END: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return bytes, at least one, as one chunk of a response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


#: A comment, which says that the relay is still there, and keeps proxies from closing an idle stream.
ALIVE: Final = chunk(b":\n\n")


def encode(frame: bytes, identity: object = None, /) -> bytes:
    """Return the chunk with the event for a message; a :class:`wsrelay.wire.frames.Encoding`.

    Args:
        frame: the message as a plain frame.
        identity: its id, for the ``id:`` line; ``None``: no such line.
    """
    payload = frames.payload_of(frame)
    begin = b"" if identity is None else _id_line(identity)
    if frames.opcode_of(frame) == frames.BINARY:
        return _event(begin + b"event: binary\n", b64encode(payload))
    if b"\r" in payload:
        return _event(begin + b"event: text64\n", b64encode(payload))
    return _event(begin, payload.replace(b"\n", b"\ndata: "))


def encode_without_id(frame: bytes, _identity: object = None, /) -> bytes:
    """Return the chunk with the event for a message, without its id; an encoding."""
    return encode(frame)


def identify(identity: object) -> bytes:
    """Return the chunk that sets a reader's last id, and is no event."""
    return chunk(_id_line(identity) + b"\n")


def gap(at: object, why: str, after: object = None) -> bytes:
    """Return the chunk with the event for messages that the reader does not get.

    Args:
        at: the id of the last one, which becomes the reader's last id.
        why: one word.
        after: the id behind which the reader wanted them, as it was given; ``None``: the reader's last id.
    """
    data = {"at": str(at), "why": why} if after is None else {"after": str(after), "at": str(at), "why": why}
    return _event(_id_line(at) + b"event: gap\n", json.dumps(data).encode())


def close(code: int, reason: str) -> bytes:
    """Return the chunks that end a stream: the event that says why, and the end."""
    return _event(b"event: close\n", json.dumps({"code": code, "reason": reason}).encode()) + END


def _id_line(identity: object) -> bytes:
    return b"id: %b\n" % str(identity).encode()


def _event(begin: bytes, data: bytes) -> bytes:
    """Return the chunk with an event, from the lines before its data."""
    return chunk(b"%bdata: %b\n\n" % (begin, data))
