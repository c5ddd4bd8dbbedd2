"""Frames of a client, read by a library."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from websockets.frames import Frame
from websockets.streams import StreamReader

from tests.wire.test_frames import run
from wsrelay.selftest.frames import BINARY, CLOSE, CONTINUATION, FIN, TEXT, close_frame, fragments, masked, message


class FramesTests(SynchronousTestCase):
    """A library reads what was meant."""

    @given(
        st.sampled_from([b"", b"a", b"x" * 125, b"x" * 126, b"x" * 65535, b"x" * 65536]),
        st.sampled_from([TEXT, BINARY]),
    )
    def test_masked(self, payload: bytes, opcode: int) -> None:
        """One masked frame with the payload."""
        (frame,) = _parse(masked(FIN | opcode, payload))
        self.assertEqual((frame.fin, frame.opcode, frame.data), (True, opcode, payload))

    def test_length_bits(self) -> None:
        """A longer length field than needed can be asked for."""
        self.assertEqual(masked(FIN | BINARY, b"a", length_bits=16)[1:4], b"\xfe\0\1")
        self.assertEqual(masked(FIN | BINARY, b"a", length_bits=64)[1:10], b"\xff" + b"\0" * 7 + b"\1")

    def test_messages(self) -> None:
        """Text of str, binary of bytes, and fragments."""
        frames = _parse(message("ä") + message(b"b") + b"".join(fragments(TEXT, [b"c", b"d", b"e"])))
        self.assertEqual(
            [(frame.fin, frame.opcode, frame.data) for frame in frames],
            [
                (True, TEXT, "ä".encode()),
                (True, BINARY, b"b"),
                (False, TEXT, b"c"),
                (False, CONTINUATION, b"d"),
                (True, CONTINUATION, b"e"),
            ],
        )

    def test_close(self) -> None:
        """A close frame has a code, a reason, or nothing."""
        empty, full = _parse(close_frame() + close_frame(4321, b"why"))
        self.assertEqual((empty.opcode, empty.data, full.data), (CLOSE, b"", b"\x10\xe1why"))


def _parse(data: bytes) -> list[Frame]:
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parsed = []
    while not run(reader.at_eof()):
        parsed.append(run(Frame.parse(reader.read_exact, mask=True)))
    return parsed
