"""Tests of wsrelay.backplane.outbox."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.entry import EMPTY, ENTRY_BYTES, Entry, Id, Record, unpack
from wsrelay.backplane.outbox import ENTRY_OVERHEAD_BYTES, Outbox
from wsrelay.message import Run


def run(size_bytes: int = 10, count: int = 1) -> Run:
    """Return a run of one publisher, of this many bytes."""
    return Run(b"." * size_bytes, count, object())


def written(entry: Entry) -> list[bytes]:
    """Return the fields of an entry as a broker returns them."""
    return [field if isinstance(field, bytes) else str(field).encode() for field in entry.fields()]


class OutboxTests(SynchronousTestCase):
    """The way of messages to the broker."""

    def setUp(self) -> None:
        """Make an outbox."""
        self.outbox = Outbox("a")

    def send(self, now: float = 0.0) -> Entry:
        """Send the next entry, be it a heartbeat, and acknowledge it; the id has its seq."""
        entry = self.outbox.next(now, heartbeat=True)
        assert entry is not None
        self.outbox.acknowledged(Id(entry.seq, 0), now)
        return entry

    def resent(self, now: float = 0.0) -> list[tuple[int, float | None]]:
        """Send and acknowledge all that is to be sent; return seqs and ages."""
        found = []
        while entry := self.outbox.next(now):
            self.outbox.acknowledged(Id(1000 + entry.seq, 0), now)
            found.append((entry.seq, entry.age_seconds))
        return found

    def test_next_numbers_entries_from_1(self) -> None:
        """Seqs are contiguous; an entry has rooms, frames and counts."""
        self.outbox.add("x", run(3, 2))
        self.outbox.add("y", run(4))
        first = self.send()
        self.outbox.add("x", run(5))
        second = self.send()
        self.assertEqual((first.node, first.seq, second.seq), ("a", 1, 2))
        self.assertEqual(unpack(first.blob), [Record("x", b"...", 2), Record("y", b"....", 1)])
        self.assertEqual(unpack(second.blob), [Record("x", b".....", 1)])

    def test_group_commit(self) -> None:
        """While an entry is in flight nothing is sent; what is published meanwhile is one entry."""
        self.outbox.add("x", run())
        self.assertIsNotNone(self.outbox.next(0.0))
        self.outbox.add("x", run())
        self.outbox.add("y", run())
        self.assertIsNone(self.outbox.next(0.0, heartbeat=True))
        self.outbox.acknowledged(Id(1, 0), 0.0)
        self.assertEqual(len(unpack(self.send().blob)), 2)
        self.assertIsNone(self.outbox.next(0.0))

    def test_entries_are_bounded(self) -> None:
        """An entry has ENTRY_BYTES of frames, or one longer message."""
        half = ENTRY_BYTES // 2
        for size in (half, half, 1, ENTRY_BYTES + 1, half, half + 1):
            self.outbox.add("x", run(size))
        sizes = [[len(record.plain) for record in unpack(self.send().blob)] for _ in range(5)]
        self.assertEqual(sizes, [[half, half], [1], [ENTRY_BYTES + 1], [half], [half + 1]])
        self.assertIsNone(self.outbox.next(0.0))

    def test_heartbeat(self) -> None:
        """Without messages there is an entry only on request."""
        self.assertIsNone(self.outbox.next(0.0))
        self.assertEqual(self.outbox.next(0.0, heartbeat=True), Entry("a", 1, EMPTY))

    def test_pending_bytes(self) -> None:
        """Messages count until they are acknowledged, once."""
        one, two = run(10, 3), run(20)
        self.outbox.add("x", one)
        self.outbox.add("x", two)
        self.assertEqual(self.outbox.pending_bytes, one.size_bytes + two.size_bytes)
        self.outbox.next(0.0)
        self.outbox.lost()
        self.assertEqual(self.outbox.pending_bytes, one.size_bytes + two.size_bytes)
        self.send()
        self.assertEqual(self.outbox.pending_bytes, 0)
        self.outbox.rewind()
        self.send()
        self.assertEqual(self.outbox.pending_bytes, 0)

    def test_take_returns_the_same_runs(self) -> None:
        """Runs keep their identity, so that their publisher does not get them; they are returned once."""
        mine = run()
        self.outbox.add("x", mine)
        self.send()
        taken = self.outbox.take(1)
        assert taken is not None
        self.assertEqual(len(taken), 1)
        self.assertEqual(taken[0][0], "x")
        self.assertIs(taken[0][1], mine)
        self.assertIsNone(self.outbox.take(1))
        self.assertIsNone(self.outbox.take(2))

    def test_take_of_a_heartbeat(self) -> None:
        """A heartbeat that is read back has no messages, and is known as such."""
        self.send()
        self.assertEqual(self.outbox.take(1), [])

    def test_take_drops_what_is_before(self) -> None:
        """Messages of entries that the broker lost unread are freed."""
        for _ in range(3):
            self.outbox.add("x", run())
            self.send()
        self.assertIsNotNone(self.outbox.take(3))
        self.assertIsNone(self.outbox.take(1))
        self.assertIsNone(self.outbox.take(2))

    def test_unread_bytes(self) -> None:
        """They are counted from sending to reading back, or to the loss of the entry."""
        counts = []
        for size in (10, 20, 30):
            self.outbox.add("x", run(size))
            self.send()
            counts.append(self.outbox.unread_bytes)
        overhead = counts[0] - 10
        self.assertEqual(counts, [10 + overhead, 30 + 2 * overhead, 60 + 3 * overhead])
        self.outbox.take(1)
        self.assertEqual(self.outbox.unread_bytes, 50 + 2 * overhead)
        self.outbox.take(3)
        self.assertEqual(self.outbox.unread_bytes, 0)

    def test_unread_since(self) -> None:
        """An acknowledged entry is awaited from its acknowledgement on, per connection."""
        self.outbox.next(1.0, heartbeat=True)
        self.assertIsNone(self.outbox.unread_since)
        self.outbox.acknowledged(Id(1, 0), 2.0)
        self.send(3.0)
        self.assertEqual(self.outbox.unread_since, 2.0)
        self.outbox.take(1)
        self.outbox.take(2)
        self.assertIsNone(self.outbox.unread_since)
        self.send(4.0)
        self.outbox.lost()
        self.assertIsNone(self.outbox.unread_since)
        self.send(6.0)
        self.assertEqual(self.outbox.unread_since, 6.0)
        self.outbox.take(1)
        self.assertEqual(self.outbox.unread_since, 6.0)

    def test_unread_since_of_an_entry_read_before_its_acknowledgement(self) -> None:
        """The reader may be faster than the writer."""
        self.outbox.next(0.0, heartbeat=True)
        self.outbox.take(1)
        self.outbox.acknowledged(Id(1, 0), 0.0)
        self.assertIsNone(self.outbox.unread_since)

    def test_lost_sends_the_one_in_flight_again(self) -> None:
        """It is not marked, as the broker has not acknowledged it, and comes before anything new."""
        self.outbox.add("x", run())
        first = self.outbox.next(0.0)
        self.outbox.add("x", run())
        self.outbox.lost()
        self.outbox.lost()
        self.assertEqual(self.outbox.next(5.0), first)
        self.outbox.acknowledged(Id(1, 0), 5.0)
        self.assertEqual(self.send().seq, 2)

    def test_acknowledged_without_an_entry_in_flight(self) -> None:
        """It changes nothing."""
        self.outbox.acknowledged(Id(1, 0), 0.0)
        self.assertIsNone(self.outbox.newest_id)

    def test_newest(self) -> None:
        """The newest acknowledged entry is known by its id, node and seq, as another may have got its id."""
        self.assertFalse(self.outbox.is_newest(written(Entry("a", 1, EMPTY))))
        self.send()
        self.send()
        self.assertEqual(self.outbox.newest_id, Id(2, 0))
        self.assertTrue(self.outbox.is_newest(written(Entry("a", 2, EMPTY, age_seconds=1.0))))
        self.assertFalse(self.outbox.is_newest(written(Entry("a", 1, EMPTY))))
        self.assertFalse(self.outbox.is_newest(written(Entry("b", 2, EMPTY))))
        self.assertFalse(self.outbox.is_newest([]))
        self.assertFalse(self.outbox.is_newest([b"n", b"a"]))

    def test_rewind_sends_the_window_again(self) -> None:
        """Acknowledged entries come with their age, then the one in flight, then what is new."""
        self.send(1.0)
        self.send(2.0)
        self.outbox.next(3.0, heartbeat=True)
        self.outbox.add("x", run())
        self.assertEqual(self.outbox.rewind(), 2)
        self.assertEqual(self.resent(5.0), [(1, 4.0), (2, 3.0), (3, None), (4, None)])
        self.assertEqual(self.outbox.newest_id, Id(1004, 0))

    def test_rewind_during_a_rewind(self) -> None:
        """All of the window comes again, nothing twice; an age counts from the first time."""
        for now in (1.0, 2.0, 3.0):
            self.send(now)
        self.outbox.next(4.0, heartbeat=True)
        self.outbox.rewind()
        again = [self.send(5.0).seq, self.send(5.0).seq]
        self.assertEqual(again, [1, 2])
        self.outbox.next(5.0)
        self.outbox.rewind()
        self.assertEqual(self.resent(7.0), [(1, 6.0), (2, 5.0), (3, 4.0), (4, None)])

    def test_lost_during_a_rewind(self) -> None:
        """If the broker still has what was sent again, the rest follows, the one in flight with its mark."""
        for now in (1.0, 2.0, 3.0):
            self.send(now)
        self.outbox.rewind()
        self.send(4.0)
        self.assertEqual(self.outbox.newest_id, Id(1, 0))
        self.outbox.next(4.0)
        self.outbox.lost()
        self.assertEqual(self.resent(5.0), [(2, 3.0), (3, 2.0)])

    def test_window_seconds(self) -> None:
        """Entries older than the window at an acknowledgement are dropped; an outage drops none."""
        for now in range(15):
            self.send(float(now))
        self.assertEqual(self.outbox.rewind(), 11)
        self.assertEqual([seq for seq, _ in self.resent(100.0)], list(range(5, 16)))
        self.assertEqual(self.outbox.rewind(), 11)

    def test_window_bytes(self) -> None:
        """The window is bounded in bytes; the newest entry is kept in any case."""
        self.outbox = Outbox("a", window_bytes=2 * (ENTRY_OVERHEAD_BYTES + len(EMPTY)))
        for _ in range(3):
            self.send()
        self.assertEqual(self.outbox.rewind(), 2)
        self.resent()
        self.outbox.add("x", run(5000))
        self.send()
        self.assertEqual(self.outbox.rewind(), 1)

    def test_bye(self) -> None:
        """What is left is sent, and the last entry says bye; then there is nothing more."""
        for size in (ENTRY_BYTES, ENTRY_BYTES):
            self.outbox.add("x", run(size))
        self.outbox.bye()
        byes = [self.send().bye, self.send().bye]
        self.assertEqual(byes, [False, True])
        self.assertIsNone(self.outbox.next(0.0))

    def test_bye_without_messages(self) -> None:
        """It is an empty entry, sent again until it is acknowledged."""
        self.outbox.bye()
        entry = self.outbox.next(0.0)
        self.assertEqual(entry, Entry("a", 1, EMPTY, bye=True))
        self.outbox.lost()
        self.assertFalse(self.outbox.finished)
        self.assertEqual(self.outbox.next(0.0), entry)
        self.outbox.acknowledged(Id(1, 0), 0.0)
        self.assertTrue(self.outbox.finished)
        self.assertIsNone(self.outbox.next(0.0))
