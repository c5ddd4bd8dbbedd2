"""Tests of wsrelay.backplane.held."""

from collections.abc import Callable
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.backplane.held import STRETCH, Held
from wsrelay.interfaces import Hold
from wsrelay.settings import Settings


class HeldTests(SynchronousTestCase):
    """Held publishers."""

    def setUp(self) -> None:
        """Make a limit of 1000 bytes."""
        #: What is to be done in the next turn.
        self.later: list[Callable[[], None]] = []
        self.settings = Settings(backplane_pending_bytes=1000)
        self.changes: list[bool] = []
        reactor = mock.Mock(callLater=lambda seconds, call: self.later.append(call) if not seconds else self.fail())
        self.held = Held(self.settings, reactor, lambda: self.changes.append(self.held.is_congested))
        self.publishers = [RecordingSubscriber(str(number)) for number in range(3)]

    def turn(self) -> None:
        """Take a turn of the reactor."""
        due, self.later[:] = tuple(self.later), []
        for call in due:
            call()

    def test_hysteresis(self) -> None:
        """From three quarters of the limit on publishers are held, until a quarter is left."""
        a, b, _ = self.publishers
        self.held.settle(750)
        self.assertEqual((self.held.hold(a), a.holds), (False, set()))
        self.held.settle(751)
        self.assertEqual((self.held.hold(a), a.holds), (True, {Hold.BACKPLANE}))
        self.held.settle(251)
        self.assertEqual((self.held.hold(b), b.held), (True, True))
        self.held.settle(250)
        self.assertEqual([publisher.held for publisher in self.publishers], [False] * 3)
        self.held.settle(700)
        self.assertFalse(self.held.hold(a))
        self.assertEqual(self.changes, [True, False])

    def test_limit_read_at_use(self) -> None:
        """A limit that is changed counts from the next look on."""
        self.held.settle(800)
        object.__setattr__(self.settings, "backplane_pending_bytes", 10_000)
        self.held.settle(800)
        self.assertEqual(self.changes, [True, False])

    def test_own_reason(self) -> None:
        """A publisher that its room holds, too, stays held."""
        [a, *_] = self.publishers
        self.held.settle(1000)
        self.held.hold(a)
        a.hold(Hold.ROOM)
        self.held.settle(0)
        self.assertEqual(a.holds, {Hold.ROOM})

    def test_held_twice(self) -> None:
        """A publisher that is held again is released once."""
        [a, *_] = self.publishers
        self.held.settle(1000)
        self.held.hold(a)
        self.held.hold(a)
        self.held.settle(0)
        self.assertEqual((a.held, self.later), (False, []))

    def test_stretches(self) -> None:
        """They are released some in each turn of the reactor, in their order."""
        publishers = [RecordingSubscriber(str(number)) for number in range(2 * STRETCH + 1)]
        self.held.settle(1000)
        for publisher in publishers:
            self.held.hold(publisher)
        self.held.settle(0)
        for released in (STRETCH, 2 * STRETCH, 2 * STRETCH + 1):
            self.assertEqual([publisher.held for publisher in publishers].count(False), released)
            self.assertFalse(publishers[released - 1].held)
            self.turn()
        self.assertEqual(self.later, [])

    def test_congested_while_releasing(self) -> None:
        """Where it is congested again, the others stay held until it is not, and those released may be held again."""
        publishers = [RecordingSubscriber(str(number)) for number in range(2 * STRETCH + 1)]
        self.held.settle(1000)
        for publisher in publishers:
            self.held.hold(publisher)
        self.held.settle(0)
        self.held.settle(1000)
        self.held.hold(publishers[0])
        self.turn()
        self.assertEqual([publisher.held for publisher in publishers].count(True), STRETCH + 2)
        self.held.settle(0)
        self.turn()
        self.assertEqual([publisher.held for publisher in publishers].count(True), 0)

    def test_released_again_before_the_next_turn(self) -> None:
        """A second release before the next turn does not release twice as many."""
        publishers = [RecordingSubscriber(str(number)) for number in range(2 * STRETCH)]
        self.held.settle(1000)
        for publisher in publishers:
            self.held.hold(publisher)
        for pending in (0, 1000, 0):
            self.held.settle(pending)
        self.assertEqual([publisher.held for publisher in publishers].count(True), STRETCH)
        self.turn()
        self.assertEqual([publisher.held for publisher in publishers].count(True), 0)
        self.assertEqual(self.later, [])
