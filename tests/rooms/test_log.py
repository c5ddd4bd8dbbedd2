"""Tests of wsrelay.rooms.log."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import joined
from wsrelay.message import Run
from wsrelay.rooms.frame_cache import FrameCache
from wsrelay.rooms.log import OWN_MESSAGES, SLICE_BYTES, Age, Log
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wire import frames, sse


def message(payload: bytes = b"x", publisher: object = None, at: float = 0.0) -> Run:
    """Return a binary message."""
    made = Run.binary(payload, publisher)
    made.published_at = at
    return made


def extend(log: Log, messages: Sequence[Run]) -> None:
    """Append a run for each message."""
    for one in messages:
        log.append(one)


class LogTests(SynchronousTestCase):
    """Messages by offset."""

    def setUp(self) -> None:
        self.stats = Stats()
        self.cache = FrameCache(Settings())
        self.log = Log(self.stats, self.cache)

    def test_offsets(self) -> None:
        """Offsets count from 0 and go on after messages were forgotten."""
        for _ in range(3):
            extend(self.log, [message()])
        self.assertEqual((self.log.tail, self.log.head), (0, 3))

        self.log.forget(3)

        self.assertEqual((self.log.tail, self.log.head, self.log.size_bytes), (3, 3, 0))

    def test_no_empty_batch(self) -> None:
        """A batch without messages is an error: a wait for more would never end."""
        extend(self.log, [message(), message()])
        self.log.trim(message().size_bytes)
        self.assertRaises(ValueError, self.log.batch, 0, 2)
        self.assertRaises(ValueError, self.log.batch, 2, 2)

    def test_not_of(self) -> None:
        """The newest message of another publisher is found, if one is near; else nothing is skipped back."""
        a, b = object(), object()
        extend(self.log, [message(publisher=publisher) for publisher in (a, b, a, a)])

        self.assertEqual([self.log.not_of(a, start) for start in (3, 2, 1, 0)], [1, 1, 1, 0])
        self.assertEqual([self.log.not_of(publisher, 3) for publisher in (b, None)], [3, 3])
        extend(self.log, [message(publisher=a)] * OWN_MESSAGES)
        self.assertEqual([self.log.not_of(a, OWN_MESSAGES + past) for past in (0, 1)], [1, OWN_MESSAGES + 1])

    def test_not_of_bound(self) -> None:
        """No more of a publisher's runs are looked at than it may skip back."""

        class Counting(list[Run]):
            looks = 0

            def __getitem__(self, at: Any) -> Any:
                self.looks += 1
                return super().__getitem__(at)

        publisher = object()
        extend(self.log, [message(), *[message(publisher=publisher)] * (10 * OWN_MESSAGES)])
        runs = self.log._runs = Counting(self.log._runs)

        self.assertEqual(self.log.not_of(publisher, 9 * OWN_MESSAGES), 9 * OWN_MESSAGES)
        self.assertLessEqual(runs.looks, OWN_MESSAGES + 1)

    def test_trim(self) -> None:
        """The oldest go first, and only as many as must."""
        for _ in range(5):
            extend(self.log, [message()])
        one = message().size_bytes

        self.log.trim(3 * one)
        self.assertEqual((self.log.tail, self.log.size_bytes), (2, 3 * one))
        self.log.trim(3 * one)
        self.assertEqual(self.log.tail, 2)

    def test_forget(self) -> None:
        """Messages before an offset are forgotten; doing so again has no effect."""
        for size in (1, 10, 100):
            extend(self.log, [message(bytes(size))])
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
            extend(self.log, [message()])
        one = message().size_bytes
        self.log.forget(1)

        self.assertEqual([self.log.size_from(offset) for offset in (1, 2, 5)], [4 * one, 3 * one, 0])
        for most_bytes, offset in ((0, 4), (one, 4), (2 * one - 1, 4), (2 * one, 3), (99 * one, 1)):
            self.assertEqual(self.log.last(most_bytes), offset)
        self.log.forget(5)
        self.assertEqual(self.log.last(99), 5)

    def test_encoded_frames_forgotten(self) -> None:
        """A log forgets encoded frames with their message, in each way; those of other logs stay."""
        extend(self.log, [message(bytes(300))])
        ways: list[tuple[Callable[[Log], None], int]] = [
            (lambda log: log.forget(9), 1),
            (lambda log: log.forget(1), 2),
            (lambda log: log.trim(message(bytes(300)).size_bytes), 2),
            (lambda log: log.clear(1), 2),
        ]
        for forget, left in ways:
            other = Log(self.stats, self.cache)
            extend(other, [message(bytes(300)), message(bytes(300))])
            for each in (*self.log, *other):
                self.cache.frames_of(each, sse.encode)
            forget(other)
            self.cache.check([*self.log, *other])
            self.assertEqual(len(self.cache.frames), left)
            other.forget(other.head)

    def test_stats_log_bytes(self) -> None:
        """The cost of all logs is known at any time."""
        other = Log(self.stats, self.cache)
        for log in (self.log, other):
            extend(log, [message(), message(), message()])
        one = message().size_bytes
        self.assertEqual(self.stats.log_bytes, 6 * one)
        self.log.trim(2 * one)
        self.assertEqual(self.stats.log_bytes, 5 * one)
        self.log.forget(9)
        other.clear(1)

        self.assertEqual(self.stats.log_bytes, 2 * one)

    def test_batches_cover_the_log(self) -> None:
        """Batches are consecutive, have at least one message, and are bounded otherwise."""
        sizes = [10, SLICE_BYTES * 2, 10, *[SLICE_BYTES // 3] * 4]
        for size in sizes:
            extend(self.log, [message(bytes(size))])

        ends: list[int] = []
        start = 0
        while start < 7:
            start = self.log.batch(start, 7).end
            ends.append(start)

        self.assertEqual(ends, [1, 2, 5, 7])
        self.assertEqual(self.log.batch(0, 1).end, 1)


class RunTests(SynchronousTestCase):
    """Messages that came in runs: a log that ends within one, or a subscriber that goes on there."""

    def setUp(self) -> None:
        self.cache = FrameCache(Settings())
        self.log = Log(Stats(), self.cache)
        self.a, self.b = object(), object()
        for publisher, count in ((self.a, 3), (self.b, 4), (self.a, 2)):
            self.log.append(joined([message(bytes(300), publisher)] * count))
        self.one = message(bytes(300)).size_bytes

    def counts(self) -> list[int]:
        """Return the number of messages in each run; what is in the log is consistent."""
        self.log.check()
        self.cache.check([*self.log])
        return [run.count for run in self.log]

    def test_run_whole(self) -> None:
        """A run stays one, as long as nothing begins or ends within it."""
        self.assertEqual((self.log.head, self.counts()), (9, [3, 4, 2]))
        self.assertEqual(
            [(one.start, one.end) for one in (self.log.batch(0, 9), self.log.batch(3, 9))], [(0, 9), (3, 9)]
        )
        self.log.trim(6 * self.one)
        self.assertEqual((self.log.tail, self.counts()), (3, [4, 2]))
        self.log.forget(7)

        self.assertEqual((self.log.tail, self.counts()), (7, [2]))

    def test_run_trimmed(self) -> None:
        """Only as many messages as must go, also within a run, and the encoded frames of the run with them."""
        for run in self.log:
            self.cache.frames_of(run, sse.encode)
        self.log.trim(7 * self.one)

        self.assertEqual((self.log.tail, self.counts(), len(self.cache.frames)), (2, [1, 4, 2], 2))
        self.assertEqual(self.log.batch(2, 9).frames(frames.plain), message(bytes(300)).plain * 7)

    def test_run_last(self) -> None:
        """The newest messages that fit are found within a run; the newest one always counts."""
        self.assertEqual((self.log.last(6 * self.one), self.counts()), (3, [3, 4, 2]))
        self.assertEqual((self.log.last(5 * self.one), self.counts()), (4, [3, 1, 1, 1, 1, 2]))
        self.assertEqual((self.log.last(0), self.counts()[-2:]), (8, [1, 1]))

    def test_run_not_of(self) -> None:
        """A publisher goes back to the last message of another, within that one's run."""
        self.assertEqual((self.log.not_of(self.b, 7), self.counts()), (7, [3, 4, 2]))
        self.assertEqual((self.log.not_of(self.a, 7), self.counts()), (6, [3, 1, 1, 1, 1, 2]))
        self.assertEqual(self.log.not_of(self.b, 3), 2)

    def test_run_cut(self) -> None:
        """A run is taken apart so that a cursor can stand at any message."""
        for offset in (0, 3, 9):
            self.log.cut(offset)
        self.assertEqual(self.counts(), [3, 4, 2])
        self.log.cut(5)
        self.assertEqual(self.counts(), [3, 2, 2, 2])

    def test_run_long(self) -> None:
        """A slice has whole runs, of 64 KiB at most, or one that is longer."""
        self.log.forget(9)
        for size in (40_000, 30_000, 90_000, 10):
            self.log.append(message(bytes(size)))

        self.assertEqual([self.log.batch(start, 13).end for start in (9, 10, 11, 12)], [10, 11, 12, 13])


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
