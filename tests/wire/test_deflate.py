"""Tests of wsrelay.wire.deflate, against parsers that are not ours (websockets', and zlib's inflate)."""

import sys
import zlib
from collections.abc import Iterator
from functools import cache
from random import Random
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from isal import isal_zlib
from twisted.trial.unittest import SynchronousTestCase
from websockets.extensions.permessage_deflate import PerMessageDeflate

from tests.wire.test_frames import opcodes, parse, payloads
from wsrelay.wire import frames
from wsrelay.wire.deflate import ISAL_MIN_BYTES, WINDOW_BITS, Deflate, library_name, load_isal
from wsrelay.wire.inflate import TAIL

#: Where isal is not installed.
WITHOUT_ISAL = {"isal.isal_zlib": None}


def both(window_bits: int, min_bytes: int = 0) -> list[Deflate]:
    """Return the encoding with isal, and without it."""
    with mock.patch.dict(sys.modules, WITHOUT_ISAL):
        without = Deflate(window_bits, min_bytes)
    return [Deflate(window_bits, min_bytes), without]


@cache
def words(size: int) -> bytes:
    """Return bytes that get shorter, but not by much."""
    random = Random(7)
    return b" ".join(random.choice([b"alpha", b"beta", b"gamma", b"delta", b"%d" % n]) for n in range(size // 4 + 1))[
        :size
    ]


def far_repeats() -> Iterator[bytes]:
    """Return payloads with a repeat at, below and above the size of each window."""
    random = Random(7)
    for window_bits in (9, 12, 15):
        for distance in range(2**window_bits - 262, 2**window_bits + 263, 131):
            block = random.randbytes(distance).hex().encode()[:distance]
            yield block + block[:100] + words(500) + block


def inflate_strictly(payload: bytes, window_bits: int) -> bytes:
    """Inflate one byte at a time, so that zlib has no more of the output than its window.

    Raises:
        zlib.error: the payload refers to bytes before the window.
    """
    inflater = zlib.decompressobj(-window_bits)
    data, inflated = payload + TAIL, bytearray()
    while piece := inflater.decompress(data, 1):
        inflated += piece
        data = inflater.unconsumed_tail
    return bytes(inflated)


class DeflateTests(SynchronousTestCase):
    """Compressed frames, by zlib and by isal."""

    @given(opcodes, st.lists(payloads | st.integers(400, 5000).map(words), max_size=5), st.integers(9, 15))
    @example(frames.TEXT, [words(1000), words(100), words(5000), words(511), words(512), b""], 9)
    def test_shared_frames_inflate_in_any_connection(self, opcode: int, sent: list[bytes], window_bits: int) -> None:
        """Frames made without context decode one after the other, with and without context takeover (TRAPS 6)."""
        for deflate in both(window_bits):
            data = b"".join(map(deflate, (frames.encode(opcode, payload) for payload in sent)))
            for no_takeover in (False, True):
                extension = PerMessageDeflate(no_takeover, False, window_bits, 15)
                parsed = parse(data, [extension])
                got = [(frame.opcode, frame.data) for frame in parsed]
                self.assertEqual(got, [(opcode, payload) for payload in sent])

    def test_window_bits(self) -> None:
        """No payload refers to bytes before the window that was agreed (TRAPS 136)."""
        for window_bits in WINDOW_BITS:
            for deflate in both(window_bits):
                for payload in far_repeats():
                    deflated = deflate(frames.encode(frames.BINARY, payload))
                    self.assertEqual(deflated[0], 0xC2)
                    self.assertEqual(inflate_strictly(frames.payload_of(deflated), window_bits), payload)

    def test_window_bits_exceeded(self) -> None:
        """The check of the test above finds a window that is too large."""
        for deflate in both(15):
            deflated = deflate(frames.encode(frames.BINARY, words(5000)))
            self.assertEqual(inflate_strictly(frames.payload_of(deflated), 15), words(5000))
            with self.assertRaises(zlib.error):
                inflate_strictly(frames.payload_of(deflated), 9)

    def test_end_of_message(self) -> None:
        """A payload has no final block, and ends where a sync flush would have its four bytes (RFC 7692 7.2.1)."""
        for deflate in both(15):
            for size in (100, 1000, 70_000, 2**20):
                payload = frames.payload_of(deflate(frames.encode(frames.TEXT, words(size))))
                inflater = zlib.decompressobj(-15)
                self.assertEqual(inflater.decompress(payload + TAIL), words(size))
                self.assertEqual((inflater.eof, payload.endswith(TAIL)), (False, False))

    def test_isal_min_bytes(self) -> None:
        """Isal deflates payloads of 512 bytes and more, zlib shorter ones; zlib all of them without isal."""
        for index, (size, library) in enumerate([(511, zlib), (512, isal_zlib), (511, zlib), (512, zlib)]):
            compressor = library.compressobj(level=1, wbits=-12)
            expected = (compressor.compress(words(size)) + compressor.flush(zlib.Z_FULL_FLUSH)).removesuffix(TAIL)
            got = both(12)[index // 2](frames.encode(frames.TEXT, words(size)))
            self.assertEqual(frames.payload_of(got), expected)
        self.assertEqual(ISAL_MIN_BYTES, 512)

    def test_load_isal(self) -> None:
        """The module is returned if it is installed."""
        self.assertIs(load_isal(), isal_zlib)
        with mock.patch.dict(sys.modules, WITHOUT_ISAL):
            self.assertIs(load_isal(), None)

    def test_library_name(self) -> None:
        """The library and its version are named, also where a copy of isal has none."""
        self.assertRegex(library_name(), r"^isal \d")
        with mock.patch.dict(sys.modules, WITHOUT_ISAL):
            self.assertEqual(library_name(), f"zlib {zlib.ZLIB_RUNTIME_VERSION}")
        with mock.patch.dict(sys.modules, {"isal": mock.Mock(spec=[])}):
            self.assertEqual(library_name(), "isal of unknown version")

    def test_compressed_size(self) -> None:
        """Isal's output is at most a twentieth longer than zlib's, from 512 bytes on."""
        for size in (512, 1024, 16384, 2**20):
            by_isal, by_zlib = (len(deflate(frames.encode(frames.TEXT, words(size)))) for deflate in both(15))
            self.assertLess(by_isal, by_zlib * 1.05)

    def test_frames_that_stay_plain(self) -> None:
        """Short payloads, and those that would not get shorter, go out as they are: the same object."""
        short = frames.encode(2, b"a" * 99)
        for deflate in both(15, min_bytes=100):
            self.assertIs(deflate(short), short)
            self.assertLess(len(deflate(frames.encode(2, b"a" * 100))), 50)
            for size in (500, 1000, 70_000):
                noise = frames.encode(2, Random(1).randbytes(size))
                self.assertIs(deflate(noise), noise)

    def test_id(self) -> None:
        """Frames have no place for an id."""
        frame = frames.encode(frames.TEXT, b"a" * 1000)
        self.assertIs(frames.plain(frame, "e-1"), frame)
        for deflate in both(15):
            self.assertEqual(deflate(frame, "e-1"), deflate(frame))

    def test_compression(self) -> None:
        """A repetitive payload gets shorter, and RSV1 says so."""
        for deflate in both(15):
            frame = deflate(frames.encode(frames.TEXT, b"a" * 1000))
            self.assertLess(len(frame), 50)
            self.assertEqual(frame[0], 0xC1)
