"""Tests of wsrelay.message."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay import frames
from wsrelay.message import MESSAGE_OVERHEAD_BYTES, Message


class MessageTests(SynchronousTestCase):
    """One message."""

    def test_keeps_type_and_bytes(self) -> None:
        """A message is what it was made of."""
        message = Message(frames.TEXT, b"hi", publisher := object())

        self.assertEqual((message.opcode, message.payload, message.publisher), (frames.TEXT, b"hi", publisher))

    def test_cost(self) -> None:
        """Even an empty message costs something, so that a log of them is bounded."""
        self.assertEqual(Message(frames.BINARY, b"").size_bytes, MESSAGE_OVERHEAD_BYTES)
        self.assertEqual(Message(frames.BINARY, b"123").size_bytes, 3 + MESSAGE_OVERHEAD_BYTES)

    def test_frames_are_made_once(self) -> None:
        """Asking again for an encoding gives the same object; encodings differ."""
        message = Message(frames.TEXT, b"hello " * 10)

        for encoding in (frames.PLAIN, 9, 15):
            self.assertIs(message.frame(encoding), message.frame(encoding))
        self.assertEqual(message.frame(frames.PLAIN), frames.encode(frames.TEXT, b"hello " * 10))
        self.assertEqual(message.frame(12), frames.encode_deflated(frames.TEXT, b"hello " * 10, 12))
