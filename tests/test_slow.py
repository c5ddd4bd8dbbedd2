"""Tests of wsrelay.slow; what the room does around the policies is ``tests/test_room.py``'s."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support import RecordingSubscriber
from wsrelay import closecodes
from wsrelay.slow import SLOW_POLICIES


class SlowPoliciesTests(SynchronousTestCase):
    """The table."""

    def test_disconnect(self) -> None:
        """The subscriber is told 1013, and does not go on."""
        subscriber = RecordingSubscriber()

        self.assertIs(SLOW_POLICIES["disconnect"](None, subscriber), None)
        self.assertEqual(subscriber.evicted, [closecodes.TOO_SLOW])
