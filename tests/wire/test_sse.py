"""Tests of wsrelay.wire.sse: read back by a parser that is not ours."""

import json
from base64 import b64decode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import _ChunkedTransferDecoder

from wsrelay.wire import frames, sse


def unchunked(data: bytes) -> bytes:
    """Return the content of chunks, with or without the last one."""
    parts: list[bytes] = []
    decoder = _ChunkedTransferDecoder(parts.append, lambda rest: None)
    decoder.dataReceived(data)
    return b"".join(parts)


def read(stream: bytes) -> list[tuple[str, str]]:
    """Read a stream as the specification says: the type and the data of each event."""
    found, kind, lines = [], "message", []
    text = unchunked(stream).decode().replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if not line:
            if lines:
                found.append((kind, "\n".join(lines)))
            kind, lines = "message", []
        elif name == "event":
            kind = value.removeprefix(" ")
        elif name == "data":
            lines.append(value.removeprefix(" "))
    return found


class EventTests(SynchronousTestCase):
    """Messages as events."""

    @given(st.lists(st.tuples(st.booleans(), st.text() | st.text(alphabet="\r\n :a"))))
    def test_any_message(self, messages: list[tuple[bool, str]]) -> None:
        """All payloads come back as they were: text, also with line breaks of any kind, and binary."""
        said = [(frames.BINARY if is_binary else frames.TEXT, text.encode()) for is_binary, text in messages]
        stream = b"".join(sse.encode(frames.encode(opcode, payload)) for opcode, payload in said)
        heard = []
        for kind, data in read(stream):
            payload = data.encode() if kind == "message" else b64decode(data)
            heard.append((frames.BINARY if kind == "binary" else frames.TEXT, payload))

        self.assertEqual(heard, said)

    def test_plain_text_stays_readable(self) -> None:
        """Text is readable with curl."""
        self.assertEqual(unchunked(sse.encode(frames.encode(frames.TEXT, b"a\nb"))), b"data: a\ndata: b\n\n")

    def test_one_chunk_each(self) -> None:
        """An event is one chunk, with its length in front."""
        self.assertEqual(sse.encode(frames.encode(frames.TEXT, b"x" * 10)), b"12\r\ndata: xxxxxxxxxx\n\n\r\n")

    def test_id(self) -> None:
        """An event with an id begins with it, whatever its kind; without an id, nothing changes."""
        for opcode, payload in ((frames.TEXT, b"a"), (frames.TEXT, b"a\rb"), (frames.BINARY, b"a")):
            frame = frames.encode(opcode, payload)
            self.assertEqual(unchunked(sse.encode(frame, "e-1")), b"id: e-1\n" + unchunked(sse.encode(frame)))
            self.assertEqual(sse.encode_without_id(frame, "e-1"), sse.encode(frame))
            self.assertEqual(sse.encode_without_id(frame), sse.encode(frame))

    def test_identify(self) -> None:
        """An id alone is no event."""
        self.assertEqual(unchunked(sse.identify("e-1")), b"id: e-1\n\n")
        self.assertEqual(read(sse.identify("e-1")), [])

    def test_gap(self) -> None:
        """A gap says from where to where, and why; its end is the reader's last id."""
        self.assertIn(b'data: {"at": "e-9", "why": "lost"}\n', sse.gap("e-9", "lost"))
        gap = sse.gap("e-9", "gone", '"\nid: x')
        [(kind, data)] = read(gap)

        self.assertEqual((kind, json.loads(data)), ("gap", {"after": '"\nid: x', "at": "e-9", "why": "gone"}))
        self.assertEqual([line for line in unchunked(gap).split(b"\n") if line.startswith(b"id")], [b"id: e-9"])

    def test_close(self) -> None:
        """The end says why, and is the end."""
        end = sse.close(1012, "the relay is restarting")
        [(kind, data)] = read(end)

        self.assertEqual((kind, json.loads(data)), ("close", {"code": 1012, "reason": "the relay is restarting"}))
        self.assertTrue(end.endswith(sse.END))

    def test_alive(self) -> None:
        """A comment is no event."""
        self.assertEqual(read(sse.ALIVE), [])
