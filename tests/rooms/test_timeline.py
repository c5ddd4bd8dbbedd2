"""wsrelay.rooms.timeline: epochs and floors only rise."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.message_id import MessageId
from wsrelay.rooms.timeline import Timeline


class TimelineTests(SynchronousTestCase):
    """One timeline."""

    def test_start(self) -> None:
        """It begins before all places."""
        timeline = Timeline("a")
        self.assertEqual(timeline.begin, MessageId("a", (0,)))
        self.assertEqual((timeline.floor, timeline.head, timeline.epoch), (timeline.begin, (0,), "a"))

    def test_raise_floor(self) -> None:
        """The floor rises, and never goes down."""
        timeline = Timeline("a")
        timeline.raise_floor(MessageId("a", (5,)))
        timeline.raise_floor(MessageId("a", (3,)))
        self.assertEqual((timeline.floor, timeline.begin), (MessageId("a", (5,)), MessageId("a", (0,))))

    def test_change(self) -> None:
        """With another epoch, both begin there, though its places are lower."""
        timeline = Timeline("a")
        timeline.raise_floor(MessageId("a", (5,)))
        timeline.change("b", (2,))
        self.assertEqual((timeline.floor, timeline.begin), (MessageId("b", (2,)), MessageId("b", (2,))))
