"""Tests of wsrelay.validators.queue."""

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

    def order(self, queue: FairQueue, places: dict[str, Deferred[None]]) -> str:
        """Let all run one after the other, and return their names in order."""
        order: list[str] = []
        for name, place in places.items():
            place.addCallback(lambda _, name=name: order.append(name))
        while queue.running:
            queue.leave()
        return "".join(order)

    def test_running(self) -> None:
        """So many run at once; the others wait."""
        queue = FairQueue(2, 5)
        first, second, third = self.entered(queue, "a", "a", "a")

        self.successResultOf(first)
        self.successResultOf(second)
        self.assertNoResult(third)
        self.assertEqual((queue.running, queue.waiting), (2, 1))
        queue.leave()
        self.successResultOf(third)
        self.assertEqual((queue.running, queue.waiting), (2, 0))

    def test_fifo(self) -> None:
        """One key is served first come, first served."""
        queue = FairQueue(1, 9)
        queue.enter("a")

        self.assertEqual(self.order(queue, {name: queue.enter("a") for name in "123"}), "123")

    def test_round_robin(self) -> None:
        """Keys take turns, however many places each has."""
        queue = FairQueue(1, 9)
        queue.enter("a")
        places = {name: queue.enter(name.lower()) for name in ("a", "A")} | {"b": queue.enter("b")}
        places |= {"C": queue.enter("c"), "B": queue.enter("b")}

        self.assertEqual(self.order(queue, places), "abCAB")

    def test_full(self) -> None:
        """A full queue refuses; beside a key with two more, a newcomer takes that key's last place."""
        queue = FairQueue(1, 3)
        queue.enter("a")
        first, second, third = self.entered(queue, "a", "a", "a")
        self.assertRaises(QueueFullError, queue.enter, "a")
        newcomer = queue.enter("b")

        self.failureResultOf(third, QueueFullError)
        self.assertRaises(QueueFullError, queue.enter, "b")
        self.assertEqual(self.order(queue, {"1": first, "n": newcomer, "2": second}), "1n2")

    def test_no_queue(self) -> None:
        """Without places to wait, the rest is refused."""
        queue = FairQueue(1, 0)
        queue.enter("a")

        self.assertRaises(QueueFullError, queue.enter, "b")

    def test_cancelled(self) -> None:
        """A cancelled place is given back; those behind it keep their order."""
        queue = FairQueue(1, 9)
        queue.enter("a")
        places = {name: queue.enter(key) for name, key in (("1", "a"), ("2", "a"), ("3", "b"))}
        for name in "13":
            places[name].cancel()
            self.failureResultOf(places.pop(name), CancelledError)

        self.assertEqual(queue.waiting, 1)
        self.assertEqual(self.order(queue, places), "2")

    def test_no_recursion(self) -> None:
        """Runs that end at once are no recursion, however many wait."""
        queue = FairQueue(1, 5000)
        queue.enter("a")
        for _ in range(5000):
            queue.enter("a").addCallback(lambda _: queue.leave())
        queue.leave()

        self.assertEqual((queue.running, queue.waiting), (0, 0))

    @given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.sampled_from("abc"))))
    def test_counts(self, steps: list[tuple[str, str]]) -> None:
        """After any steps the counts are right and within the limits, and nothing waits beside a free place."""
        queue = FairQueue(2, 3)
        places: list[Deferred[None]] = []
        for step, key in steps:
            if step == "leave" and queue.running:
                queue.leave()
            elif step == "cancel" and places:
                places.pop().cancel()
            elif step == "enter":
                try:
                    places.append(
                        queue.enter(key).addErrback(lambda failure: failure.trap(QueueFullError, CancelledError))
                    )
                except QueueFullError:
                    self.assertEqual(queue.waiting, 3)
            places = [place for place in places if not place.called]
            self.assertEqual(queue.waiting, len(places))
            self.assertLessEqual(queue.running, 2)
            self.assertTrue(queue.running == 2 or not queue.waiting)
