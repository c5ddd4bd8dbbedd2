"""Tests of wsrelay.message."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import joined
from wsrelay.message import MESSAGE_OVERHEAD_BYTES, Run
from wsrelay.message_id import MessageId
from wsrelay.wire import frames


def content(run: Run) -> tuple[int, bytes, object]:
    """Return the opcode, the payload and the publisher of a single message."""
    return frames.opcode_of(run.plain), frames.payload_of(run.plain), run.publisher


class RunTests(SynchronousTestCase):
    """Messages in runs."""

    def test_text(self) -> None:
        """Text is encoded as UTF-8; bytes are taken as they are."""
        for text in ("grüß", "grüß".encode()):
            message = Run.text(text, publisher := object())
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

    @settings(max_examples=50)
    @given(st.lists(st.binary(max_size=200) | st.sampled_from([bytes(126), bytes(70_000)]), min_size=2, max_size=9))
    def test_cut(self, payloads: list[bytes]) -> None:
        """A run is cut between any two messages, and the ids go on."""
        whole = joined([Run.binary(payload) for payload in payloads])
        whole.id = MessageId("a", (5,))
        for count in range(1, len(payloads)):
            first, rest = whole.cut(count)
            self.assertEqual((first.count, rest.count), (count, len(payloads) - count))
            self.assertEqual(
                (first.plain + rest.plain, first.id, rest.id), (whole.plain, whole.id, whole.id.plus(count))
            )
            self.assertEqual(first.messages()[-1].plain, Run.binary(payloads[count - 1]).plain)

    def test_cut_without_id(self) -> None:
        """Without an id there is none behind the cut either."""
        first, rest = joined([Run.text("1", self), Run.text("2", self)]).cut(1)
        self.assertEqual((first.id, rest.id, rest.publisher), (None, None, self))
