"""Tests of wsrelay.rooms.cursors."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.harness.support import RecordingSubscriber
from wsrelay.rooms.cursors import Cursors


class CursorsTests(SynchronousTestCase):
    """Subscribers by offset."""

    def setUp(self) -> None:
        self.cursors = Cursors()
        self.a, self.b, self.c = (RecordingSubscriber(name) for name in "abc")

    def test_slowest_first(self) -> None:
        """Subscribers before an offset come sorted by cursor; one at the offset is not among them."""
        for subscriber, offset in ((self.a, 7), (self.b, 3), (self.c, 9)):
            self.cursors.put(subscriber, offset)

        self.assertEqual(self.cursors.slowest(99), 3)
        self.assertEqual(self.cursors.before(9), [self.b, self.a])
        self.assertEqual(self.cursors.before(3), [])
        self.assertEqual(
            (len(self.cursors), self.b in self.cursors, set(self.cursors)), (3, True, {self.a, self.b, self.c})
        )

    def test_slowest_but(self) -> None:
        """The slowest of the others counts; without any, the default."""
        for subscriber, offset in ((self.a, 3), (self.b, 3), (self.c, 9)):
            self.cursors.put(subscriber, offset)

        others = [{}, {3: 1}, {3: 2}, {3: 2, 9: 1}]
        self.assertEqual([self.cursors.slowest_but(some, 99) for some in others], [3, 3, 9, 99])

    def test_moving(self) -> None:
        """A subscriber has one cursor, the last one set."""
        self.cursors.put(self.a, 3)
        self.cursors.put(self.b, 3)
        self.cursors.put(self.a, 5)

        self.assertEqual((self.cursors.get(self.a), self.cursors.slowest(99)), (5, 3))
        self.assertEqual(self.cursors.pop(self.b), 3)
        self.assertEqual(self.cursors.slowest(99), 5)

    def test_empty(self) -> None:
        """Without subscribers there is no slowest one, and none to remove."""
        self.assertEqual((self.cursors.slowest(99), self.cursors.before(99)), (99, []))
        self.assertIs(self.cursors.pop(self.a), None)
        self.assertIs(self.cursors.get(self.a), None)
        self.assertFalse(self.cursors)

    @given(st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 5))))
    def test_against_a_dict(self, steps: list[tuple[int, int | None]]) -> None:
        """Any sequence of put and pop gives the same answers as a dict that is sorted each time."""
        cursors, model = Cursors(), dict[RecordingSubscriber, int]()
        subscribers = [RecordingSubscriber(str(number)) for number in range(10)]
        for number, offset in steps:
            if offset is None:
                self.assertEqual(cursors.pop(subscribers[number]), model.pop(subscribers[number], None))
            else:
                cursors.put(subscribers[number], offset)
                model[subscribers[number]] = offset
            self.assertEqual({one: cursors.get(one) for one in cursors}, model)
            self.assertEqual(cursors.slowest(99), min(model.values(), default=99))
            for bound in range(7):
                before = cursors.before(bound)
                self.assertEqual(set(before), {one for one, place in model.items() if place < bound})
                self.assertEqual([model[one] for one in before], sorted(model[one] for one in before))
