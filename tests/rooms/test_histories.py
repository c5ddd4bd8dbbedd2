"""wsrelay.rooms.histories: which rooms have a history, and reading one by name."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import EPOCH, RecordingSubscriber
from wsrelay.message import Run
from wsrelay.message_id import MessageId
from wsrelay.names import PROBE_ROOM
from wsrelay.rooms.histories import Histories
from wsrelay.rooms.history import History
from wsrelay.rooms.hub import Hub
from wsrelay.rooms.timeline import Timeline
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wanted import Wanted


class HistoriesTests(SynchronousTestCase):
    """The histories of a hub."""

    def hub(self, **settings: Any) -> Hub:
        """Return a hub; its histories are those under test."""
        self.stats = Stats()
        return Hub(Settings(**settings), self.stats, lambda call: None, epoch=EPOCH)

    def test_keeps(self) -> None:
        """A room keeps as many messages as either option wants; the probe's room none."""
        histories = self.hub(history=("chat/*=9", "2"), greet=("chat/**=5", "chat=7")).histories
        rooms = ["chat/1", "chat/1/2", "chat", "other", PROBE_ROOM]
        self.assertEqual([histories.keeps(room) for room in rooms], [9, 5, 7, 2, 0])
        self.assertEqual([isinstance(histories.log(room), History) for room in rooms], [True] * 4 + [False])
        self.assertTrue(histories.exist)

    def test_none(self) -> None:
        """Without the options no room has a history."""
        for settings in ({}, {"history": ("0",), "greet": ("x=0",)}):
            histories: Histories = self.hub(**settings).histories
            self.assertEqual((histories.exist, histories.keeps("room")), (False, 0))

    def test_at(self) -> None:
        """The position of a room is known also if it is not open; reading does not open it."""
        hub = self.hub(history=("9",))
        self.assertEqual(hub.histories.at("room"), MessageId(EPOCH, (0,)))
        self.assertEqual(list(hub), [])
        hub.publish("room", Run.text("x"))
        self.assertEqual(hub.histories.at("room"), MessageId(EPOCH, (1,)))

    def test_read(self) -> None:
        """A room is read without what is too old."""
        hub = self.hub(history=("9",), history_seconds=60)
        self.assertEqual(hub.read("room", Wanted(last=5)), (MessageId(EPOCH, (0,)), [], True))
        for second in (100, 150):
            hub.tick(second)
            hub.publish("room", Run.text("x"))
        hub.tick(170)
        reading = hub.read("room", Wanted(last=5))
        assert reading is not None
        self.assertEqual([run.id for run in reading.messages], [MessageId(EPOCH, (2,))])
        self.assertIsNone(hub.read("room", Wanted("x")))
        self.assertEqual(self.stats.resumes, {"gone": 1})

    def test_timeline_of(self) -> None:
        """A backplane may have a timeline for each room."""
        hub = self.hub(history=("9",))
        hub.histories.timeline_of = lambda room: Timeline(EPOCH, (int(room), 0))
        self.assertEqual(hub.histories.at("7"), MessageId(EPOCH, (7, 0)))

    def test_when_placed(self) -> None:
        """The id of a run is told once it is published, at once where it was."""
        hub = self.hub(history=("9",))
        told: list[MessageId] = []
        run, other, lost = Run.text("x"), Run.text("y"), Run.text("z")
        hub.publish("room", run)
        hub.histories.when_placed(run, told.append)()
        hub.histories.when_placed(other, told.append)
        give_up = hub.histories.when_placed(lost, told.append)
        for _ in range(2):
            give_up()
        hub.join("room", RecordingSubscriber())
        for published in (other, run):
            hub.publish("room", published)
            hub.histories.placed(published)
        hub.histories.placed(lost)
        self.assertEqual((told, hub.histories.placing), ([run.id, other.id], {}))
