"""Tests of wsrelay.backplane.trim."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.entry import Id
from wsrelay.backplane.trim import Marks

MIB = 2**20


def entry_id(seconds: float, number: int = 0) -> Id:
    """Return an id."""
    return Id(1_700_000_000_000 + int(seconds * 1000), number)


class MarksTests(SynchronousTestCase):
    """What may be forgotten."""

    def fill(self, count: int, size: int = MIB) -> tuple[Marks, Id]:
        """Add entries, one a second; return the marks and the newest id."""
        marks = Marks()
        for second in range(count):
            marks.add(size, str(entry_id(second)).encode())
        return marks, entry_id(count - 1)

    def test_by_age(self) -> None:
        """What is older than the time is dropped, counted from the newest id."""
        marks, newest = self.fill(100, 10)
        self.assertEqual(marks.oldest_kept(newest, 60, MIB), entry_id(39))
        self.assertEqual(Marks().oldest_kept(Id(5, 0), 60, MIB), Id(0, 0))

    def test_by_bytes(self) -> None:
        """What lies before the newest bytes is dropped, though it is young."""
        marks, newest = self.fill(100)
        self.assertEqual(marks.oldest_kept(newest, 1000, 10 * MIB), entry_id(88))
        self.assertEqual(marks.oldest_kept(newest, 1000, 10 * MIB), entry_id(-901))

    def test_monotonic(self) -> None:
        """Marks are used once; more bytes, more is dropped."""
        marks, newest = self.fill(100)
        first = marks.oldest_kept(newest, 1000, 50 * MIB)
        marks.add(MIB, str(entry_id(100)).encode())
        self.assertEqual((first, marks.oldest_kept(entry_id(100), 1000, 50 * MIB)), (entry_id(48), entry_id(49)))

    def test_clear(self) -> None:
        """Another broker's ids start anew."""
        marks, newest = self.fill(100)
        marks.clear()
        self.assertEqual(marks.oldest_kept(newest, 1000, 1), entry_id(99 - 1000))
        for second in range(-100, -80):
            marks.add(MIB, str(entry_id(second)).encode())
        self.assertEqual(marks.oldest_kept(entry_id(-81), 1000, 5 * MIB), entry_id(-87))

    def test_memory(self) -> None:
        """Small entries share a mark."""
        marks, _ = self.fill(10_000, 100)
        self.assertLess(len(marks._marks), 8)

    @given(st.lists(st.integers(0, 400_000), min_size=1, max_size=60), st.integers(1, 3_000_000))
    def test_bounds(self, sizes: list[int], most: int) -> None:
        """The bytes that are kept are the bound at least, if there are so many, and at most two marks more."""
        marks, ids = Marks(), [entry_id(number) for number in range(len(sizes))]
        for size, identity in zip(sizes, ids, strict=True):
            marks.add(size, str(identity).encode())
        kept = marks.oldest_kept(ids[-1], 10_000, most)
        size = sum(size for size, identity in zip(sizes, ids, strict=True) if identity >= kept)
        self.assertGreaterEqual(size, min(most, sum(sizes)))
        self.assertLessEqual(size, most + 2 * 400_000 + 256 * 1024)
