"""Tests of wsrelay.rooms.subscribers; what subscribers see of it is in ``tests/rooms/test_room.py``."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.message import Message
from wsrelay.rooms.accounts import Accounts
from wsrelay.rooms.log import Log
from wsrelay.rooms.subscribers import Subscribers
from wsrelay.stats import Stats
from wsrelay.wire import frames


class SubscribersTests(SynchronousTestCase):
    """States and cursors."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.log = Log(self.stats)
        self.subscribers = Subscribers(self.log, Accounts(), self.stats)

    def join(self, name: str = "") -> RecordingSubscriber:
        subscriber = RecordingSubscriber(name)
        self.subscribers.add(subscriber)
        return subscriber

    def publish(self, count: int = 1) -> None:
        self.log.extend([Message.text(b"x")] * count)

    def test_slowest(self) -> None:
        """slowest is the smallest cursor of a lagging subscriber, and the head without any."""
        a, b = self.join("a"), self.join("b")
        self.publish(2)
        self.subscribers.flush()
        self.assertEqual((self.subscribers.slowest, self.subscribers.lagging), (2, 0))
        self.subscribers.pause(a)
        self.publish(2)
        self.subscribers.flush()
        self.subscribers.pause(b)
        self.publish(1)
        self.subscribers.flush()

        self.assertEqual((self.subscribers.slowest, self.subscribers.lagging), (2, 2))
        self.assertEqual(self.subscribers.paused_before(4), [a])
        self.assertEqual(self.subscribers.paused_before(5), [a, b])
        self.assertEqual(self.subscribers.stalled(), [a])
        self.assertEqual(self.subscribers.discard(a), 3)
        self.assertEqual(self.subscribers.slowest, 4)

    def test_low_watermark(self) -> None:
        """Messages are needed until the slowest subscriber has them, and until a flush has delivered them to all."""
        a, b = self.join("a"), self.join("b")
        self.publish(2)
        self.assertEqual(self.subscribers.low_watermark, 0)
        self.subscribers.flush(1)
        self.assertEqual((self.subscribers.low_watermark, len(a.writes), len(b.writes)), (0, 1, 0))
        self.assertEqual(self.subscribers.stalled(), [])
        self.subscribers.flush()
        self.assertEqual(self.subscribers.low_watermark, 2)
        self.subscribers.pause(a)
        self.publish(1)
        self.subscribers.flush()

        self.assertEqual(self.subscribers.low_watermark, 2)

    def test_skip_to(self) -> None:
        """A paused subscriber goes on from a later offset, never from an earlier one; the skipped are counted."""
        a = self.join()
        self.subscribers.pause(a)
        self.publish(5)
        self.subscribers.flush()

        self.assertEqual([self.subscribers.skip_to(offset, a) for offset in (3, 3, 2)], [3, 0, 0])
        self.subscribers.resume(a)
        self.assertEqual(a.data, frames.encode(frames.TEXT, b"x") * 2)

    def test_leave_between_encodings(self) -> None:
        """A subscriber that leaves during a flush does not disturb those with another encoding."""
        a = self.join()
        b = RecordingSubscriber(encoding=frames.Deflate(15, min_bytes=99))
        self.subscribers.add(b)
        a.on_send = lambda: self.assertEqual(self.subscribers.discard(a), 0)
        self.publish()
        self.subscribers.flush()

        self.assertEqual(b.data, frames.encode(frames.TEXT, b"x"))

    def test_check(self) -> None:
        """A paused subscriber without a cursor is an error."""
        a = self.join()
        self.subscribers.check()
        self.subscribers._paused[a] = None

        error = self.assertRaises(AssertionError, self.subscribers.check)
        self.assertIn("paused", str(error))

    def test_failed(self) -> None:
        """A failed subscriber still counts, but gets nothing more, until it is taken."""
        a, b = self.join("a"), self.join("b")

        def fail() -> None:
            raise RuntimeError("no")

        a.on_send = fail
        self.publish()
        self.subscribers.flush()
        self.publish()
        self.subscribers.flush()
        self.assertEqual((len(self.subscribers), set(self.subscribers)), (2, {a, b}))
        [(failed, error)] = self.subscribers.take_failed()

        self.assertEqual((failed, str(error), len(a.writes)), (a, "no", 1))
        self.assertEqual((len(self.subscribers), set(self.subscribers), len(b.writes)), (1, {b}, 2))
