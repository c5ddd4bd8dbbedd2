"""Tests of wsrelay.rooms.subscribers; what subscribers see of it is in ``tests/rooms/test_room.py``."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.message import Run
from wsrelay.rooms.accounts import Accounts
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.log import Log
from wsrelay.rooms.subscribers import Subscribers
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wire import frames
from wsrelay.wire.deflate import Deflate


class SubscribersTests(SynchronousTestCase):
    """States and cursors."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.cache = FrameCache(Settings())
        self.log = Log(self.stats, self.cache)
        self.subscribers = Subscribers(self.log, Accounts(), self.stats)

    def join(self, name: str = "") -> RecordingSubscriber:
        subscriber = RecordingSubscriber(name)
        self.subscribers.add(subscriber)
        return subscriber

    def publish(self, count: int = 1) -> None:
        for _ in range(count):
            self.log.append(Run.text(b"x"))

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

        skipped = [self.subscribers.skip_to(offset, a) for offset in (3, 3, 2)]
        self.assertEqual(skipped, [range(3), range(0), range(0)])
        self.subscribers.resume(a)
        self.assertEqual(a.data, frames.encode(frames.TEXT, b"x") * 2)

    def test_leave_between_encodings(self) -> None:
        """A subscriber that leaves during a flush does not disturb those with another encoding."""
        a = self.join()
        b = RecordingSubscriber(encoding=Deflate(15, min_bytes=99))
        self.subscribers.add(b)
        a.on_send = lambda: self.assertEqual(self.subscribers.discard(a), 0)
        self.publish()
        self.subscribers.flush()

        self.assertEqual(b.data, frames.encode(frames.TEXT, b"x"))

    def deflating(self, name: str) -> RecordingSubscriber:
        """Return a subscriber whose encoding counts in ``encoded``."""
        subscriber = RecordingSubscriber(name, self.encode)
        self.subscribers.add(subscriber)
        return subscriber

    def encode(self, frame: bytes) -> bytes:
        self.encoded += 1
        return frame[::-1]

    def test_encoded_once(self) -> None:
        """Subscribers that lag share encoded messages, with each other and with those that do not lag."""
        self.encoded = 0
        current, *paused = (self.deflating(name) for name in "abcd")
        for subscriber in paused:
            self.subscribers.pause(subscriber)
        for number in range(5):
            self.log.append(Run.binary(bytes([number]) * 300))
        self.subscribers.flush()
        self.assertEqual((self.encoded, len(self.cache.frames)), (5, 5))
        for subscriber in paused:
            self.subscribers.resume(subscriber)

        self.assertEqual(self.encoded, 5)
        self.assertEqual({subscriber.data for subscriber in paused}, {current.data})

    def test_encoded_frames_not_kept(self) -> None:
        """Without a subscriber that lags no encoded frame outlives a flush."""
        self.encoded = 0
        a = self.deflating("a")
        self.log.append(Run.binary(bytes(300)))
        self.subscribers.flush()

        self.assertEqual((self.encoded, len(a.writes), len(self.cache.frames)), (1, 1, 0))

    def test_encoded_once_in_stretches(self) -> None:
        """A flush in several stretches encodes once; between them only the cache has encoded frames."""
        self.encoded = 0
        members = [self.deflating(name) for name in "abc"]
        self.log.append(Run.binary(bytes(300)))
        for written in (1, 2, 3):
            self.subscribers.flush(1)
            self.assertEqual(sum(len(member.writes) for member in members), written)
            self.assertEqual((self.encoded, self.subscribers._batch._shared), (1, {}))

        self.assertEqual({member.writes[0] for member in members}, {members[0].data})

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
