"""Event streams, read back by a parser that is not ours."""

from base64 import b64decode
from typing import NamedTuple

from wsrelay.wire import frames

__all__ = ["Event", "chunks", "events"]


class Event(NamedTuple):
    """A block of an event stream.

    Attributes:
        kind: its type; empty for a block without data, which dispatches nothing.
        data: its data.
        last_id: the last event id behind it; empty before the first one.
    """

    kind: str
    data: bytes
    last_id: str

    @property
    def message(self) -> tuple[int, bytes] | None:
        """The opcode and payload of a message; ``None`` for other events."""
        if self.kind == "message":
            return frames.TEXT, self.data
        if self.kind in ("binary", "text64"):
            return frames.BINARY if self.kind == "binary" else frames.TEXT, b64decode(self.data)
        return None


def chunks(data: bytes) -> tuple[bytes, bool]:
    """Return the content of chunks at the beginning of a response's body, and whether the last one came.

    The end may be in the middle of a chunk: a client reads its content up to there.
    """
    content, at = list[bytes](), 0
    while (end := data.find(b"\r\n", at)) != -1:
        size, begin = int(data[at:end], 16), end + 2
        if not size:
            return b"".join(content), True
        content.append(data[begin : begin + size])
        at = begin + size + 2
        assert b"\r\n".startswith(data[begin + size : at]), "a chunk does not end with a line break"
    return b"".join(content), False


def events(content: bytes, last_id: str = "") -> list[Event]:
    """Return the whole blocks of an event stream, as ``EventSource`` reads them, without comments.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Line breaks are
    those that the relay writes; a carriage return in its output is a fault.
    """
    assert b"\r" not in content, "a carriage return in an event stream"
    found: list[Event] = []
    kind, lines, is_named = "message", list[bytes](), False
    for line in content[: content.rfind(b"\n\n") + 2].split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if lines or is_named:
                found.append(Event(kind if lines else "", b"\n".join(lines), last_id))
            kind, lines, is_named = "message", [], False
        elif name == b"event":
            kind = value.decode()
        elif name == b"data":
            lines.append(value)
        elif name == b"id" and b"\0" not in value:
            last_id, is_named = value.decode(), True
    return found
