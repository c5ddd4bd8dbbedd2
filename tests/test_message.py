"""Tests of wsrelay.message."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.message import MESSAGE_OVERHEAD_BYTES, Message
from wsrelay.wire import frames


class MessageTests(SynchronousTestCase):
    """One message."""

    def test_text(self) -> None:
        """Text is encoded as UTF-8; bytes are taken as they are."""
        for given in ("grüß", "grüß".encode()):
            message = Message.text(given, publisher := object())
            expected = (frames.TEXT, "grüß".encode(), publisher)
            self.assertEqual((message.opcode, message.payload, message.publisher), expected)
        self.assertIs(Message.text("").publisher, None)

    def test_binary(self) -> None:
        """A binary message has the payload and the publisher that it was made of."""
        message = Message.binary(b"\xff", publisher := object())

        self.assertEqual((message.opcode, message.payload, message.publisher), (frames.BINARY, b"\xff", publisher))

    def test_identity(self) -> None:
        """Messages with the same content are still two messages."""
        self.assertNotEqual(Message.text("x"), Message.text("x"))

    def test_cost(self) -> None:
        """Even an empty message costs something, so that a log of them is bounded."""
        for length in (0, 125, 126, 65535, 65536):
            size_bytes = Message.binary(bytes(length)).size_bytes
            self.assertGreaterEqual(size_bytes, length + 200)
            self.assertLessEqual(size_bytes, length + MESSAGE_OVERHEAD_BYTES)
