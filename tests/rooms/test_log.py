"""Tests of wsrelay.rooms.log."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.message import Message
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.log import OWN_MESSAGES, SLICE_BYTES, Age, Log
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wire import sse


def message(payload: bytes = b"x", publisher: object = None, at: float = 0.0) -> Message:
    """Return a binary message."""
    made = Message.binary(payload, publisher)
    made.published_at = at
    return made


class LogTests(SynchronousTestCase):
    """Messages by offset."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.cache = FrameCache(Settings())
        self.log = Log(self.stats, self.cache)

    def test_offsets(self) -> None:
        """Offsets count from 0 and go on after messages were forgotten."""
        for _ in range(3):
            self.log.extend([message()])
        self.assertEqual((self.log.tail, self.log.head), (0, 3))

        self.log.forget(3)

        self.assertEqual((self.log.tail, self.log.head, self.log.size_bytes), (3, 3, 0))

    def test_no_empty_batch(self) -> None:
        """A batch without messages is an error: a wait for more would never end."""
        self.log.extend([message(), message()])
        self.log.trim(message().size_bytes)
        self.assertRaises(ValueError, self.log.batch, 0, 2)
        self.assertRaises(ValueError, self.log.batch, 2, 2)

    def test_not_of(self) -> None:
        """The newest message of another publisher is found, if one is near; else nothing is skipped back."""
        a, b = object(), object()
        self.log.extend([message(publisher=publisher) for publisher in (a, b, a, a)])

        self.assertEqual([self.log.not_of(a, start) for start in (3, 2, 1, 0)], [1, 1, 1, 0])
        self.assertEqual([self.log.not_of(publisher, 3) for publisher in (b, None)], [3, 3])
        self.log.extend([message(publisher=a)] * OWN_MESSAGES)
        self.assertEqual([self.log.not_of(a, OWN_MESSAGES + past) for past in (0, 1)], [1, OWN_MESSAGES + 1])

    def test_trim(self) -> None:
        """The oldest go first, and only as many as must."""
        for _ in range(5):
            self.log.extend([message()])
        one = message().size_bytes

        self.log.trim(3 * one)
        self.assertEqual((self.log.tail, self.log.size_bytes), (2, 3 * one))
        self.log.trim(3 * one)
        self.assertEqual(self.log.tail, 2)

    def test_expire(self) -> None:
        """Only messages that are old and before the given offset are forgotten."""
        for second in range(5):
            self.log.extend([message(at=second)])

        self.log.expire(before=5, horizon=2)
        self.assertEqual(self.log.tail, 2)
        self.log.expire(before=3, horizon=9)
        self.assertEqual(self.log.tail, 3)
        self.log.expire(before=5, horizon=9)
        self.assertEqual((self.log.tail, self.log.size_bytes), (5, 0))

    def test_forget(self) -> None:
        """Messages before an offset are forgotten; doing so again has no effect."""
        for size in (1, 10, 100):
            self.log.extend([message(bytes(size))])
        sizes = [message(bytes(size)).size_bytes for size in (1, 10, 100)]

        self.log.forget(0)
        self.assertEqual((self.log.tail, self.log.size_bytes), (0, sum(sizes)))
        self.log.forget(2)
        self.assertEqual((self.log.tail, self.log.head, self.log.size_bytes), (2, 3, sizes[2]))
        self.log.forget(1)
        self.assertEqual(self.log.tail, 2)
        self.log.forget(99)
        self.assertEqual((self.log.tail, self.log.head, self.log.size_bytes), (3, 3, 0))

    def test_sizes(self) -> None:
        """The cost of the messages from an offset on, and the offset for a cost."""
        for _ in range(5):
            self.log.extend([message()])
        one = message().size_bytes
        self.log.forget(1)

        self.assertEqual([self.log.size_from(offset) for offset in (1, 2, 5)], [4 * one, 3 * one, 0])
        for most_bytes, offset in ((0, 4), (one, 4), (2 * one - 1, 4), (2 * one, 3), (99 * one, 1)):
            self.assertEqual(self.log.last(most_bytes), offset)
        self.log.forget(5)
        self.assertEqual(self.log.last(99), 5)

    def test_encoded_frames_forgotten(self) -> None:
        """A log forgets encoded frames with their message, in each way; those of other logs stay."""
        self.log.extend([message(bytes(300))])
        ways: list[tuple[Callable[[Log], None], int]] = [
            (lambda log: log.forget(9), 1),
            (lambda log: log.forget(1), 2),
            (lambda log: log.trim(message(bytes(300)).size_bytes), 2),
            (lambda log: log.expire(before=2, horizon=1), 1),
        ]
        for forget, left in ways:
            other = Log(self.stats, self.cache)
            other.extend([message(bytes(300)), message(bytes(300))])
            for each in (*self.log, *other):
                self.cache.frame(each, sse.encode)
            forget(other)
            self.cache.check([*self.log, *other])
            self.assertEqual(len(self.cache.frames), left)
            other.forget(other.head)

    def test_stats_log_bytes(self) -> None:
        """The cost of all logs is known at any time."""
        other = Log(self.stats, self.cache)
        for log in (self.log, other):
            log.extend([message(), message(), message()])
        one = message().size_bytes
        self.assertEqual(self.stats.log_bytes, 6 * one)
        self.log.trim(2 * one)
        self.assertEqual(self.stats.log_bytes, 5 * one)
        self.log.forget(9)
        other.expire(before=1, horizon=1)

        self.assertEqual(self.stats.log_bytes, 2 * one)

    def test_batches_cover_the_log(self) -> None:
        """Batches are consecutive, have at least one message, and are bounded otherwise."""
        sizes = [10, SLICE_BYTES * 2, 10, *[SLICE_BYTES // 3] * 4]
        for size in sizes:
            self.log.extend([message(bytes(size))])

        ends: list[int] = []
        start = 0
        while start < 7:
            start = self.log.batch(start, 7).end
            ends.append(start)

        self.assertEqual(ends, [1, 2, 5, 7])
        self.assertEqual(self.log.batch(0, 1).end, 1)


class AgeTests(SynchronousTestCase):
    """The age of messages."""

    def test_age(self) -> None:
        """Messages are old from their age on, and stay old; later ones are not."""
        age = Age()
        self.assertEqual(age.old_before(100, 3, 10), 0)
        self.assertEqual(age.old_before(105, 7, 10), 0)
        self.assertEqual(age.old_before(110, 9, 10), 3)
        self.assertEqual(age.old_before(115, 9, 10), 7)
        self.assertEqual(age.old_before(200, 9, 10), 9)
        self.assertEqual(age.old_before(200, 12, 10), 9)

    def test_age_precision(self) -> None:
        """A message is reported as old at its age, or at most a sixteenth of it later, at any rate of calls."""
        age = Age()
        published = {}
        for tick in range(1000):
            now = tick / 4
            published[tick] = now
            old = age.old_before(now, tick + 1, 16)
            ages = {offset: now - published[offset] for offset in published}
            self.assertTrue(all(ages[offset] >= 16 for offset in range(old)))
            self.assertTrue(all(ages[offset] < 17.5 for offset in range(old, tick)))

    def test_age_memory(self) -> None:
        """Frequent calls do not store more than a few marks."""
        age = Age()
        for tick in range(10_000):
            age.old_before(tick * 60, tick, 86400)
            self.assertLessEqual(len(age._marks), 17)
