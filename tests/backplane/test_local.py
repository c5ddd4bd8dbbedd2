"""Tests of wsrelay.backplane.local."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.backplane.local import LocalBackplane
from wsrelay.message import Run
from wsrelay.rooms.hub import Hub
from wsrelay.settings import Settings
from wsrelay.stats import BackplaneStatus, NodeStatus, Stats
from wsrelay.wire import frames

NODE = NodeStatus("1f", "one", "0.1.0", 1.0, 0, 0, 0.0, 0.0)


class LocalBackplaneTests(SynchronousTestCase):
    """One process."""

    def test_publish_reaches_the_room(self) -> None:
        """Messages go to the members in this process, others-only."""
        hub = Hub(Settings(), Stats(), lambda call: None)
        a, b = RecordingSubscriber(), RecordingSubscriber()
        hub.join("x", a)
        hub.join("x", b)

        LocalBackplane(hub, lambda: NODE).publish("x", Run.text(b"hi", a))
        hub.flush()

        self.assertEqual((a.writes, b.writes), ([], [frames.encode(frames.TEXT, b"hi")]))

    def test_nothing_to_wait_for(self) -> None:
        """It is always up, holds no publisher, and is the only node."""
        backplane = LocalBackplane(Hub(Settings(), Stats(), lambda call: None), lambda: NODE)

        self.assertIsNone(backplane.start())
        self.assertIsNone(backplane.enter("x"))
        self.assertIsNone(backplane.check("x"))
        self.assertFalse(backplane.hold("x", RecordingSubscriber()))
        self.assertEqual(backplane.status(), BackplaneStatus("local"))
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(backplane.nodes())), [NODE])
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(backplane.stop())))
