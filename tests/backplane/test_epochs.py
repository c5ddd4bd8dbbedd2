"""Tests of wsrelay.backplane.epochs."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.entry import EMPTY, Entry
from wsrelay.backplane.epochs import START_PLACE, Epochs
from wsrelay.message_id import MessageId, epoch_number, epoch_of
from wsrelay.rooms.timeline import Timeline

LOW, HIGH = epoch_of(1000), epoch_of(2**30)


def entry(node: str = "a", seq: int = 1, epoch: str = "") -> Entry:
    """Return an entry."""
    return Entry(node, seq, EMPTY, epoch=epoch)


class EpochsTests(SynchronousTestCase):
    """The epochs of one stream."""

    def setUp(self) -> None:
        """Begin without an epoch."""
        self.timeline = Timeline("")
        self.drawn: list[int] = []
        self.epochs = Epochs(self.timeline, self.below)

    def below(self, bound: int) -> int:
        """Return the largest number allowed."""
        self.drawn.append(bound)
        return bound - 1

    def read(self, found: Entry, *place: int) -> None:
        """Read an entry."""
        self.epochs.read(found, place)
        self.timeline.head = (place[0], place[1] + 1)
        self.epochs.delivered(found, self.timeline.head)

    def test_first(self) -> None:
        """The first epoch is any in the lower half; it is sent."""
        self.assertTrue(self.epochs.is_unknown)
        self.epochs.begin((5, 0))
        self.assertEqual(self.timeline.begin, MessageId(epoch_of(2**39 - 1), (5, 0)))
        self.assertEqual((self.epochs.stamp, self.epochs.is_unknown), (self.timeline.epoch, False))

    def test_largest(self) -> None:
        """The largest epoch that was read holds, from its first entry on; entries without one change nothing."""
        self.read(entry(epoch=LOW), 1, 0)
        self.assertEqual((self.timeline.begin, self.epochs.stamp), (MessageId(LOW, (1, 0)), LOW))
        self.read(entry(epoch=HIGH), 2, 0)
        self.read(entry(epoch=LOW), 3, 0)
        self.read(entry(), 4, 0)
        self.read(entry(epoch=HIGH), 5, 0)
        self.assertEqual((self.timeline.begin, self.epochs.stamp), (MessageId(HIGH, (2, 0)), HIGH))

    def test_private(self) -> None:
        """After a loss ids are private until all that was read has come again; then there is a shared epoch."""
        self.read(entry(epoch=LOW), 1, 0)
        self.epochs.lose({"a": 7, "b": 3}, 100.0)
        private = self.timeline.epoch
        self.assertTrue(private > LOW)
        self.assertEqual((self.timeline.begin.place, self.timeline.head), (START_PLACE, START_PLACE))
        self.read(entry("a", 6), 2, 0)
        self.read(entry("b", 4), 3, 0)
        self.read(entry("c", 9), 4, 0)
        self.assertEqual((bool(self.epochs._owed), self.timeline.epoch), (True, private))
        self.assertTrue(LOW < self.epochs.stamp < private)
        self.read(entry("a", 7), 5, 0)
        self.assertTrue(private < self.timeline.epoch == self.epochs.stamp)
        self.assertEqual(self.timeline.begin.place, (5, 1))

    def test_doubt(self) -> None:
        """Before what was read is delivered, ids are still given; what is sent meanwhile voids them on other nodes."""
        self.read(entry(epoch=LOW), 1, 0)
        self.epochs.doubt()
        void = self.epochs.stamp
        self.assertTrue(void > self.timeline.epoch == LOW)
        self.epochs.lose({"a": 7}, 100.0)
        self.read(entry("a", 6, void), 2, 0)
        self.assertTrue(void < self.timeline.epoch)

    def test_private_is_less(self) -> None:
        """Another node's shared epoch is larger than a private one of the same origin; it is taken over at the end."""
        other = Epochs(Timeline(LOW), lambda _: 0)
        other.lose({}, 0.0)
        self.read(entry(epoch=LOW), 1, 0)
        self.epochs.lose({"a": 2}, 100.0)
        private = self.timeline.epoch
        self.assertTrue(private < other.stamp)
        self.read(entry("b", 1, other.stamp), 2, 0)
        self.assertEqual(self.timeline.epoch, private)
        self.read(entry("a", 2), 3, 0)
        self.assertEqual(self.timeline.begin, MessageId(other.stamp, (3, 1)))

    def test_nothing_owed(self) -> None:
        """Where nothing is awaited, the shared epoch begins at once, from the start of the stream."""
        self.read(entry(epoch=LOW), 1, 0)
        self.epochs.lose({}, 100.0)
        self.assertEqual((self.epochs.stamp, self.timeline.begin.place), (self.timeline.epoch, START_PLACE))
        self.assertTrue(epoch_number(self.timeline.epoch) >= 1000 + 2**24)

    def test_give_up(self) -> None:
        """What does not come in time is awaited no longer."""
        self.read(entry(epoch=LOW), 1, 0)
        self.epochs.tick(1000.0)
        self.epochs.lose({"a": 2}, 100.0)
        self.read(entry("b", 4), 3, 0)
        self.epochs.tick(99.0)
        self.assertTrue(self.epochs._owed)
        self.epochs.tick(100.0)
        self.assertEqual((self.epochs.stamp, self.timeline.begin.place), (self.timeline.epoch, (3, 1)))

    def test_no_more(self) -> None:
        """The largest number is the last one."""
        self.read(entry(epoch="zzzzzzzz"), 1, 0)
        self.epochs.begin((2, 0))
        self.assertEqual(self.timeline.epoch, "zzzzzzzz")
