"""Tests of wsrelay.rooms.age."""

from twisted.trial.unittest import SynchronousTestCase

from wsrelay.rooms.age import Age


class AgeTests(SynchronousTestCase):
    """How old messages are."""

    def test_old(self) -> None:
        """What was there so many seconds ago is old, and stays it; what came later is not."""
        age = Age(10)
        self.assertEqual(age.old_before(100, 3), 0)
        self.assertEqual(age.old_before(105, 7), 0)
        self.assertEqual(age.old_before(110, 9), 3)
        self.assertEqual(age.old_before(115, 9), 7)
        self.assertEqual(age.old_before(200, 9), 9)
        self.assertEqual(age.old_before(200, 12), 9)

    def test_nothing_is_old_too_early(self) -> None:
        """A message is said to be old when it is, or a sixteenth of the time later, however often one asks."""
        age = Age(16)
        published = {}
        for tick in range(1000):
            now = tick / 4
            published[tick] = now
            old = age.old_before(now, tick + 1)
            ages = {offset: now - published[offset] for offset in published}
            self.assertTrue(all(ages[offset] >= 16 for offset in range(old)))
            self.assertTrue(all(ages[offset] < 17.5 for offset in range(old, tick)))

    def test_memory(self) -> None:
        """Asking often does not note more than a few times."""
        age = Age(86400)
        for tick in range(10_000):
            age.old_before(tick * 60, tick)
            self.assertLessEqual(len(age._marks), 17)
