"""wsrelay.message_id: ids as texts, their order, and epochs."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.message_id import EPOCH_CHARS, MessageId, epoch_number, epoch_of

NUMBERS = st.integers(0, 2**40 - 1)
IDS = st.builds(MessageId, NUMBERS.map(epoch_of), st.lists(st.integers(0, 10**19), min_size=1, max_size=3).map(tuple))


class MessageIdTests(SynchronousTestCase):
    """Ids."""

    @given(IDS)
    def test_round_trip(self, identity: MessageId) -> None:
        """An id is read as it was written."""
        self.assertEqual(MessageId.parse(str(identity)), identity)

    def test_text(self) -> None:
        """It is the epoch, and the position behind it."""
        self.assertEqual(str(MessageId("k3fj9a2q", (129,))), "k3fj9a2q-129")
        self.assertEqual(str(MessageId("k3fj9a2q", (17, 0, 3))), "k3fj9a2q-17-0-3")

    def test_malformed(self) -> None:
        """Anything else is refused."""
        wrong = ["", "-1", "k3fj9a2q", "k3fj9a2q-", "k3fj9a2-1", "K3FJ9A2Q-1", "k3fj9a2q-1-2-3-4", "k3fj9a2q-x", "null"]
        for text in [*wrong, "k3fj9a2q--1", "k3fj9a2q-1 ", "k3fj9a2q-\u0661", "k3fj9a2q-" + "9" * 21, "k3fj9a2i-1"]:
            with self.subTest(text):
                self.assertRaises(ValueError, MessageId.parse, text)

    def test_order(self) -> None:
        """Ids of a later epoch are larger, then those with a later place; the parts of a place count in turn."""
        ids = [("a", ()), ("a", (1,)), ("a", (2,)), ("a", (10,)), ("b", ()), ("b", (1, 0, 5)), ("b", (1, 1, 0))]
        self.assertEqual(sorted(MessageId(*each) for each in reversed(ids)), [MessageId(*each) for each in ids])

    def test_plus(self) -> None:
        """The ids of a run's messages follow each other."""
        self.assertEqual(MessageId("a", (1, 2, 3)).plus(2), MessageId("a", (1, 2, 5)))
        self.assertEqual(MessageId("a", (3,)).plus(-1), MessageId("a", (2,)))


class EpochTests(SynchronousTestCase):
    """Epochs."""

    @given(NUMBERS, NUMBERS)
    def test_order(self, one: int, other: int) -> None:
        """Epochs are ordered as their numbers, and have a fixed length."""
        self.assertEqual(epoch_of(one) < epoch_of(other), one < other)
        self.assertEqual(len(epoch_of(one)), EPOCH_CHARS)
        self.assertEqual(epoch_number(epoch_of(one)), one)
