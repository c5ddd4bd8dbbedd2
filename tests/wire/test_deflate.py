"""Tests of wsrelay.wire.deflate, against a parser that is not ours (websockets')."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.extensions.permessage_deflate import PerMessageDeflate

from tests.wire.test_frames import opcodes, parse, payloads
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate


class DeflateTests(SynchronousTestCase):
    """Compressed frames."""

    @given(opcodes, st.lists(payloads, max_size=5), st.integers(9, 15))
    def test_shared_frames_inflate_in_any_connection(self, opcode: int, sent: list[bytes], window_bits: int) -> None:
        """Frames made without context decode one after the other, with and without context takeover (TRAPS 6)."""
        data = b"".join(map(Deflate(window_bits), (frames.encode(opcode, payload) for payload in sent)))
        for no_takeover in (False, True):
            extension = PerMessageDeflate(no_takeover, False, window_bits, 15)
            parsed = parse(data, [extension])
            self.assertEqual([(frame.opcode, frame.data) for frame in parsed], [(opcode, payload) for payload in sent])

    def test_frames_that_stay_plain(self) -> None:
        """Short payloads, and those that would not get shorter, go out as they are: the same object."""
        short, noise = frames.encode(2, b"a" * 99), frames.encode(2, Random(1).randbytes(500))
        deflate = Deflate(15, min_bytes=100)

        self.assertIs(deflate(short), short)
        self.assertIs(deflate(noise), noise)
        self.assertLess(len(deflate(frames.encode(2, b"a" * 100))), 50)

    def test_compression(self) -> None:
        """A repetitive payload gets shorter, and RSV1 says so."""
        frame = Deflate(15)(frames.encode(frames.TEXT, b"a" * 1000))

        self.assertLess(len(frame), 50)
        self.assertEqual(frame[0], 0xC1)
