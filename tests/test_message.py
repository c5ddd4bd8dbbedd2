"""Tests of wsrelay.message."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.message import MESSAGE_OVERHEAD_BYTES, Run
from wsrelay.wire import frames


def content(run: Run) -> tuple[int, bytes, object]:
    """Return the opcode, the payload and the publisher of a single message."""
    return frames.opcode_of(run.plain), frames.payload_of(run.plain), run.publisher


class RunTests(SynchronousTestCase):
    """Messages in runs."""

    def test_text(self) -> None:
        """Text is encoded as UTF-8; bytes are taken as they are."""
        for given in ("grüß", "grüß".encode()):
            message = Run.text(given, publisher := object())
            expected = (frames.TEXT, "grüß".encode(), publisher)
            self.assertEqual(content(message), expected)
        self.assertIs(Run.text("").publisher, None)

    def test_binary(self) -> None:
        """A binary message has the payload and the publisher that it was made of."""
        message = Run.binary(b"\xff", publisher := object())

        self.assertEqual(content(message), (frames.BINARY, b"\xff", publisher))

    def test_messages(self) -> None:
        """A run is taken apart into its messages, of any length, with its publisher and its time."""
        payloads = [bytes(length) for length in (0, 1, 125, 126, 65535, 65536)]
        plain = b"".join(frames.encode(frames.BINARY, payload) for payload in payloads)
        run = Run(plain, len(payloads), publisher := object(), 7.0)

        self.assertEqual(
            [content(one) for one in run.messages()], [(frames.BINARY, one, publisher) for one in payloads]
        )
        self.assertEqual({one.published_at for one in run.messages()}, {7.0})
        self.assertEqual(sum(one.size_bytes for one in run.messages()), run.size_bytes)

    def test_identity(self) -> None:
        """Runs with the same content are still two runs."""
        self.assertNotEqual(Run.text("x"), Run.text("x"))

    def test_cost(self) -> None:
        """Even an empty message costs something, so that a log of them is bounded."""
        for length in (0, 125, 126, 65535, 65536):
            size_bytes = Run.binary(bytes(length)).size_bytes
            self.assertGreaterEqual(size_bytes, length + 200)
            self.assertLessEqual(size_bytes, length + MESSAGE_OVERHEAD_BYTES)
