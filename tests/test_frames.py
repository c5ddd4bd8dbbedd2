"""Tests of wsrelay.frames, against a parser that is not ours (websockets')."""

from collections.abc import Generator
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame
from websockets.streams import StreamReader

from wsrelay import frames

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


class DeflateTests(SynchronousTestCase):
    """Compressed frames."""

    @given(opcodes, st.lists(payloads, max_size=5), st.integers(9, 15))
    def test_shared_frames_inflate_in_any_connection(self, opcode: int, sent: list[bytes], window_bits: int) -> None:
        """Frames made without context decode one after the other, with and without context takeover (TRAPS 6)."""
        data = b"".join(frames.encode_deflated(opcode, payload, window_bits) for payload in sent)
        for no_takeover in (False, True):
            extension = PerMessageDeflate(no_takeover, False, window_bits, 15)
            parsed = parse(data, [extension])
            self.assertEqual([(frame.opcode, frame.data) for frame in parsed], [(opcode, payload) for payload in sent])

    def test_it_compresses(self) -> None:
        """A repetitive payload gets shorter, and RSV1 says so."""
        frame = frames.encode_deflated(frames.TEXT, b"a" * 1000, 15)

        self.assertLess(len(frame), 50)
        self.assertEqual(frame[0], 0xC1)
