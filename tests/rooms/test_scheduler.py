"""Tests of wsrelay.rooms.scheduler: metrics of turns. The order of flushes: tests/rooms/test_hub.py."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.message import Run
from wsrelay.rooms import room as room_module
from wsrelay.rooms.room import Room
from wsrelay.rooms.scheduler import Scheduler
from wsrelay.settings import Settings
from wsrelay.stats import Stats


class SchedulerTests(SynchronousTestCase):
    """Metrics of a turn."""

    def setUp(self) -> None:
        self.patch(room_module, "MANY", 0)
        self.calls: list[Callable[[], None]] = []
        self.stats = Stats()
        times = iter((1.0, 1.001, 1.002))
        self.scheduler = Scheduler(self.stats, self.calls.append, lambda: next(times))
        self.room = Room(Settings(), self.stats)
        for _ in range(20):
            self.room.join(RecordingSubscriber())
        self.scheduler.add(self.room, 1)
        self.room.publish(Run.text(b"1"))

    def test_flush_metrics(self) -> None:
        """Deliveries and duration of a turn are observed once."""
        self.calls.pop()()

        self.assertEqual(self.stats.flush_deliveries.total, 20)
        self.assertAlmostEqual(self.stats.flush_seconds.total, 0.002)
        self.assertEqual(sum(self.stats.flush_seconds.counts), 1)

    def test_add_end(self) -> None:
        """A room that has sent all at once is told of the end of the turn; a turn without a flush is not observed."""
        room = Room(Settings(), self.stats)
        room.publish(Run.text(b"1"))
        self.assertEqual(len(self.calls), 1)
        self.scheduler.flush()
        self.scheduler.add_end(room)
        self.calls.pop()()

        self.assertFalse(self.stats.flush_seconds)
        self.assertEqual(self.calls, [])

    def test_flush_out_of_turn(self) -> None:
        """A flush out of turn is not observed."""
        self.scheduler.flush()

        self.assertEqual(self.stats.deliveries, 20)
        self.assertFalse(self.stats.flush_seconds)
