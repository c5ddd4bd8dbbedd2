"""wsrelay.rooms.replays: who still gets what was published before it joined."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.rooms.replays import NO_REPLAYS, Replays


class ReplaysTests(SynchronousTestCase):
    """Some subscribers."""

    def setUp(self) -> None:
        self.replays: Replays = NO_REPLAYS
        self.one, self.other = RecordingSubscriber("one"), RecordingSubscriber("other")

    def test_reach(self) -> None:
        """A replay ends at the head of the log when its subscriber joined."""
        self.replays = self.replays.begin(self.one, 1, 5)
        self.assertEqual((self.replays.reach(self.one, 4), self.replays.cursors), (3, {4: 1}))
        self.assertIn(self.one, self.replays)
        self.assertEqual((self.replays.reach(self.one, 7), self.replays.cursors), (1, {}))
        self.assertEqual((self.one in self.replays, len(self.replays)), (False, 0))

    def test_others(self) -> None:
        """What other subscribers reach, and that they leave, changes nothing."""
        self.replays = self.replays.begin(self.one, 1, 5)
        self.assertEqual((self.replays.reach(self.other, 9), self.replays.end(self.other)), (0, 0))
        self.assertEqual(len(self.replays), 1)
        self.assertFalse(self.replays.ended_but({self.other}))
        self.assertEqual(self.replays.end(self.one), 5)
        self.assertTrue(self.replays.ended_but(set()))

    def test_late(self) -> None:
        """A replay is late when it takes too long; one that has ended is not, and begins anew."""
        self.replays = self.replays.begin(self.one, 1, 5)
        self.assertEqual([self.replays.late(now, 30) for now in (10, 39, 40)], [[], [], [self.one]])
        self.replays.reach(self.one, 5)
        self.replays = self.replays.begin(self.one, 6, 9)
        self.assertEqual((self.replays.late(50, 30), len(self.replays)), ([], 1))
