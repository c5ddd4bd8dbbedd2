"""Tests of wsrelay.rooms.accounts; the hub's model test compares accounts with what was seen."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.message import Run
from wsrelay.rooms.accounts import Accounts
from wsrelay.rooms.batch import Batch

NO_BATCH = Batch([], 0)


class AccountsTests(SynchronousTestCase):
    """Sums per member: messages and plain bytes."""

    def setUp(self) -> None:
        self.accounts = Accounts()
        self.a, self.b = RecordingSubscriber("a"), RecordingSubscriber("b")
        self.head = 0

    def batch(self, *publishers: object) -> Batch:
        """Return the next batch: a message of 10 bytes in all per publisher."""
        batch = Batch([Run.binary(bytes(8), publisher) for publisher in publishers], self.head)
        self.head = batch.end
        return batch

    def flush(self, *publishers: object) -> Batch:
        """Flush a batch to both subscribers."""
        batch = self.batch(*publishers)
        self.accounts.flush(batch, [{self.a, self.b}])
        return batch

    def given(self, subscriber: RecordingSubscriber) -> tuple[int, int]:
        return self.accounts.given_of_flushed(subscriber, NO_BATCH)

    def test_own_messages_are_left_out(self) -> None:
        """A publisher was given all messages except its own, whether or not others published in the same flush."""
        self.flush(self.a)
        self.flush(self.a, None, self.a)

        self.assertEqual((self.given(self.a), self.given(self.b)), ((1, 10), (4, 40)))

    def test_join(self) -> None:
        """A subscriber was given nothing that was flushed before it joined; in an idle room it costs no entry."""
        self.accounts.follow(self.a)
        self.assertEqual(self.accounts._left_out, {})
        self.flush(None)
        self.accounts.follow(newcomer := RecordingSubscriber())
        self.flush(None)

        self.assertEqual((self.given(self.a), self.given(newcomer)), ((2, 20), (1, 10)))

    def test_lag(self) -> None:
        """A lagging subscriber was given what it had, minus what is due, and each batch since."""
        due = self.flush(self.b, self.b, None)
        self.accounts.part(self.a, due)
        self.accounts.part(self.b, NO_BATCH)
        self.assertEqual((self.accounts.given(self.a), self.accounts.given(self.b)), ((0, 0), (1, 10)))
        self.accounts.add(self.a, due)
        self.accounts.add(self.b, more := self.batch(self.b, None))
        self.assertEqual((self.accounts.given(self.a), self.accounts.given(self.b)), ((3, 30), (2, 20)))
        self.accounts.take_back(self.b, more)
        self.assertEqual(self.accounts.given(self.b), (1, 10))

    def test_skipped_messages(self) -> None:
        """Messages that a subscriber skipped stay left out when it is up to date again."""
        self.accounts.part(self.a, NO_BATCH)
        self.accounts.flush(self.batch(None), [{self.b}])
        self.accounts.follow(self.a)
        self.flush(None)

        self.assertEqual((self.given(self.a), self.given(self.b)), ((1, 10), (2, 20)))

    def test_skip_to(self) -> None:
        """Messages published to a room without subscribers are given to none."""
        self.accounts.skip_to(5, 50)
        self.accounts.follow(self.a)

        self.assertEqual(self.given(self.a), (0, 0))

    def test_close(self) -> None:
        """A closed account returns its sum once, and leaves nothing behind."""
        self.flush(self.a, None)
        self.accounts.part(self.a, NO_BATCH)

        self.assertEqual([self.accounts.close(self.a), self.accounts.close(self.a)], [(1, 10), (0, 0)])
        self.accounts.check(2, {self.b}, [])

    def test_check(self) -> None:
        """A sum for a member that is gone is an error."""
        self.accounts.part(self.a, NO_BATCH)

        error = self.assertRaises(AssertionError, self.accounts.check, 0, {self.b}, [self.b])
        self.assertIn("gone", str(error))
