"""Tests of wsrelay.rooms.audience."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.rooms.audience import Audience
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate


class AudienceTests(SynchronousTestCase):
    """Subscribers by encoding."""

    def setUp(self) -> None:
        self.deflate = Deflate(15)
        self.plain = [RecordingSubscriber(str(number)) for number in range(3)]
        self.deflating = RecordingSubscriber("deflating", self.deflate)
        self.audience = Audience()
        for subscriber in (*self.plain, self.deflating):
            self.audience.add(subscriber)

    def test_size(self) -> None:
        """All are counted; without subscribers there is no group."""
        self.assertEqual(len(self.audience), 4)
        self.assertEqual(set(self.audience), {*self.plain, self.deflating})
        for subscriber in (*self.plain, self.deflating):
            self.assertTrue(self.audience.discard(subscriber))
            self.assertFalse(self.audience.discard(subscriber))

        self.assertEqual(len(self.audience), 0)
        self.assertEqual(self.audience.groups, {})

    def test_take(self) -> None:
        """They are taken by encoding, in order, and at least one at a time; then none is left."""
        taken = []
        while self.audience.groups:
            encoding = self.audience.next_encoding()
            taken.append((encoding, list(self.audience.take(encoding, 2))))
        self.assertEqual(
            taken, [(frames.plain, self.plain[:2]), (frames.plain, self.plain[2:]), (self.deflate, [self.deflating])]
        )

    def test_take_one(self) -> None:
        """However few writes are left, there is one taken, with its send."""
        [(subscriber, send)] = self.audience.take(frames.plain, 0.1).items()

        self.assertEqual((subscriber, send), (self.plain[0], self.plain[0].send))

    def test_take_the_last(self) -> None:
        """Where the last one is taken, no empty rest stays behind."""
        self.audience.take(frames.plain, 2)
        self.audience.take(frames.plain, 0.5)
        self.audience.take(self.deflate, 0.5)

        self.assertEqual(self.audience.groups, {})

    def test_copy(self) -> None:
        """Changes to a copy do not change the audience."""
        self.audience.copy().take(frames.plain, 99)

        self.assertEqual(len(self.audience), 4)
