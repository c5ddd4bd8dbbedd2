"""Tests of wsrelay.backplane.local."""

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.backplane.local import LocalBackplane
from wsrelay.message import Run
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import Stats
from wsrelay.wire import frames


class LocalBackplaneTests(SynchronousTestCase):
    """One process."""

    def test_publish_reaches_the_room(self) -> None:
        """Messages go to the members in this process, others-only."""
        hub = Hub(Settings(), Stats(), lambda call: None)
        a, b = RecordingSubscriber(), RecordingSubscriber()
        hub.join("x", a)
        hub.join("x", b)

        LocalBackplane(hub).publish("x", Run.text(b"hi", a))
        hub.flush()

        self.assertEqual((a.writes, b.writes), ([], [frames.encode(frames.TEXT, b"hi")]))
