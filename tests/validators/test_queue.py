"""Tests of wsrelay.validators.queue."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from wsrelay.validators.queue import FairQueue, QueueFullError


class QueueTests(SynchronousTestCase):
    """Places, and the order of waiting."""

    def entered(self, queue: FairQueue, *keys: str) -> list[Deferred[None]]:
        """Enter for each key."""
        return [queue.enter(key) for key in keys]

    def order(self, queue: FairQueue, places: dict[str, Deferred[None]], first: str = "a") -> str:
        """Let all run one after the other, and return their names in order; a name begins with its key."""
        order: list[str] = []
        for name, place in places.items():
            place.addCallback(lambda _, name=name: order.append(name))
        queue.leave(first)
        for name in order:
            queue.leave(name[0])
        return " ".join(order)

    def test_running(self) -> None:
        """So many run at once; the others wait."""
        queue = FairQueue(2, 5)
        first, second, third = self.entered(queue, "a", "a", "a")

        self.successResultOf(first)
        self.successResultOf(second)
        self.assertNoResult(third)
        self.assertEqual((queue.running, queue.waiting), (2, 1))
        queue.leave("a")
        self.successResultOf(third)
        self.assertEqual((queue.running, queue.waiting), (2, 0))

    def test_fifo(self) -> None:
        """One key is served first come, first served."""
        queue = FairQueue(1, 9)
        queue.enter("a")

        self.assertEqual(self.order(queue, {name: queue.enter("a") for name in ("a1", "a2", "a3")}), "a1 a2 a3")

    def test_round_robin(self) -> None:
        """Keys take turns, however many places each has."""
        queue = FairQueue(1, 9)
        queue.enter("a")
        places = {name: queue.enter(name[0]) for name in ("a1", "a2", "b1", "c1", "b2")}

        self.assertEqual(self.order(queue, places), "a1 b1 c1 a2 b2")

    def test_share(self) -> None:
        """One key runs three quarters of the whole; another one passes its waiting places."""
        queue = FairQueue(4, 9)
        places = self.entered(queue, *"aaaaabc")

        self.assertEqual([place.called for place in places], [True] * 3 + [False] * 2 + [True, False])
        queue.leave("a")
        self.assertEqual([place.called for place in places[3:]], [True, False, True, False])
        queue.leave("b")
        self.successResultOf(places[6])
        queue.leave("c")
        self.assertNoResult(places[4])
        self.assertEqual((queue.running, queue.waiting), (3, 1))

    def test_full(self) -> None:
        """A full queue refuses; beside a key with two more, a newcomer takes that key's last place."""
        queue = FairQueue(1, 3)
        queue.enter("a")
        first, second, third = self.entered(queue, "a", "a", "a")
        self.assertRaises(QueueFullError, queue.enter, "a")
        newcomer = queue.enter("b")

        self.failureResultOf(third, QueueFullError)
        self.assertRaises(QueueFullError, queue.enter, "b")
        self.assertEqual(self.order(queue, {"a1": first, "b": newcomer, "a2": second}), "a1 b a2")

    def test_no_queue(self) -> None:
        """Without places to wait, the rest is refused."""
        queue = FairQueue(1, 0)
        queue.enter("a")

        self.assertRaises(QueueFullError, queue.enter, "b")

    def test_cancelled(self) -> None:
        """A cancelled place is given back; those behind it keep their order."""
        queue = FairQueue(1, 9)
        queue.enter("a")
        places = {name: queue.enter(key) for name, key in (("a1", "a"), ("a2", "a"), ("b", "b"))}
        for name in ("a1", "b"):
            places[name].cancel()
            self.failureResultOf(places.pop(name), CancelledError)

        self.assertEqual(queue.waiting, 1)
        self.assertEqual(self.order(queue, places), "a2")

    def test_no_recursion(self) -> None:
        """Runs that end at once are no recursion, however many wait."""
        queue = FairQueue(1, 5000)
        queue.enter("a")
        for _ in range(5000):
            queue.enter("a").addCallback(lambda _: queue.leave("a"))
        queue.leave("a")

        self.assertEqual((queue.running, queue.waiting), (0, 0))

    @given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.sampled_from("abc"))))
    def test_counts(self, steps: list[tuple[str, str]]) -> None:
        """After any steps the counts are right and within the limits, and nothing waits beside a free place."""
        queue = FairQueue(2, 3)
        waiting: list[Deferred[None]] = []
        running: list[str] = []
        for step, key in steps:
            if step == "leave" and running:
                queue.leave(running.pop())
            elif step == "cancel" and waiting:
                waiting.pop().cancel()
            elif step == "enter":
                try:
                    place = queue.enter(key)
                except QueueFullError:
                    self.assertEqual(queue.waiting, 3)
                else:
                    place.addCallback(lambda _, key=key: running.append(key))
                    waiting.append(place.addErrback(lambda failure: failure.trap(QueueFullError, CancelledError)))
            waiting = [place for place in waiting if not place.called]
            self.assertEqual((queue.waiting, queue.running), (len(waiting), len(running)))
            self.assertTrue(queue.running == 2 or not queue.waiting)
            self.assertEqual(dict(queue._running_of), Counter(running))  # and no zeros: networks come and go
