"""Tests of wsrelay.backplane.waiting."""

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.backplane.waiting import AHEAD_SECONDS, Waiting
from wsrelay.errors import BackplaneDown
from wsrelay.message_id import MessageId, epoch_of
from wsrelay.rooms.timeline import Timeline

EPOCH, LATER = epoch_of(5), epoch_of(6)


class WaitingTests(SynchronousTestCase):
    """Handshakes that wait."""

    def setUp(self) -> None:
        """Begin at a place."""
        self.now = 10.0
        self.timeline = Timeline(EPOCH)
        self.timeline.head = (7, 1)
        self.waiting = Waiting(self.timeline, lambda: self.now)

    def enter(self, *place: int, epoch: str = EPOCH, is_up: bool = True) -> object:
        """Enter with an id."""
        return self.waiting.enter(MessageId(epoch, place), is_up=is_up)

    def test_nothing_to_wait_for(self) -> None:
        """With a broker, a client that knows no more than this node goes on."""
        self.assertIs(self.waiting.enter(None, is_up=True), None)
        self.assertEqual([self.enter(7, 0, 3), self.enter(7, 1), self.enter(9, 9, epoch=epoch_of(4))], [None] * 3)
        self.assertFalse(self.waiting)

    def test_ahead(self) -> None:
        """A client that is ahead waits until its message was delivered, or its epoch has begun."""
        near, far, later = self.enter(8, 0, 0), self.enter(9, 0, 0), self.enter(1, 0, 0, epoch=LATER)
        self.waiting.answer()
        self.assertNoResult(near)
        self.timeline.head = (8, 1)
        self.waiting.answer()
        self.successResultOf(near)
        self.assertNoResult(far)
        self.timeline.change(LATER, (8, 1))
        self.waiting.answer()
        self.successResultOf(far)
        self.successResultOf(later)
        self.assertFalse(self.waiting)

    def test_not_for_long(self) -> None:
        """It waits for two seconds at most."""
        entered = self.enter(8, 0, 0)
        self.now += AHEAD_SECONDS - 0.1
        self.waiting.answer()
        self.assertNoResult(entered)
        self.now += 0.2
        self.waiting.answer()
        self.successResultOf(entered)

    def test_no_broker(self) -> None:
        """Without a broker all wait for it, however long; those that are ahead then go on waiting."""
        plain, ahead = self.waiting.enter(None, is_up=False), self.enter(8, 0, 0, is_up=False)
        self.now += 100
        self.waiting.answer()
        self.successResultOf(plain)
        self.assertNoResult(ahead)
        self.now += AHEAD_SECONDS
        self.waiting.answer()
        self.successResultOf(ahead)

    def test_refuse(self) -> None:
        """All are refused; one that another one cancels meanwhile is ended once."""
        first, second = self.enter(8, 0, 0), self.waiting.enter(None, is_up=False)
        first.addErrback(lambda failure: (second.cancel(), failure)[1])
        self.waiting.refuse()
        self.failureResultOf(first, BackplaneDown)
        self.failureResultOf(second, CancelledError)
        self.assertFalse(self.waiting)
