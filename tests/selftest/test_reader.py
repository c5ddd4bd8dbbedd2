"""The strict reader of a server's frames."""

import zlib

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.selftest.frames import Close, Message, Ping, Pong
from wsrelay.selftest.outcome import BrokenRule, TooMuch
from wsrelay.selftest.reader import Event, Reader
from wsrelay.wire.frames import BINARY, TEXT, encode

_WHOLE = encode(TEXT, "grüße".encode()) + b"\x89\1a" + b"\2\1b" + b"\x8a\1c" + b"\x80\1d" + encode(BINARY, b"e" * 70000)
_EVENTS = [
    Message("grüße".encode(), True),
    Ping(b"a"),
    Pong(b"c"),
    Message(b"bd", False, 2),
    Message(b"e" * 70000, False),
]


class ReaderTests(SynchronousTestCase):
    """What is allowed is read, what is not is named."""

    @example([3, 4])
    @example([len(_WHOLE) - 70003])
    @given(st.lists(st.integers(1, len(_WHOLE)), max_size=8).map(sorted))
    def test_pieces(self, cuts: list[int]) -> None:
        """Messages and control frames come out whole, however the bytes are cut."""
        reader, events = Reader(2**20), []
        for begin, end in zip([0, *cuts], [*cuts, len(_WHOLE)], strict=True):
            reader.feed(_WHOLE[begin:end])
            events += _all(reader)
        self.assertEqual(events, _EVENTS)

    def test_close(self) -> None:
        """Close frames with and without a code."""
        self.assertEqual(_read(b"\x88\0\x88\5\x03\xe8bye"), [Close(), Close(1000, "bye")])

    def test_broken_rules(self) -> None:
        """Each broken rule is named with its section."""
        for data, seen in (
            (b"\x81\x81abcde", "a masked frame (RFC 6455 section 5.1)"),
            (b"\x83\0", "a frame with the reserved opcode 3 (RFC 6455 section 5.2)"),
            (b"\xc1\0", "a frame with a reserved bit (RFC 6455 section 5.2)"),
            (b"\x09\0", "a control frame in fragments (RFC 6455 section 5.5)"),
            (b"\x89\x7e\0\x7e", "a control frame of more than 125 bytes (RFC 6455 section 5.5)"),
            (b"\x80\0", "fragments of a message out of their order (RFC 6455 section 5.4)"),
            (b"\1\1a\x81\1b", "fragments of a message out of their order (RFC 6455 section 5.4)"),
            (b"\x81\x7e\0\1a", "a length not in its shortest form (RFC 6455 section 5.2)"),
            (b"\x81\x7f" + (65535).to_bytes(8, "big"), "a length not in its shortest form (RFC 6455 section 5.2)"),
            (b"\x81\x7f\x80" + bytes(7), "a length with the highest bit set (RFC 6455 section 5.2)"),
            (b"\x81\1\xff", "a text message that is not UTF-8 (RFC 6455 section 8.1)"),
            (b"\x88\1a", "a close frame of one byte (RFC 6455 section 5.5.1)"),
            (b"\x88\2\x03\xed", "a close frame with the code 1005 (RFC 6455 section 7.4)"),
            (b"\x88\2\0\0", "a close frame with the code 0 (RFC 6455 section 7.4)"),
            (b"\x88\3\x03\xe8\xff", "a close reason that is not UTF-8 (RFC 6455 section 5.5.1)"),
        ):
            with self.assertRaises(BrokenRule) as raised:
                _read(data)
            self.assertEqual(str(raised.exception), seen)

    def test_too_much(self) -> None:
        """A message beyond the bound is not waited for, also in fragments and once inflated."""
        for data in (b"\x82\x7f" + (2**40).to_bytes(8, "big"), b"\2\x7e\xff\xff" + bytes(65535) + b"\x80\x7e\xff\xff"):
            with self.assertRaises(TooMuch):
                _read(data, 70000)
        with self.assertRaises(TooMuch):
            _read(encode(BINARY, _deflated(bytes(70001))).replace(b"\x82", b"\xc2", 1), 70000, is_compressed=True)

    def test_compressed(self) -> None:
        """Compressed messages, with a window that is kept, with a final block, and damaged ones."""
        compressor = zlib.compressobj(wbits=-15)
        kept = [compressor.compress(b"again") + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
        final = zlib.compressobj(wbits=-15)
        last = final.compress(b"again") + final.flush(zlib.Z_FINISH) + b"\0"
        data = b"".join(
            b"\xc1" + encode(TEXT, part)[1:] for part in (kept[0][:-4], kept[1][:-4], last, _deflated(b"again"))
        )
        self.assertEqual(_read(data, is_compressed=True), [Message(b"again", True, 1, True)] * 4)
        with self.assertRaisesRegex(BrokenRule, "does not inflate"):
            _read(b"\xc1\3\xff\xfe\xfd", is_compressed=True)


def _deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def _read(data: bytes, most_bytes: int = 2**20, *, is_compressed: bool = False) -> list[Event]:
    reader = Reader(most_bytes, is_compressed=is_compressed)
    reader.feed(data)
    return _all(reader)


def _all(reader: Reader) -> list[Event]:
    events = []
    while (event := reader.next()) is not None:
        events.append(event)
    return events
