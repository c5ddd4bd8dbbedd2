"""Tests of wsrelay.wire.frames, against a parser that is not ours (websockets')."""

from collections.abc import Generator
from random import Random
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate

payloads = st.binary(max_size=300) | st.sampled_from([125, 126, 127, 65535, 65536, 100_000]).map(bytes)
opcodes = st.sampled_from([frames.TEXT, frames.BINARY])


def parse(data: bytes, extensions: list[Any] | None = None) -> list[Frame]:
    """Return the frames in what a server sent, as a client's parser reads them."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parsed = []
    while not run(reader.at_eof()):
        parsed.append(run(Frame.parse(reader.read_exact, mask=False, extensions=extensions)))
    return parsed


def run(generator: Generator[None, None, Any]) -> Any:
    """Return what a generator-based coroutine returns; it may not wait."""
    try:
        next(generator)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("more bytes are wanted than there are")


class EncodeTests(SynchronousTestCase):
    """Plain frames."""

    @given(opcodes, payloads)
    @example(frames.TEXT, b"")
    def test_one_whole_unmasked_frame(self, opcode: int, payload: bytes) -> None:
        """A message is one final, unmasked frame with its type and payload."""
        [frame] = parse(frames.encode(opcode, payload))

        self.assertEqual((frame.opcode, frame.data, frame.fin, frame.rsv1), (opcode, payload, True, False))

    def test_shortest_length(self) -> None:
        """The length takes the fewest bytes that hold it (RFC 6455 section 5.2)."""
        for length, header in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)]:
            self.assertEqual(len(frames.encode(frames.BINARY, bytes(length))), header + length)

    @given(payloads)
    def test_payload_of(self, payload: bytes) -> None:
        """The payload can be had back from the frame."""
        self.assertEqual(frames.payload_of(frames.encode(frames.BINARY, payload)), payload)


#: Both opcodes.
ANY = frames.TEXT | frames.BINARY


class CloseTests(SynchronousTestCase):
    """Close frames."""

    def test_close(self) -> None:
        """A close frame has code and reason; the longest one is a legal control frame."""
        self.assertEqual(frames.close(4401, "né".encode()), b"\x88\x05\x11\x31n\xc3\xa9")
        [longest] = parse(frames.close(4401, b"x" * 123))
        self.assertEqual(longest.opcode, frames.CLOSE)
        self.assertEqual(longest.data, (4401).to_bytes(2) + b"x" * 123)


class ParseTests(SynchronousTestCase):
    """The common frames of clients; ``tests/connection/test_fast_path.py`` compares with Autobahn's parser."""

    @given(st.lists(st.tuples(opcodes, st.binary(max_size=5000)), max_size=5), st.binary(max_size=5), st.randoms())
    def test_common_frames(self, sent: list[tuple[int, bytes]], rest: bytes, random: Random) -> None:
        """Whole masked messages come out as they go to subscribers; an incomplete frame is left."""
        sent = [(opcode, payload.hex().encode() if opcode == frames.TEXT else payload) for opcode, payload in sent]
        sent = [(opcode, payload) for opcode, payload in sent if len(payload) <= frames.PARSED_BYTES]
        data = b"".join(Frame(Opcode(opcode), payload).serialize(mask=True, extensions=[]) for opcode, payload in sent)

        made = [frames.encode(*message) for message in sent]

        self.assertEqual(frames.parse(data + rest, 2**20, ANY), (b"".join(made), len(sent), len(data)))
        self.assertEqual(frames.split(b"".join(made)), made)

    def test_uncommon_frames(self) -> None:
        """An uncommon frame ends the parse; nothing after it is read."""
        good = b"\x81\x82\0\0\0\0ok"
        for left in (
            b"\x81\x02ok",  # not masked
            b"\x01\x82\0\0\0\0ok",  # a fragment
            b"\x80\x82\0\0\0\0ok",  # a continuation
            b"\x89\x82\0\0\0\0ok",  # a ping
            b"\x83\x82\0\0\0\0ok",  # a reserved opcode
            b"\xa1\x82\0\0\0\0ok",  # RSV2
            b"\xc1\x82\0\0\0\0ok",  # compressed, which was not agreed on
            b"\x81\x82\0\0\0\0o\xff",  # not UTF-8
            b"\x81\xfe\0\x02\0\0\0\0ok",  # a length not in its shortest form
            b"\x82\xff" + bytes(12),  # a length in 64 bits
            b"\x82\xff" + (65537).to_bytes(8) + bytes(4 + 65537),  # longer than a read
        ):
            self.assertEqual(frames.parse(good + left + good, 2**20, ANY), (b"\x81\x02ok", 1, len(good)), left)
            self.assertFalse(frames.is_cut(left + good, 2**20, ANY), left)

    def test_incomplete(self) -> None:
        """Of a frame that is not all there, nothing is taken, wherever it breaks off; it is known as cut."""
        for good in (b"\x81\x82\0\0\0\0ok", b"\x82\xfe\0\x7e" + bytes(4 + 126)):
            for length in range(len(good)):
                found = frames.parse(good + good[:length], 2**20, ANY)
                self.assertEqual(found, (frames.parse(good, 2**20, ANY)[0], 1, len(good)))
                self.assertEqual(frames.is_cut(good[:length], 2**20, ANY), length > 0, length)

    def test_limit(self) -> None:
        """A message of the largest size is taken, a longer one left."""
        data = b"\x82\xfe\x01\0" + bytes(4 + 256)

        self.assertEqual(frames.parse(data, 256, ANY)[1:], (1, len(data)))
        self.assertEqual(frames.parse(data, 255, ANY), (b"", 0, 0))
        self.assertEqual([frames.is_cut(data[:9], limit, ANY) for limit in (256, 255)], [True, False])

    def test_kinds(self) -> None:
        """Only the kinds that are asked for are taken; 0 takes none."""
        text, binary = b"\x81\x82\0\0\0\0ok", b"\x82\x82\0\0\0\0ok"
        for kinds, taken in ((frames.TEXT, text), (frames.BINARY, binary), (frames.DEFLATED, b""), (0, b"")):
            for one in (text, binary):
                self.assertEqual(frames.parse(one, 9, kinds)[1], int(one == taken))
                self.assertEqual(frames.is_cut(one[:5], 9, kinds), one == taken)

    def test_inflation_bound_per_call(self) -> None:
        """Frames that inflate to much are returned before more are inflated."""
        bomb = frames.payload_of(Deflate(15)(frames.encode(frames.BINARY, bytes(600_000))))
        data = (bytes((0xC2, 0xFE)) + len(bomb).to_bytes(2, "big") + bytes(4) + bomb) * 3

        self.assertEqual(frames.parse(data, 2**20, ANY | frames.DEFLATED)[1:], (1, len(data) // 3))

    def test_inflating(self) -> None:
        """Compressed messages are inflated if agreed on, up to the limit; a wrong one is left."""
        payload = b"hello " * 100
        deflated = frames.payload_of(Deflate(15)(frames.encode(frames.TEXT, payload)))
        data = bytes((0xC1, 0x80 | len(deflated), 0, 0, 0, 0)) + deflated

        self.assertEqual(frames.parse(data, 600, ANY | frames.DEFLATED), (frames.encode(1, payload), 1, len(data)))
        self.assertEqual(frames.parse(data, 599, ANY | frames.DEFLATED), (b"", 0, 0))
        self.assertEqual(frames.parse(b"\xc1\x81\0\0\0\0\n", 600, ANY | frames.DEFLATED), (b"", 0, 0))
        self.assertEqual(frames.parse(b"\xc1\x82\0\0\0\0\xff\xff", 600, ANY | frames.DEFLATED), (b"", 0, 0))
