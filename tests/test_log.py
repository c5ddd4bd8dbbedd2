"""Tests of wsrelay.log."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay import frames
from wsrelay.log import SLICE_BYTES, Log
from wsrelay.message import Message


def message(payload: bytes = b"x", publisher: object = None, at: float = 0.0) -> Message:
    """Return a binary message."""
    made = Message.of(frames.BINARY, payload, publisher)
    made.published_at = at
    return made


class LogTests(SynchronousTestCase):
    """Messages by offset."""

    def setUp(self) -> None:
        self.log = Log()

    def test_offsets(self) -> None:
        """Offsets count from 0 and go on after messages were forgotten."""
        for _ in range(3):
            self.log.extend([message()])
        self.assertEqual((self.log.tail, self.log.head), (0, 3))

        self.log.clear()

        self.assertEqual((self.log.tail, self.log.head, self.log.size_bytes), (3, 3, 0))

    def test_no_empty_batch(self) -> None:
        """Asking for what is not there, or for nothing, is an error: waiting for more of it would never end."""
        self.log.extend([message(), message()])
        self.log.trim(message().size_bytes)
        self.assertRaises(ValueError, self.log.batch, 0, 2)
        self.assertRaises(ValueError, self.log.batch, 2, 2)

    def test_trim(self) -> None:
        """The oldest go first, and only as many as must."""
        for _ in range(5):
            self.log.extend([message()])
        one = message().size_bytes

        self.assertTrue(self.log.trim(3 * one))
        self.assertEqual((self.log.tail, self.log.size_bytes), (2, 3 * one))
        self.assertFalse(self.log.trim(3 * one))

    def test_expire(self) -> None:
        """Only what is old enough, and stands before the given offset, is forgotten."""
        for second in range(5):
            self.log.extend([message(at=second)])

        self.log.expire(before=5, horizon=2)
        self.assertEqual(self.log.tail, 2)
        self.log.expire(before=3, horizon=9)
        self.assertEqual(self.log.tail, 3)
        self.log.expire(before=5, horizon=9)
        self.assertEqual((self.log.tail, self.log.size_bytes), (5, 0))

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
